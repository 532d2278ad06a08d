"""A client's session: states, deadlines, and where it lives."""
