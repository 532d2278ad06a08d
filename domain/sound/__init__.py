"""Sound: formats, conversion, framing, levels, and what a packet of Opus says of itself."""
