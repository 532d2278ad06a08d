"""The server's signed tokens: issues, checks and revokes them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

from domain.errors import GrantInvalid, NotAllowed, OfferRepeated, Unauthorized
from domain.ports.clock import Clock
from domain.ports.tokens import KnownToken, TokenRegister, TokenSigner
from domain.session.grants import MAX_EXPIRES_S, Grant
from domain.session.session import digest_of

REPEAT_S = 60.0
"""How long a token that opens one session only may send the same offer again: an answer that was
lost is given again for that long at most."""
MAX_REPEATS = 1000
_REVOKED = "this token has been revoked"
_EXPIRED = "this token has expired"
_USED = "this token has opened its session: it opens one only"


@dataclass(frozen=True, slots=True)
class Issued:
    """A token that was issued."""

    grant: Grant
    text: str = field(repr=False)
    """The token itself, which is kept nowhere."""


class TokenService:
    """Issues, checks and revokes tokens.

    What a token of this server allows is in the token itself. What changes later, whether it is
    revoked or used, is in the register, which all nodes of a server share. A token of this server
    that the register does not know is refused. One of others needs an end.
    """

    def __init__(
        self,
        signer: TokenSigner,
        register: TokenRegister,
        clock: Clock,
        *,
        new_id: Callable[[], str],
        secret: bytes | None = None,
    ) -> None:
        """`secret` signs the tokens of the server; the register makes one if there is none."""
        self._signer = signer
        self._register = register
        self._clock = clock
        self._new_id = new_id
        self._secret = secret
        self._opened: OrderedDict[str, tuple[str, float]] = OrderedDict()
        """Tokens that have opened their session here lately: with which offer, and when."""

    async def grant_of(self, text: str, *, may_be_over: bool = False) -> Grant | None:
        """Return what a token allows; None if it is not authentic.

        Raises `Unauthorized` if it is, but is revoked, or has expired unless it `may_be_over`.
        Raises `StorageFailed`.
        """
        if self._secret is None and self._signer.needs_secret(text):
            self._secret = await self._register.secret()
        signed = await self._signer.read(text, self._secret)
        if signed is None:
            return None
        grant = signed.grant
        if not signed.is_own and grant.expires_at is None:
            return None
        if not (may_be_over or grant.is_valid(now=self._now())):
            raise Unauthorized(_EXPIRED)
        known = await self._register.find(grant.id) if grant.id else None
        if signed.is_own and known is None:
            return None
        if known is not None and known.revoked_at is not None:
            raise Unauthorized(_REVOKED)
        return grant

    async def is_valid(self, grant: Grant) -> bool:
        """Return whether a token that was let in has neither expired nor been revoked since.

        Raises `StorageFailed`.
        """
        if not grant.is_valid(now=self._now()):
            return False
        known = await self._register.find(grant.id) if grant.id else None
        return known is None or known.revoked_at is None

    async def issue(self, wanted: Grant, *, expires_s: float | None) -> Issued:
        """Issue a token; its id and times are set here.

        Raises `GrantInvalid`, `StorageFull` or `StorageFailed`.
        """
        if expires_s is not None and not 0 < expires_s <= MAX_EXPIRES_S:
            raise GrantInvalid(f"a token expires after 1 to {MAX_EXPIRES_S:.0f} seconds")
        now = self._now()
        grant = replace(
            wanted,
            id=self._new_id(),
            issued_at=now,
            expires_at=None if expires_s is None else now + expires_s,
        )
        if self._secret is None:
            self._secret = await self._register.make_secret()
        await self._register.add(grant, now=now)
        return Issued(grant, self._signer.sign(grant, self._secret))

    async def page(self, *, limit: int, before: str | None) -> Sequence[KnownToken]:
        """Return tokens, the newest first. Raises `StorageFailed`."""
        return await self._register.page(limit=limit, before=before)

    async def revoke(self, token_id: str) -> None:
        """Revoke a token at once, on all nodes. Raises `StorageFailed`, `StorageFull`."""
        await self._register.revoke(token_id, now=self._now())

    @asynccontextmanager
    async def opening(self, grant: Grant | None, sdp: str) -> AsyncIterator[None]:
        """Open a session with a token within this block, and no second one with `once`.

        If the block fails, the token has opened nothing. If it is cancelled, the session may still
        be opened: its answer is made in the background. The same offer may be sent again: the
        sessions answer it with the same session. Raises `Unauthorized`, `NotAllowed` or
        `StorageFailed`.
        """
        if grant is not None and not grant.is_valid(now=self._now()):
            raise Unauthorized(_EXPIRED)
        if grant is None or not grant.once:
            yield
            return
        offer = digest_of(sdp)
        if not self._is_repeated(grant, offer):
            if not await self._register.use(grant, offer, now=self._now()):
                raise NotAllowed(_USED)
            self._remember(grant, offer)
        try:
            yield
        except OfferRepeated:
            raise
        except Exception:
            self._opened.pop(grant.id, None)
            await self._register.unuse(grant, offer)
            raise

    def _is_repeated(self, grant: Grant, offer: str) -> bool:
        """Whether the sessions of this node know an offer, and open no second session for it."""
        known, at = self._opened.get(grant.id, ("", 0.0))
        return known == offer and self._clock.monotonic() < at + REPEAT_S

    def _remember(self, grant: Grant, offer: str) -> None:
        self._opened[grant.id] = offer, self._clock.monotonic()
        if len(self._opened) > MAX_REPEATS:
            self._opened.popitem(last=False)

    def close(self) -> None:
        self._register.close()

    def _now(self) -> float:
        return self._clock.utc().timestamp()
