"""Stores for recordings."""
