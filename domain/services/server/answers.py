"""Remembers answers, so that an offer that is sent again gets the same answer."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

from domain.errors import OfferRepeated
from domain.ports.clock import Clock, Spawner
from domain.session.addresses import network_of
from domain.session.caller import Caller
from domain.session.ice import IceServer

MAX_REMEMBERED = 10_000
"""Offers whose answers are not given again; if there are more, the oldest are forgotten."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """An offer that was answered."""

    session_id: str
    resume: str = field(repr=False)
    """The secret that opens the session: to resume, change or end it."""
    answer_sdp: str = field(repr=False)
    ice_tag: str
    """Names the ICE session of the answer."""
    ice_servers: Sequence[IceServer]
    """STUN and TURN servers for the client."""


class Answers:
    """Answers by the digests of their offers.

    A client whose answer was lost sends its offer again at once, and gets the same answer. It holds
    the secret of the session, so that nobody else gets it, and nobody later: an answer is given to
    one caller, for `valid_s`, as long as its connection exists. After that the offer opens nothing.
    """

    def __init__(self, clock: Clock, spawner: Spawner, *, valid_s: float) -> None:
        self._clock = clock
        self._spawner = spawner
        self._valid_s = valid_s
        self._answers: dict[str, _Answer] = {}
        self._spent: OrderedDict[str, None] = OrderedDict()

    async def get(
        self, offer: str, caller: Caller, answer: Callable[[], Coroutine[Any, Any, Accepted]]
    ) -> Accepted:
        """Return the answer to an offer; `answer` makes it the first time. Raises its errors.

        `answer` runs in the background, so that a client that gives up waiting can ask again.
        Raises `OfferRepeated`.
        """
        self._expire()
        if offer in self._spent:
            raise OfferRepeated("this offer was answered before: make a new one")
        known = self._answers.get(offer)
        if known is None:
            until = self._clock.monotonic() + self._valid_s
            known = self._answers[offer] = _Answer(caller, until)
            known.work = self._spawner.spawn(self._make(offer, known, answer), name="answer offer")
        elif not known.is_for(caller):
            raise OfferRepeated("this offer was answered to another client: make a new one")
        if known.work is not None:
            await known.work
        if known.error is not None:
            try:
                raise known.error
            finally:
                del known  # its error has this frame in its traceback
        assert known.accepted is not None
        return known.accepted

    def forget(self, offer: str) -> None:
        """Forget an answer: if its offer is sent again, it opens nothing."""
        if self._answers.pop(offer, None) is not None:
            self._spend(offer)

    async def _make(
        self,
        offer: str,
        known: _Answer,
        answer: Callable[[], Coroutine[Any, Any, Accepted]],
    ) -> None:
        try:
            known.accepted = await answer()
        except Exception as error:
            known.error = error.with_traceback(None)  # which has this frame
            self._answers.pop(offer, None)
        finally:
            known.work = None  # keep the answer, but release the work

    def _expire(self) -> None:
        """Forget answers that are given to nobody any more."""
        now = self._clock.monotonic()
        for offer, known in list(self._answers.items()):
            if now >= known.until and known.work is None:
                self.forget(offer)

    def _spend(self, offer: str) -> None:
        self._spent[offer] = None
        if len(self._spent) > MAX_REMEMBERED:
            self._spent.popitem(last=False)


@dataclass(slots=True, eq=False)
class _Answer:
    caller: Caller
    until: float
    """When it is given to nobody any more, in monotonic seconds."""
    work: Awaitable[None] | None = None
    """The work that makes the answer; None once there is an answer or an error."""
    accepted: Accepted | None = None
    error: Exception | None = None

    def is_for(self, caller: Caller) -> bool:
        """Whether a caller is the one that made the offer; its IPv6 address may change."""
        own = self.caller
        return (own.token, network_of(own.address)) == (caller.token, network_of(caller.address))
