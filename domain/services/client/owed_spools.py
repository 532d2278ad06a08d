"""Delivers the spools that earlier runs have left."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence

from domain.errors import GaplessError, ServerRefused, ServerUnreachable, SessionOver, SpoolFailed
from domain.events.client import (
    OwedSpoolDelivered,
    OwedSpoolFound,
    OwedSpoolKept,
)
from domain.ports.clock import Clock, Spawner
from domain.ports.events import EventPublisher
from domain.ports.media import PathReport
from domain.ports.restoring import RestoringClient
from domain.ports.signaling import ClientTransport, SignalingClient
from domain.ports.spool import Spool, SpoolFolder, SpoolSession
from domain.recording.ledger import RestoreState
from domain.recording.restoring import SpoolInfo
from domain.services.client.retrying import Retrying, is_temporary
from domain.services.client.spool_sender import Delivered, SpoolSender


class OwedSpools:
    """Delivers spools to one server.

    The session of a killed client may still be open: it is ended first, and its recording gets what
    it lacks. If the server does not know the session any more, or there never was one, a new
    session is opened, without media: its recording consists of what was captured.
    """

    def __init__(
        self,
        *,
        server: str,
        transport: ClientTransport,
        signaling: SignalingClient,
        client: RestoringClient,
        clock: Clock,
        spawner: Spawner,
        events: EventPublisher,
        random: Callable[[], float],
        path: Callable[[], PathReport | None] | None = None,
    ) -> None:
        """`path` is that of a live stream beside which spools are sent, if there is one."""
        self._server = server
        self._transport = transport
        self._signaling = signaling
        self._client = client
        self._clock = clock
        self._spawner = spawner
        self._events = events
        self._random = random
        self._path = path
        self._retrying = Retrying(clock, random)

    async def deliver_from(self, folder: SpoolFolder, *, paced: bool) -> None:
        """Deliver the spools of a folder that are owed to this server, as `deliver` does.

        If `paced`, they leave the path to the live stream. A folder that cannot be read has none.
        """
        with contextlib.suppress(SpoolFailed):
            mine = []
            for spool in await folder.owed():
                session = spool.session
                server = spool.description.server if session is None else session.server
                if server == self._server:
                    mine.append(spool)
                else:
                    await spool.release()
            await self.deliver(mine, paced=paced)

    async def deliver(self, spools: Sequence[Spool], *, paced: bool = False) -> bool:
        """Deliver spools one after another; return whether all of them are delivered.

        Each is removed or released in the end, also if this is cancelled. Connections are released.
        """
        left, unreachable = list(spools), None
        is_complete = True
        try:
            while left:
                reason = unreachable or await self._try_to_deliver(left[0], paced=paced)
                if isinstance(reason, ServerUnreachable):
                    unreachable = reason  # it is the same server for the others
                if reason is not None:
                    is_complete = False
                    self._events.publish(OwedSpoolKept(left[0].description.id, str(reason)))
                await left.pop(0).release()
        finally:
            for spool in left:
                await spool.release()
            await self._client.close()
            await self._signaling.close()
        return is_complete

    async def _try_to_deliver(self, spool: Spool, *, paced: bool) -> GaplessError | None:
        """Deliver a spool and remove it; return why that is not possible, if it is not."""
        description = spool.description
        captured_s = spool.captured.total / description.format.sample_rate_hz
        self._events.publish(
            OwedSpoolFound(description.id, description.name, captured_s, self._server)
        )
        try:
            delivered = await self._deliver(spool, paced=paced)
            if delivered.state != RestoreState.COMPLETE.value:
                return SpoolFailed("the server does not restore recordings")
            await spool.remove()
        except GaplessError as error:
            return error
        self._events.publish(
            OwedSpoolDelivered(
                description.id, delivered.captured_s, delivered.sha256, delivered.is_same
            )
        )
        return None

    async def _deliver(self, spool: Spool, *, paced: bool) -> Delivered:
        if (session := spool.session) is not None:
            with contextlib.suppress(SessionOver):
                await self._end(session)
                delivered = await self._send(spool, paced=paced)
                if delivered.state != RestoreState.EXPIRED.value:
                    return delivered
        await self._end(await self._open(spool))
        return await self._send(spool, paced=paced)

    async def _open(self, spool: Spool) -> SpoolSession:
        """Open a session for a spool, and note it, so that a next try does not open another one."""
        description = spool.description
        info = SpoolInfo(
            description.rtp_timestamp, description.format, description.mode, description.started_at
        )
        connection = self._transport.open()
        try:
            answer = await self._retrying.run(
                lambda: self._signaling.offer(
                    connection.offer_sdp,
                    name=description.name,
                    room=description.room,
                    spool=info,
                )
            )
        finally:
            await connection.close(tell_server=False)
        session = SpoolSession(self._server, answer.session_id, answer.resume)
        await spool.note_session(session)
        return session

    async def _end(self, session: SpoolSession) -> None:
        try:
            await self._retrying.run(
                lambda: self._signaling.delete(session.session_id, resume=session.resume)
            )
        except ServerRefused as error:
            if is_temporary(error):
                raise
            # its live recording has failed: the server may still want what was captured

    async def _send(self, spool: Spool, *, paced: bool) -> Delivered:
        sender = SpoolSender(
            spool=spool,
            client=self._client,
            clock=self._clock,
            spawner=self._spawner,
            events=self._events,
            random=self._random,
            path=self._path or (lambda: None),
        )
        return await sender.finish(paced=paced)
