"""The outside world, one folder per port: each module translates one library."""
