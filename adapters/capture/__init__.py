"""Sources of sound: PortAudio (through PyAudio or sounddevice), a file, a test tone."""
