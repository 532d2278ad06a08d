"""The server: its sessions, and their tracks."""
