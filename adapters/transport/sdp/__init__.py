"""SDP (RFC 8866, RFC 8829): offers and answers."""
