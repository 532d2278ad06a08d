"""Services: they use the domain's rules and the ports to stream and to record."""
