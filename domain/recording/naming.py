"""Names of recordings: made by the server, sorted by time, safe as file names."""

from __future__ import annotations

import datetime
import re
import unicodedata

MAX_SLUG = 40


def slug(text: str) -> str:
    """At most `MAX_SLUG` of a-z, 0-9 and single hyphens; empty when nothing is left.

    Nothing else that a client sends gets near a file system.
    """
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:MAX_SLUG].strip("-")


def recording_name(*, started_at: datetime.datetime, client_name: str, session_id: str) -> str:
    """``20261122T101500123Z-kitchen-8f3a…``: UTC to the millisecond, slug, session id."""
    utc = started_at.astimezone(datetime.UTC)
    stamp = f"{utc:%Y%m%dT%H%M%S}{utc.microsecond // 1000:03d}Z"
    return "-".join(part for part in (stamp, slug(client_name), session_id) if part)
