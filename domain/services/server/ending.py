"""The end of a session: its recordings are completed, then its connections are closed."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Coroutine, Sequence
from typing import Any

from domain.events.server import RecordingCompleted
from domain.ports.clock import Clock, Spawner
from domain.ports.events import EventPublisher
from domain.ports.signaling import ServerConnection
from domain.recording.effects import EndReason
from domain.services.server.delivery import Delivery
from domain.services.server.live_session import LiveSession
from domain.services.server.outcomes import Outcome


class Ending:
    """Ends sessions that accept no more packets."""

    def __init__(
        self, clock: Clock, spawner: Spawner, events: EventPublisher, delivery: Delivery
    ) -> None:
        self._clock = clock
        self._spawner = spawner
        self._events = events
        self._delivery = delivery

    async def drain(self, lives: Sequence[LiveSession]) -> None:
        """Wait until packets in flight have arrived."""
        connections = [item.connection for live in lives for item in live.connections]
        await self._all([connection.drain() for connection in connections], name="drain")

    async def end(self, live: LiveSession, reason: EndReason, detail: str | None) -> Outcome:
        """Complete the recordings and close the connections; publish what became of each."""
        now = self._clock.monotonic()
        limit = detail if reason is EndReason.LIMIT else None
        outcome = Outcome(live.session.resume_digest, limit=limit)
        await self._all(
            [
                self._end_track(live, number, reason, now=now, outcome=outcome)
                for number in range(1, len(live.tracks) + 1)
            ],
            name="end track",
        )
        await self._all([item.connection.close() for item in live.connections], name="close")
        return outcome

    async def _end_track(
        self, live: LiveSession, number: int, reason: EndReason, *, now: float, outcome: Outcome
    ) -> None:
        track = live.tracks[number - 1]
        try:
            completed = await track.end(reason, now=now)
            if completed is not None:
                outcome.seconds = max(outcome.seconds, completed.seconds)
                self._events.publish(RecordingCompleted(live.session.id, number, completed))
            error: Exception | None = track.failure
        except Exception as raised:
            error = raised
        if error is not None:
            outcome.failure = outcome.failure or error
            self._delivery.apply(live, live.failed(number, error))

    async def _all(self, work: Sequence[Coroutine[Any, Any, None]], *, name: str) -> None:
        """Do work concurrently and wait for its end; the spawner logs failures."""
        for started in [self._spawner.spawn(item, name=name) for item in work]:
            with contextlib.suppress(Exception):
                await started


@contextlib.asynccontextmanager
async def closed_on_error(connection: ServerConnection) -> AsyncIterator[None]:
    """Close a connection that no session owns yet if the block fails."""
    try:
        yield
    except BaseException:
        await connection.close()
        raise
