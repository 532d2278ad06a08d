"""Mutation testing: puts small mistakes into the code and checks that a test fails."""
