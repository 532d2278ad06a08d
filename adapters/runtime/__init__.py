"""Adapters for the clock and for background work on the event loop."""
