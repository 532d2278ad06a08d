"""What the server does with sessions and tracks."""
