"""Ogg Opus files (RFC 3533, RFC 7845)."""
