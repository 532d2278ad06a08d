"""The client: streams a source of sound over an uplink."""
