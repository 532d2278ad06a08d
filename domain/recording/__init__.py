"""One recording: reconstruction, timeline, ledger, and whether it is sound."""
