"""The clock and the event loop."""
