"""Fuzzing of everything that parses bytes from peers, clients or disks. `make fuzz` runs it."""
