"""Sound: formats, conversion, framing, levels, decoders, and the headers of Opus packets."""
