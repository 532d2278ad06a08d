"""Fingerprints of certificates: SHA-256 digests, as people read and copy them."""

from __future__ import annotations

DIGEST_BYTES = 32


def fingerprint_text(digest: bytes) -> str:
    """Write a digest as ``AA:BB:…``."""
    return digest.hex(":").upper()


def parse_fingerprint(text: str) -> bytes:
    """Read a SHA-256 digest in hexadecimal digits, with or without colons and spaces.

    Raises `ValueError`.
    """
    digits = "".join(text.replace(":", " ").split())
    try:
        digest = bytes.fromhex(digits)
    except ValueError:
        digest = b""
    if len(digest) != DIGEST_BYTES:
        raise ValueError(f"{text!r} is not a SHA-256 fingerprint: {DIGEST_BYTES} bytes as AA:BB:…")
    return digest
