"""Rules for sound, streams and recordings: pure, without I/O, clocks or threads."""
