"""Fuzzing: what a stranger, a network or a damaged disk can feed us. `make fuzz` runs it."""
