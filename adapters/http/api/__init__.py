"""The API: what programs, pages and the command line learn of a server, and ask of it."""
