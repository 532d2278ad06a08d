"""The client's way to the server, kept through whatever becomes of the network."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from domain.errors import (
    ConnectionFailed,
    EndUnconfirmed,
    GaplessError,
    ServerRefused,
    ServerUnreachable,
    SessionOver,
    WrongServer,
)
from domain.events import RetryScheduled, StreamConnected, StreamInterrupted, StreamResumed
from domain.ports.clock import Clock, Spawner, Work
from domain.ports.events import EventPublisher
from domain.ports.signaling import ClientConnection, ClientTransport, SignalingClient
from domain.rtp.counters import signed
from domain.rtp.packets import RtpPacket
from domain.session.backoff import Backoff
from domain.session.ice import IceCandidate, IceDescription

DEAD_AFTER_S = 2.5
"""Unheard of for so long, the server cannot be reached any more: it reports twice a second."""
WATCH_S = 0.25
"""A connection that works is looked at so often."""
POLL_S = 0.1
"""The same for one that is waited for."""
ATTEMPT_S = 5.0
"""An attempt to come back that takes longer is given up for another one,"""
LONGEST_ATTEMPT_S = 20.0
"""which is given twice the time: there are paths that work, and are slow."""
CONFIRM_S = 1.5
"""At the end, wait so long until the server has said that it has the last packet."""
_PASSING = (408, 425, 429, 500, 502, 503, 504, 507)
"""Statuses of a server that is busy, full or behind a gateway: it may be better in a while."""
END_S = 10.0
"""At the end, try for so long to ask the server whether the recording is complete."""


class Uplink:
    """One session on a server, over as many connections as it takes.

    `send` never waits and never fails; it may be called in another thread than all else. Once the
    server is not heard of any more, the old connection is kept (its path may come back by itself)
    while it looks for another path with an ICE restart, and new ones are attempted; whichever
    works first carries on. Only a refusal ends that: `failure` then says what it was.
    """

    def __init__(
        self,
        *,
        transport: ClientTransport,
        signaling: SignalingClient,
        clock: Clock,
        spawner: Spawner,
        events: EventPublisher,
        random: Callable[[], float],
        name: str,
    ) -> None:
        self._transport = transport
        self._signaling = signaling
        self._clock = clock
        self._spawner = spawner
        self._events = events
        self._name = name
        self._backoff = Backoff(random)
        self._connection: ClientConnection | None = None
        self._watch: Work | None = None
        self._resume: str | None = None
        self._last_sequence: int | None = None
        self._reported: int | None = None
        self._unreported_since: float | None = None  # a packet was sent, and no report moved on
        # of this outage:
        self._attempt_s = ATTEMPT_S
        self._may_restart = False
        self._was_restart_answered = False
        self.session_id = ""
        self.failure: GaplessError | None = None
        """The refusal that ended the session."""

    async def open(self) -> bool:
        """Try once to make the session; False, after a pause, when that is worth another try.

        Raises `ServerRefused`.
        """
        attempt = _Attempt(self._transport, self._signaling, self._name, None)
        await attempt.run()
        if attempt.error is not None:
            if attempt.session_id:
                await self._forget(attempt.session_id)
            if not _is_passing(attempt.error):
                raise attempt.error
            delay = self._backoff.next_delay_s()
            self._events.publish(RetryScheduled(str(attempt.error), delay))
            await self._clock.sleep(delay)
            return False
        self._take(attempt)
        self._events.publish(StreamConnected(self.session_id))
        self._watch = self._spawner.spawn(self._keep(), name="watch connection")
        return True

    def send(self, packet: RtpPacket) -> None:
        """Send a packet, as far as there is a way."""
        self._last_sequence = packet.sequence
        if self._unreported_since is None:
            self._unreported_since = self._clock.monotonic()
        if self._connection is not None:
            self._connection.send(packet)

    async def close(self) -> float | None:
        """End the session and wait for its recording: its seconds, where the server told them.

        Raises `ServerRefused` when the recording failed, `EndUnconfirmed` when the server cannot
        be asked.
        """
        if self._watch is not None:
            await self._watch.cancel()
        if (connection := self._connection) is not None:
            await self._confirm(connection)
            await connection.close()
            self._connection = None
        if not self.session_id or self.failure is not None:
            return None
        return await self._end()

    async def abandon(self) -> None:
        """Release everything, whatever is still under way. May follow `close`."""
        if self._watch is not None:
            await self._watch.cancel()
        if self._connection is not None:
            await self._connection.close()
        await self._signaling.close()

    # -- while it lasts ------------------------------------------------------------------------

    async def _keep(self) -> None:
        while self.failure is None:
            await self._clock.sleep(WATCH_S)
            self._look()
            if self._is_alive():
                continue
            if self._connection is not None and self._connection.is_closed_by_server:
                self.failure = SessionOver("the server closed the connection: the session is over")
                continue
            self._events.publish(StreamInterrupted())
            lost_at = self._clock.monotonic()
            self._backoff.reset()
            self._attempt_s = ATTEMPT_S
            self._may_restart, self._was_restart_answered = True, False
            while self.failure is None and not self._is_alive():
                await self._come_back()
            if self.failure is None:
                self._events.publish(StreamResumed(self._clock.monotonic() - lost_at))

    async def _come_back(self) -> None:
        """Try once to find another way, unless the old one comes back; pause if there is none."""
        old = self._connection
        assert old is not None
        attempt = _Attempt(self._transport, self._signaling, self._name, self._resume)
        lost = old if self._may_restart and old.is_open else None
        work = self._spawner.spawn(attempt.run(lost), name="reconnect")

        def is_decided() -> bool:
            # ends of an ICE restart that is broken off half-way may differ in where they are
            return work.done or (self._is_alive() and not attempt.is_restarting)

        try:
            if not await self._wait(self._attempt_s, is_decided):
                attempt.error = ConnectionFailed(f"no media path within {self._attempt_s:g} s")
                self._attempt_s = min(2 * self._attempt_s, LONGEST_ATTEMPT_S)
            await work.cancel()
        except BaseException:
            await work.cancel()
            if attempt.connection not in (None, old):
                await attempt.connection.close(tell_server=False)
            raise
        self._was_restart_answered |= attempt.was_restart_answered
        # never twice in a row: something on the way may swallow just these requests
        self._may_restart = lost is None and not self._was_restart_answered
        if attempt.connection is old:
            self._reported, self._unreported_since = None, None
        elif attempt.connection is not None:
            self._take(attempt)
            # no goodbye: should it arrive, it would come from a session that goes on
            await old.close(tell_server=False)
        elif self._is_alive():
            return
        elif attempt.error is not None and _is_final(attempt.error):
            self.failure = attempt.error
        else:
            delay = self._backoff.next_delay_s()
            self._events.publish(RetryScheduled(str(attempt.error), delay))
            await self._wait(delay, self._is_alive)

    def _look(self) -> None:
        """Whether what is sent arrives: the server says how far it has come."""
        assert self._connection is not None
        reported = self._connection.highest_reported
        if reported != self._reported or reported == self._last_sequence:
            self._reported, self._unreported_since = reported, None

    def _is_alive(self) -> bool:
        connection = self._connection
        assert connection is not None
        now = self._clock.monotonic()
        is_heard = now - connection.heard_at < DEAD_AFTER_S
        since = self._unreported_since
        is_arriving = since is None or now - since < DEAD_AFTER_S
        return connection.is_open and is_heard and is_arriving

    async def _wait(self, seconds: float, condition: Callable[[], bool]) -> bool:
        """Wait until the condition holds, at most so long; whether it does."""
        until = self._clock.monotonic() + seconds
        while not condition():
            if self._connection is not None:
                self._look()
            if self._clock.monotonic() >= until:
                return False
            await self._clock.sleep(POLL_S)
        return True

    def _take(self, attempt: _Attempt) -> None:
        self._connection = attempt.connection
        self._reported, self._unreported_since = None, None
        self.session_id, self._resume = attempt.session_id, attempt.resume

    # -- the end -------------------------------------------------------------------------------

    async def _confirm(self, connection: ClientConnection) -> None:
        """Wait until the server has the last packet, if it can still be heard of."""

        def has_all() -> bool:
            reported, last = connection.highest_reported, self._last_sequence
            if last is None or not connection.is_open:
                return True
            return reported is not None and signed(reported - last, bits=16) >= 0

        silent_s = self._clock.monotonic() - connection.heard_at
        if silent_s < DEAD_AFTER_S:
            await self._wait(CONFIRM_S, has_all)

    async def _end(self) -> float | None:
        self._backoff.reset()
        until = self._clock.monotonic() + END_S
        while True:
            try:
                return await self._signaling.delete(self.session_id)
            except (ServerUnreachable, ServerRefused) as error:
                # 500 is the server's own word that the recording has failed
                if not _is_passing(error) or getattr(error, "status", None) == 500:
                    raise
                delay = self._backoff.next_delay_s()
                if self._clock.monotonic() + delay >= until:
                    raise EndUnconfirmed(
                        f"{error}; it ends the recording by itself when its time-out has run out"
                    ) from error
                await self._clock.sleep(delay)

    async def _forget(self, session_id: str) -> None:
        """A session that was answered, but cannot be reached: the server need not wait for it."""
        with contextlib.suppress(ServerUnreachable, ServerRefused):  # it finds out by itself
            await self._signaling.delete(session_id)


class _Attempt:
    """One attempt at a way: afterwards there is either a `connection` or an `error`."""

    def __init__(
        self,
        transport: ClientTransport,
        signaling: SignalingClient,
        name: str,
        resume: str | None,
    ) -> None:
        self._transport = transport
        self._signaling = signaling
        self._name = name
        self.resume = resume
        self.session_id = ""
        self.connection: ClientConnection | None = None
        self.error: GaplessError | None = None
        self.was_restart_answered = False
        """Whether the server has said something to an ICE restart."""
        self.is_restarting = False
        """Whether both ends are about to change over to another path."""

    async def run(self, lost: ClientConnection | None = None) -> None:
        """Find the `lost` connection another path, if there is one, or else make a new one."""
        try:
            if lost is None or not await self._restart(lost):
                await self._connect()
        except GaplessError as error:
            self.error = error

    async def _restart(self, lost: ClientConnection) -> bool:
        """An ICE restart; False where another connection may help."""

        async def exchange(local: IceDescription) -> IceDescription:
            assert self.resume is not None
            remote = await self._signaling.restart_ice(self.resume, local, ice_tag=lost.ice_tag)
            self.is_restarting = True
            return remote

        try:
            await lost.restart_ice(exchange)
        except GaplessError as error:
            if isinstance(error, ServerUnreachable) and _is_passing(error):
                raise  # another connection would not come further
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
                connection.offer_sdp, name=self._name, resume=self.resume
            )
            self.session_id, self.resume = answer.session_id, answer.resume

            async def send_candidate(candidate: IceCandidate) -> None:
                try:
                    await self._signaling.send_candidate(answer.session_id, candidate)
                except ServerRefused as error:
                    # another process may have the session by now: that is for the next offer
                    raise ConnectionFailed(f"a candidate was not taken: {error}") from error

            await connection.connect(
                answer.sdp, ice_servers=answer.ice_servers, send_candidate=send_candidate
            )
            self.connection = connection
        finally:
            if self.connection is None:
                await connection.close(tell_server=False)


def _is_passing(error: GaplessError) -> bool:
    """Whether trying again may help: it does not against a refusal."""
    if isinstance(error, ServerRefused):
        return error.status in _PASSING
    return not isinstance(error, WrongServer)


def _is_final(error: GaplessError) -> bool:
    """Whether a session that was there is over by what is answered to whoever comes back to it.

    Anything but a refusal may come from another than its server: a captive portal, a gateway.
    """
    return (
        isinstance(error, ServerRefused)
        and 400 <= error.status < 500
        and error.status not in _PASSING
    )
