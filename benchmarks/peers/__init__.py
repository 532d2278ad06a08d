"""Other recorders, as servers that a generator can send to."""
