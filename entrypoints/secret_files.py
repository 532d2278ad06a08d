"""Reads secrets from files, as a service manager or a container hands them over."""

from __future__ import annotations

import pathlib

from adapters.opening import read_found

MAX_BYTES = 16 * 1024


def read_secret(path: str) -> str:
    """Return the first line of a file, without the space around it.

    Links are followed. Raises `ValueError`, whose message says nothing of what is in the file.
    """
    try:
        content = read_found(pathlib.Path(path).expanduser(), MAX_BYTES, follow=True)
    except (OSError, RuntimeError) as error:  # the home folder may be unknown
        reason = error.strerror if isinstance(error, OSError) else None
        raise ValueError(f"cannot read {path}: {reason or error}") from error
    try:
        first, *_ = content.decode().splitlines() or [""]
    except UnicodeDecodeError:
        raise ValueError(f"cannot read {path}: it is not text in UTF-8") from None
    secret = first.strip()
    if not secret:
        raise ValueError(f"the first line of {path} is empty")
    return secret
