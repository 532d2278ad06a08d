"""Events on their way to subscribers."""
