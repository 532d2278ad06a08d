"""One attempt of a client to open its session, or to restore the connection of it."""

from __future__ import annotations

from domain.errors import (
    ConnectionFailed,
    GaplessError,
    ServerRefused,
    ServerUnreachable,
)
from domain.ports.signaling import ClientConnection, ClientTransport, SignalingClient
from domain.recording.restoring import SpoolInfo
from domain.services.client.retrying import is_temporary
from domain.session.ice import IceCandidate, IceDescription


class Attempt:
    """One attempt to (re)connect: it ends with either a `connection` or an `error`."""

    def __init__(
        self,
        transport: ClientTransport,
        signaling: SignalingClient,
        *,
        name: str,
        room: str,
        resume: str | None,
        spool: SpoolInfo | None,
    ) -> None:
        self._transport = transport
        self._signaling = signaling
        self._name = name
        self._room = room
        self._spool = spool
        self.resume = resume
        self.session_id = ""
        self.connection: ClientConnection | None = None
        self.error: GaplessError | None = None
        self.was_restart_answered = False
        """Whether the server has answered an ICE restart."""
        self.is_restarting = False
        """Whether both ends are switching to another path."""

    async def run(self, lost: ClientConnection | None = None) -> None:
        """Restart ICE on the `lost` connection, if given; otherwise, or if that fails, connect."""
        try:
            if lost is None or not await self._restart(lost):
                await self._connect()
        except GaplessError as error:
            self.error = error

    async def _restart(self, lost: ClientConnection) -> bool:
        """Restart ICE; return False if a new connection should be attempted instead."""

        async def exchange(local: IceDescription) -> IceDescription:
            assert self.resume is not None
            remote = await self._signaling.restart_ice(self.resume, local, ice_tag=lost.ice_tag)
            self.is_restarting = True
            return remote

        try:
            await lost.restart_ice(exchange)
        except GaplessError as error:
            if isinstance(error, ServerUnreachable) and is_temporary(error):
                raise  # a new connection could not reach the server either
            self.was_restart_answered = True
            return False
        finally:
            self.is_restarting = False
        self.connection = lost
        return True

    async def _connect(self) -> None:
        connection = self._transport.open()
        try:
            answer = await self._signaling.offer(
                connection.offer_sdp,
                name=self._name,
                room=self._room,
                resume=self.resume,
                spool=self._spool,
            )
            self.session_id, self.resume = answer.session_id, answer.resume

            async def send_candidate(candidate: IceCandidate) -> None:
                try:
                    await self._signaling.send_candidate(answer.session_id, candidate)
                except ServerRefused as error:
                    # another process may own the session by now; the next offer finds it
                    raise ConnectionFailed(
                        f"the server rejected an ICE candidate: {error}"
                    ) from error

            await connection.connect(
                answer.sdp, ice_servers=answer.ice_servers, send_candidate=send_candidate
            )
            self.connection = connection
        finally:
            if self.connection is None:
                await connection.close(tell_server=False)
