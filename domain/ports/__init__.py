"""Ports: small protocols for what the domain needs from outside."""
