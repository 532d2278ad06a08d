"""Creates short-lived credentials for TURN servers that share a secret with this server.

Follows draft-uberti-behave-turn-rest, which coturn calls ``use-auth-secret``: the user name
contains its expiry time, and the password is an HMAC of the user name.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from domain.session.ice import IceServer


def with_credentials(
    servers: Iterable[IceServer], *, secret: str | None, name: str, until: datetime.datetime
) -> tuple[IceServer, ...]:
    """Add credentials to every TURN server that has none; other servers stay as they are.

    `name` identifies the client in the TURN server's log.
    """
    return tuple(
        _with(server, secret, name, until)
        if secret is not None and server.is_turn and server.username is None
        else server
        for server in servers
    )


def _with(server: IceServer, secret: str, name: str, until: datetime.datetime) -> IceServer:
    username = f"{int(until.timestamp())}:{name}"
    digest = hmac.digest(secret.encode(), username.encode(), hashlib.sha1)
    return replace(server, username=username, credential=base64.b64encode(digest).decode())


@dataclass(frozen=True, slots=True, kw_only=True)
class IceServerList:
    """The STUN and TURN servers that a server and its clients use."""

    servers: tuple[IceServer, ...] = ()
    turn_secret: str | None = field(default=None, repr=False)
    """Secret shared with the TURN servers; without it they get no credentials."""
    turn_ttl_s: float = 43_200.0
    """How long credentials are valid."""

    def for_session(self, session_id: str, *, now: datetime.datetime) -> tuple[IceServer, ...]:
        """Return the servers; their TURN credentials expire `turn_ttl_s` after `now` (UTC)."""
        return with_credentials(
            self.servers,
            secret=self.turn_secret,
            name=session_id,
            until=now + datetime.timedelta(seconds=self.turn_ttl_s),
        )
