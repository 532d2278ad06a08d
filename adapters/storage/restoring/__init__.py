"""What clients have captured, kept beside the recordings until it is in them."""
