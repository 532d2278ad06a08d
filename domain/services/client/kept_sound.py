"""What a client captures is kept in a spool until the server has it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from domain.errors import ConnectionFailed, SessionOver, SpoolFailed
from domain.events.client import (
    SpoolEnded,
)
from domain.ports.clock import Clock, Spawner, Work
from domain.ports.events import EventPublisher
from domain.ports.restoring import RestoringClient
from domain.ports.spool import Spool, SpoolDescription, SpoolFolder, SpoolSession, SpoolWriter
from domain.recording.ledger import RestoreMode, RestoreState
from domain.recording.restoring import SpoolInfo
from domain.services.client.spool_sender import Delivered, SpoolSender
from domain.sound.formats import AudioFormat, AudioFrame


class KeptSound:
    """Keeps captured sound on disk, and brings it to the server.

    `write` is called in the source's thread, everything else on the event loop.
    """

    def __init__(
        self,
        *,
        spools: SpoolFolder,
        client: RestoringClient,
        sender: Callable[[Spool], SpoolSender],
        clock: Clock,
        spawner: Spawner,
        events: EventPublisher,
        random_hex: Callable[[int], str],
        name: str,
        room: str = "",
        server: str,
        mode: RestoreMode,
    ) -> None:
        self._spools = spools
        self._client = client
        self._new_sender = sender
        self._clock = clock
        self._spawner = spawner
        self._events = events
        self._random_hex = random_hex
        self._name = name
        self._room = room
        self._server = server
        self._mode = mode
        self._writer: SpoolWriter | None = None
        self._sender: SpoolSender | None = None
        self._noting: Work | None = None
        self._sending: Work | None = None
        self._has_ended = False
        self._is_finished = False
        self._is_removed = False
        self.kept_s: float | None = None
        """How much sound is kept, once `close` was called; None if nothing is kept."""

    @property
    def is_keeping(self) -> bool:
        """Whether what is captured now is kept."""
        writer = self._writer
        return writer is not None and writer.failure is None and not self._has_ended

    async def begin(self, captured: AudioFormat, *, rtp_timestamp: int) -> SpoolInfo | None:
        """Begin a spool for sound of this format; return what to tell the server of it.

        `rtp_timestamp` is as in `SpoolDescription`. Returns None, and says why, if no spool can be
        made.
        """
        started_at = self._clock.utc()
        description = SpoolDescription(
            id=f"{started_at:%Y%m%dT%H%M%SZ}-{self._random_hex(4)}",
            format=captured,
            started_at=started_at,
            name=self._name,
            room=self._room,
            server=self._server,
            rtp_timestamp=rtp_timestamp,
            mode=self._mode,
        )
        try:
            self._writer = await self._spools.create(description)
        except SpoolFailed as error:
            self._events.publish(SpoolEnded(str(error)))
            return None
        return SpoolInfo(rtp_timestamp, captured, self._mode, started_at)

    def write(self, block: AudioFrame) -> None:
        """Keep a block, unless the spool has ended."""
        assert self._writer is not None
        if self._has_ended:
            return
        kept = self._writer.spool.description.format
        problem: object = None
        if block.format == kept:
            self._writer.write(block)
            problem = self._writer.failure
        else:
            problem = f"the device is back with {block.format} instead of {kept}"
        if problem is not None:
            self._has_ended = True
            self._events.publish(SpoolEnded(str(problem)))

    def session_opened(self, session_id: str, resume: str) -> None:
        """Note whose recording gets the sound, and begin to send what it lacks."""
        assert self._writer is not None
        spool = self._writer.spool
        session = SpoolSession(self._server, session_id, resume)
        self._noting = self._spawner.spawn(
            self._note(spool, session, self._noting), name="note session"
        )
        if self._sender is None:
            self._sender = self._new_sender(spool)
            self._sending = self._spawner.spawn(
                self._send(self._sender, self._noting), name="send pieces"
            )

    async def deliver(self, *, is_confirmed: bool) -> Delivered | None:
        """Bring everything to the server, and remove the spool when the server has it.

        `is_confirmed` says that the server has confirmed the end of the live recording. Returns
        None if nothing was captured. Raises what `SpoolSender.finish` raises, and
        `ConnectionFailed` if there never was a session. The spool stays then.
        """
        assert self._writer is not None
        spool = self._writer.spool
        await self._finish()
        if not spool.length:
            return None
        if self._sender is None:
            raise ConnectionFailed("the server could not be reached")
        delivery = await self._sender.finish()
        state = RestoreState(delivery.state)
        if state is RestoreState.OFF and not is_confirmed:
            raise SessionOver("the session ended at the server, which does not restore recordings")
        if state is RestoreState.EXPIRED:
            raise SessionOver("the server has not waited for the rest of the recording")
        await self._remove(spool)
        return delivery

    async def close(self, *, discard: bool) -> None:
        """End everything; the spool stays, unless it is empty or `discard` is set."""
        try:
            await self._end(discard=discard)
        finally:
            await self._client.close()

    async def _end(self, *, discard: bool) -> None:
        if self._writer is None:
            return
        spool = self._writer.spool
        await self._finish()
        if not self._is_removed and (discard or not spool.length):
            await self._remove(spool)
        if not self._is_removed:
            self.kept_s = spool.length / spool.description.format.sample_rate_hz
            await spool.release()

    async def _finish(self) -> None:
        """Write what waits, and stop sending."""
        assert self._writer is not None
        if self._noting is not None:
            await self._noting
        if self._sending is not None:
            await self._sending.cancel()
        if not self._is_finished:
            self._is_finished = True
            await self._writer.finish()

    async def _remove(self, spool: Spool) -> None:
        self._is_removed = True
        with contextlib.suppress(SpoolFailed):  # a later run finds that nothing of it is wanted
            await spool.remove()

    async def _note(self, spool: Spool, session: SpoolSession, before: Work | None) -> None:
        if before is not None:
            await before
        with contextlib.suppress(SpoolFailed):  # only a later process would need it
            await spool.note_session(session)

    async def _send(self, sender: SpoolSender, noted: Work) -> None:
        await noted
        await sender.run()
