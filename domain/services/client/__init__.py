"""What the client does with a source of sound."""
