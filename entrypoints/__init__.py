"""Puts everything together: settings, builders, container, commands."""
