"""Finds the process in which a session lives."""
