"""Sends a server what it wants of a spool."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass

from domain.errors import (
    EndUnconfirmed,
    GaplessError,
    Refusal,
    ServerRefused,
    ServerUnreachable,
    SessionOver,
    SpoolFailed,
)
from domain.events.client import (
    PieceSent,
)
from domain.ports.clock import Clock, Spawner
from domain.ports.events import EventPublisher
from domain.ports.media import PathReport
from domain.ports.restoring import Confirmed, Pace, RestoringClient
from domain.ports.spool import Spool, SpoolSession
from domain.recording.ledger import RestoreState
from domain.recording.ranges import Range, RangeSet
from domain.recording.restoring import Captured
from domain.services.client.pacing import PathPacer
from domain.services.client.pieces import REQUEST_BYTES, PiecePlan
from domain.services.client.retrying import Retrying

ASK_S = 3.0
"""How often a server is asked what it wants while the session lives, at most."""
WATCH_S = 0.2
"""How often the path is looked at; the server reports twice a second."""
POLL_S = 0.5
"""How often a server is asked whether the recording is complete."""
PATIENCE_S = 60.0
"""How long a server may take to end the session, or to say something new of what it wants."""
IN_FLIGHT = 4
"""Requests at a time after the end. A path with a long round trip is then used for most of the
time, and a server with many clients is not kept from others by one of them."""

_LAST = {RestoreState.COMPLETE.value, RestoreState.EXPIRED.value, RestoreState.OFF.value}
"""States in which a server wants nothing any more."""


@dataclass(frozen=True, slots=True)
class Delivered:
    """What a server has said in the end."""

    state: str
    """`complete`, `expired` or `off`, as in `RestoreState`."""
    sha256: str
    """Of the PCM that was captured, with silence for what was not."""
    is_same: bool
    """Whether the PCM of the recording is the same, bit for bit."""
    captured_s: float
    """Length of what was captured."""


class SpoolSender:
    """Sends one spool: beside a live stream as its path allows, and the rest after the end.

    The spool's session is noted in it. `path` returns the latest report on the live stream's path.
    """

    def __init__(
        self,
        *,
        spool: Spool,
        client: RestoringClient,
        clock: Clock,
        spawner: Spawner,
        events: EventPublisher,
        random: Callable[[], float],
        path: Callable[[], PathReport | None] = lambda: None,
    ) -> None:
        self._spool = spool
        self._client = client
        self._clock = clock
        self._spawner = spawner
        self._events = events
        self._path = path
        self._rate_hz = spool.description.format.sample_rate_hz
        self._plan = PiecePlan(spool.description.format)
        self._retrying = Retrying(clock, random)
        self._pacer = PathPacer()

    async def run(self) -> None:
        """Send what is wanted while the session lives, as far as the live stream leaves room.

        Returns when nothing more can be sent, for a reason that `finish` tells.
        """
        async with self._watching_path():
            while True:
                asked_at = self._clock.monotonic()
                try:
                    await self._send_beside()
                except ServerUnreachable:
                    pass  # the uplink notices that, too
                except ServerRefused as error:
                    if error.refusal is Refusal.FINAL:
                        return
                except (SessionOver, SpoolFailed):
                    return
                await self._clock.sleep(max(0.0, asked_at + ASK_S - self._clock.monotonic()))

    async def finish(self, *, paced: bool = False) -> Delivered:
        """Send the rest, and wait until the server has it in the recording.

        Nothing is captured any more, and `run` has ended. If `paced`, the bytes are sent as in
        `run`, beside a live stream of another session. Raises `ServerUnreachable` or
        `ServerRefused` if repeating does not help for ten seconds, `SessionOver` if the server
        does not know the session any more, `EndUnconfirmed` if it says nothing new for a minute,
        and `SpoolFailed`.
        """
        if not paced:
            return await self._finish(None)
        async with self._watching_path():
            return await self._finish(self._pace)

    # -- beside a live stream ------------------------------------------------------------------

    async def _send_beside(self) -> None:
        if (session := self._spool.session) is None:
            return
        await self._pace(REQUEST_BYTES)
        wanted = await self._client.wanted(session.session_id, session.resume)
        for piece in self._plan.pieces(wanted.ranges, self._spool.captured):
            await self._put(session, piece, self._pace)

    @contextlib.asynccontextmanager
    async def _watching_path(self) -> AsyncIterator[None]:
        watching = self._spawner.spawn(self._watch_path(), name="watch path")
        try:
            yield
        finally:
            await watching.cancel()
            self._plan.limit = None

    async def _watch_path(self) -> None:
        while True:
            if (report := self._path()) is not None:
                self._pacer.reported(report)
            self._plan.limit = self._pacer.rate
            await self._clock.sleep(WATCH_S)

    async def _pace(self, size: int) -> None:
        """Wait until `size` bytes may be sent."""
        while (wait_s := self._pacer.wait_s(self._clock.monotonic())) > 0:
            await self._clock.sleep(min(wait_s, WATCH_S))
        self._pacer.granted(size, self._clock.monotonic())

    # -- after the end -------------------------------------------------------------------------

    async def _finish(self, pace: Pace | None) -> Delivered:
        session = self._spool.session
        assert session is not None
        captured, before = await self._captured(), None
        patient_until = self._clock.monotonic() + PATIENCE_S
        while True:
            confirmed = await self._confirm(session, captured, pace)
            if confirmed.state in _LAST:
                return self._delivered(captured, confirmed)
            is_news = bool(confirmed.ranges) and confirmed.ranges != before
            now = self._clock.monotonic()
            if is_news or confirmed.state == RestoreState.RESTORING.value:
                patient_until = now + PATIENCE_S
            elif now >= patient_until:
                raise EndUnconfirmed(_unchanged(confirmed))
            if not is_news:
                await self._clock.sleep(POLL_S)
            before = confirmed.ranges
            if await self._send(session, confirmed.ranges, pace):
                continue
            captured = await self._captured()  # some of it was found to be damaged

    async def _captured(self) -> Captured:
        spool = self._spool
        sha256 = await spool.sha256()
        length = spool.length
        missing = RangeSet([Range(0, length)]).minus(spool.captured)
        return Captured(length, sha256, tuple(missing))

    async def _confirm(
        self, session: SpoolSession, captured: Captured, pace: Pace | None
    ) -> Confirmed:
        async def request() -> Confirmed:
            return await self._client.captured(session.session_id, session.resume, captured)

        if pace is not None:
            await pace(REQUEST_BYTES)
        return await self._retrying.run(request)

    async def _send(
        self, session: SpoolSession, wanted: Sequence[Range], pace: Pace | None
    ) -> bool:
        """Send what is wanted; return False if some of it cannot be read any more."""
        captured = self._spool.captured
        pieces = self._plan.pieces(wanted, captured)
        try:
            if pace is None:
                await self._send_at_once(session, pieces)
            else:
                for piece in pieces:
                    await self._persist(session, piece, pace)
        except SpoolFailed:
            if self._spool.captured == captured:
                raise
            return False
        return True

    async def _send_at_once(self, session: SpoolSession, pieces: Iterator[Range]) -> None:
        """Send pieces, several at a time; the first error ends that."""
        errors: list[GaplessError] = []

        async def send() -> None:
            try:
                for piece in pieces:
                    if errors:
                        return
                    await self._persist(session, piece, None)
            except GaplessError as error:
                errors.append(error)

        works = [self._spawner.spawn(send(), name="send pieces") for _ in range(IN_FLIGHT)]
        try:
            for work in works:
                await work
        finally:
            for work in works:
                await work.cancel()
        if errors:
            raise errors[0]

    def _delivered(self, captured: Captured, confirmed: Confirmed) -> Delivered:
        missing = sum(item.length for item in captured.missing)
        return Delivered(
            state=confirmed.state,
            sha256=captured.sha256,
            is_same=confirmed.sha256 == captured.sha256,
            captured_s=(captured.length - missing) / self._rate_hz,
        )

    # -- pieces --------------------------------------------------------------------------------

    async def _persist(self, session: SpoolSession, piece: Range, pace: Pace | None) -> None:
        """Send a piece, and again if the network was away."""
        await self._retrying.run(lambda: self._put(session, piece, pace))

    async def _put(self, session: SpoolSession, piece: Range, pace: Pace | None) -> None:
        flac = await self._spool.flac(piece.start, piece.length)
        if pace is not None:
            await pace(REQUEST_BYTES)
        began = self._clock.monotonic()
        try:
            await self._client.put(session.session_id, session.resume, piece.start, flac, pace)
        except ServerUnreachable:
            self._plan.failed()
            raise
        seconds = self._clock.monotonic() - began if pace is None else None
        self._plan.sent(piece.length, len(flac), seconds)
        length = self._spool.length
        self._events.publish(
            PieceSent(piece.end / self._rate_hz, length / self._rate_hz, len(flac))
        )


def _unchanged(confirmed: Confirmed) -> str:
    if confirmed.state == RestoreState.LIVE.value:
        return "the server has not ended the session"
    return "the server does not accept what it wants of the sound"
