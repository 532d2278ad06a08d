"""DTLS (RFC 6347) and what it protects."""
