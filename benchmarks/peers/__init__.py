"""Other recorders and clients, with the interface that the benchmark expects."""
