"""UDP sockets: reading and writing datagrams."""
