"""Where sessions live: in one process, or in one of several."""
