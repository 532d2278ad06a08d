"""What the program does, in terms of the ports."""
