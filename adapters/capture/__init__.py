"""Sources of sound: PortAudio twice, a file, a tone."""
