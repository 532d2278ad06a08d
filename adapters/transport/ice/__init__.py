"""ICE (RFC 8445): candidates, checks, consent, restarts."""
