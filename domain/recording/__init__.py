"""One recording: reconstruction, timeline, ledger and verification."""
