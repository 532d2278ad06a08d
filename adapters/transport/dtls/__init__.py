"""DTLS (RFC 6347): the handshake, and the keys for SRTP."""
