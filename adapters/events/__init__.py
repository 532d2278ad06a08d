"""Delivers events to subscribers."""
