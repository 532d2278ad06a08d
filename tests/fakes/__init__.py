"""Fakes of ports that follow a script, without sockets, clocks or sleeping."""
