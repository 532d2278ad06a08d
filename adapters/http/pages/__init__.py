"""The pages of the server: for who speaks, and for who records."""
