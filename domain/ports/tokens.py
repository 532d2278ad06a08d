"""Ports for signed tokens: how they are written, and what is kept of those that were issued."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from domain.session.grants import Grant


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedGrant:
    """What an authentic token says."""

    grant: Grant
    is_own: bool
    """Whether this server has issued the token, and not another one that has a key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownToken:
    """What is kept of a token; never its text. Times are in seconds since 1970."""

    grant: Grant | None
    """None for a token of others, of which no more than its id is known."""
    id: str
    revoked_at: float | None = None
    used_at: float | None = None
    """When it opened its session, if it opens one only."""


class TokenSigner(Protocol):
    """Writes tokens, and reads those whose signature is right."""

    def needs_secret(self, text: str) -> bool:
        """Return whether the server's secret may have signed a token, as far as it says itself."""

    async def read(self, text: str, secret: bytes | None) -> SignedGrant | None:
        """Return what a token says, whatever the time is; None if it is not authentic.

        `secret` is the server's; None if it has none.
        """

    def sign(self, grant: Grant, secret: bytes) -> str:
        """Write a token of this server."""


class TokenRegister(Protocol):
    """Keeps what all nodes of a server have to know of tokens, also after a restart.

    What one node has written, the others read from then on. All methods raise `StorageFailed`.
    """

    async def secret(self) -> bytes | None:
        """Return the secret with which this server signs; None if it was not made yet."""

    async def make_secret(self) -> bytes:
        """Return the secret, and make it if there is none; all nodes get the same one."""

    async def add(self, grant: Grant, *, now: float) -> None:
        """Keep a token that is issued. Raises `StorageFull` if there are too many."""

    async def find(self, token_id: str) -> KnownToken | None:
        """Return what is known of a token."""

    async def page(self, *, limit: int, before: str | None) -> Sequence[KnownToken]:
        """Return tokens, the newest first: those that were added before the one with an id."""

    async def revoke(self, token_id: str, *, now: float) -> None:
        """Note that a token is revoked, also one of others that is not known yet."""

    async def use(self, grant: Grant, offer: str, *, now: float) -> bool:
        """Note which offer a token has opened a session with; return False if it was another one.

        Of several calls for one token, on any nodes, the first one wins.
        """

    async def unuse(self, grant: Grant, offer: str) -> None:
        """Take back what `use` has noted, if it was this offer."""

    def close(self) -> None:
        """Release the file."""
