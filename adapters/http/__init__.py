"""HTTP: the server, and the client's signaling."""
