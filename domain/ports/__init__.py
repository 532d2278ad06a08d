"""What the domain needs from outside: small protocols, each with what happens at its edges."""
