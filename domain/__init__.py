"""What Gapless knows about sound, streams and recordings: pure, without I/O, clocks or threads."""
