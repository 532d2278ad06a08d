"""HTTP, both sides."""
