"""Signed tokens: PyJWT, the keys of others, and the file that knows the tokens of a server."""
