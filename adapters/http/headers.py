"""Header names that are Gapless' own."""

SECONDS = "Gapless-Seconds"
"""The length of a complete recording, in the answer to the request that ends its session."""
