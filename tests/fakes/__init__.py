"""Small stand-ins for ports, each with a script: no sockets, no clocks, no sleeping."""
