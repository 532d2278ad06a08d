"""Who sends a request."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sends a request, as far as the server knows."""

    address: str = ""
    """The IP address that the request comes from; empty if it is not known."""
    token: str = ""
    """The name of the token that the request has, such as ``token``; empty without one. It is never
    the token itself."""


UNKNOWN = Caller()
SESSION_SECRET = "the session's secret"  # noqa: S105 (it is a name)
"""Takes the place of a token's name where a session's own secret was enough."""
