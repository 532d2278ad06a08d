"""Keeps a client's session connected to the server across network outages."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence

from domain.errors import (
    EndUnconfirmed,
    GaplessError,
    NoMediaPath,
    Refusal,
    ServerRefused,
    ServerUnreachable,
    SessionOver,
)
from domain.events.client import (
    RetryScheduled,
    StreamConnected,
    StreamInterrupted,
    StreamResumed,
)
from domain.ports.clock import Clock, Spawner, Work
from domain.ports.events import EventPublisher
from domain.ports.media import PathReport
from domain.ports.signaling import ClientConnection, ClientTransport, SignalingClient
from domain.recording.restoring import SpoolInfo
from domain.rtp.counters import signed
from domain.rtp.packets import RtpPacket
from domain.rtp.retransmission import SentPackets
from domain.services.client.attempt import Attempt
from domain.services.client.retrying import delay_s, is_temporary
from domain.session.backoff import Backoff

DEAD_AFTER_S = 2.5
"""A path is dead after this long without a report; the server reports twice a second."""
WATCH_S = 0.25
"""How often a working connection is checked."""
POLL_S = 0.1
"""How often a condition is checked while waiting for it."""
ATTEMPT_S = 5.0
"""Time limit of the first attempt to reconnect."""
LONGEST_ATTEMPT_S = 20.0
"""Each attempt gets twice the time of the previous one, up to this: some working paths are slow."""
CONFIRM_S = 1.5
"""How long to wait at the end until the server reports the last packet."""
SURELY_ARRIVED_S = 0.25
"""A report that comes so long after the last packet would name it if it had arrived."""
QUIET_S = 0.3
"""At the end, the server has what it can get once it has asked for nothing for this long."""
END_S = 10.0
"""How long to retry the request that ends the session."""


class Uplink:
    """One session on a server, carried by one connection after another.

    `send` never blocks and never fails; it may be called in a different thread than the other
    methods. When the server falls silent, the uplink keeps the old connection, whose path may
    recover, tries an ICE restart, and then attempts new connections. Whichever works first
    carries on. Only a refusal ends the attempts; it is then in `failure`.
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
        room: str = "",
    ) -> None:
        self._transport = transport
        self._signaling = signaling
        self._clock = clock
        self._spawner = spawner
        self._events = events
        self._name = name
        self._room = room
        self._backoff = Backoff(random)
        self._connection: ClientConnection | None = None
        self._watch: Work | None = None
        self._resume: str | None = None
        self._last_sequence: int | None = None
        self._sent = SentPackets()
        self._requested_at = float("-inf")  # when the server last asked for packets again
        self._reported: int | None = None
        # since when packets have been sent without progress in the server's reports
        self._unreported_since: float | None = None
        self._has_retried = False  # to open the session
        # state of the current outage:
        self._attempt_s = ATTEMPT_S
        self._may_restart = False
        self._was_restart_answered = False
        self.session_id = ""
        self.spool: SpoolInfo | None = None
        """What each offer says of the client's spool."""
        self.on_session: Callable[[str, str], None] | None = None
        """Called with the id of a session and the secret that opens it, when they are new."""
        self.failure: GaplessError | None = None
        """The refusal that ended the session."""

    async def open(self) -> bool:
        """Try once to open the session; return False, after a pause, if the caller should retry.

        Raises `ServerRefused` or `WrongServer`. After a first retry only a Gapless server's refusal
        is final: another one may be in the way for now, such as a captive portal.
        """
        attempt = self._attempt()
        await attempt.run()
        if attempt.error is not None:
            if attempt.session_id:
                await self._forget(attempt.session_id)
            error = attempt.error
            if not is_temporary(error) and (not self._has_retried or _is_refusal(error)):
                raise error
            self._has_retried = True
            delay = delay_s(error, self._backoff)
            self._events.publish(RetryScheduled(str(attempt.error), delay))
            await self._clock.sleep(delay)
            return False
        self._adopt(attempt)
        self._events.publish(StreamConnected(self.session_id))
        self._watch = self._spawner.spawn(self._stay_connected(), name="watch connection")
        return True

    @property
    def path_report(self) -> PathReport | None:
        """What the server last reported of the path in use."""
        return None if self._connection is None else self._connection.path_report

    def send(self, packet: RtpPacket) -> None:
        """Send a packet; drop it if there is no connection."""
        self._last_sequence = packet.sequence
        self._sent.add(packet)
        if self._unreported_since is None:
            self._unreported_since = self._clock.monotonic()
        if self._connection is not None:
            self._connection.send(packet)

    def _requested(self, connection: ClientConnection, sequences: Sequence[int]) -> None:
        """Send packets again that the server has missed, also those of an earlier connection."""
        self._requested_at = self._clock.monotonic()
        self._send_again(connection, sequences)

    def _send_again(self, connection: ClientConnection, sequences: Sequence[int]) -> None:
        for packet in self._sent.requested(sequences, now=self._clock.monotonic()):
            connection.send_again(packet)

    async def close(self) -> float | None:
        """End the session, wait for its recording, and return its length in seconds, if told.

        Raises `ServerRefused` when the recording failed, and `EndUnconfirmed` when the server
        cannot be reached.
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
        """Release everything at once. May follow `close`."""
        if self._watch is not None:
            await self._watch.cancel()
        if self._connection is not None:
            await self._connection.close()
        await self._signaling.close()

    # -- while it lasts ------------------------------------------------------------------------

    async def _stay_connected(self) -> None:
        while self.failure is None:
            await self._clock.sleep(WATCH_S)
            self._note_reports()
            if self._is_alive():
                continue
            if self._connection is not None and self._connection.is_closed_by_server:
                self.failure = await self._reason_of_end()
                continue
            self._events.publish(StreamInterrupted())
            lost_at = self._clock.monotonic()
            self._backoff.reset()
            self._attempt_s = ATTEMPT_S
            self._may_restart, self._was_restart_answered = True, False
            while self.failure is None and not self._is_alive():
                await self._reconnect()
            if self.failure is None:
                self._events.publish(StreamResumed(self._clock.monotonic() - lost_at))

    async def _reason_of_end(self) -> SessionOver:
        """Ask the server once why it has ended the session."""
        why = None
        with contextlib.suppress(ServerUnreachable, ServerRefused):
            why = await self._signaling.reason_of_end(self.session_id)
        return SessionOver(why or "the server closed the connection: the session is over")

    async def _reconnect(self) -> None:
        """Attempt once to reconnect, unless the old path recovers; pause after a failure."""
        old = self._connection
        assert old is not None
        attempt = self._attempt()
        lost = old if self._may_restart and old.is_open else None
        work = self._spawner.spawn(attempt.run(lost), name="reconnect")

        def is_decided() -> bool:
            # do not interrupt an ICE restart: the two ends could disagree on its outcome
            return work.done or (self._is_alive() and not attempt.is_restarting)

        try:
            if not await self._wait(self._attempt_s, is_decided):
                attempt.error = NoMediaPath(f"within {self._attempt_s:g} s")
                self._attempt_s = min(2 * self._attempt_s, LONGEST_ATTEMPT_S)
            await work.cancel()
        except BaseException:
            await work.cancel()
            if attempt.connection not in (None, old):
                await attempt.connection.close(tell_server=False)
            raise
        self._was_restart_answered |= attempt.was_restart_answered
        # never restart ICE twice in a row: something on the path may block these requests only
        self._may_restart = lost is None and not self._was_restart_answered
        if attempt.connection is old:
            self._reported, self._unreported_since = None, None
        elif attempt.connection is not None:
            self._adopt(attempt)
            # send no close alert: the session continues on the new connection
            await old.close(tell_server=False)
        elif self._is_alive():
            return
        elif attempt.error is not None and _is_refusal(attempt.error):
            self.failure = attempt.error
        else:
            assert attempt.error is not None
            delay = delay_s(attempt.error, self._backoff)
            self._events.publish(RetryScheduled(str(attempt.error), delay))
            await self._wait(delay, self._is_alive)

    def _attempt(self) -> Attempt:
        return Attempt(
            self._transport,
            self._signaling,
            name=self._name,
            room=self._room,
            resume=self._resume,
            spool=self.spool,
        )

    def _note_reports(self) -> None:
        """Note whether the server's reports have progressed, that is, whether packets arrive."""
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
        """Wait at most `seconds` for the condition; return whether it holds."""
        until = self._clock.monotonic() + seconds
        while not condition():
            if self._connection is not None:
                self._note_reports()
            if self._clock.monotonic() >= until:
                return False
            await self._clock.sleep(POLL_S)
        return True

    def _adopt(self, attempt: Attempt) -> None:
        connection = self._connection = attempt.connection
        assert connection is not None
        connection.on_requested = lambda sequences: self._requested(connection, sequences)
        self._reported, self._unreported_since = None, None
        is_new = (self.session_id, self._resume) != (attempt.session_id, attempt.resume)
        self.session_id, self._resume = attempt.session_id, attempt.resume
        if is_new and self.on_session is not None:
            assert self._resume is not None
            self.on_session(self.session_id, self._resume)

    # -- the end -------------------------------------------------------------------------------

    async def _confirm(self, connection: ClientConnection) -> None:
        """Wait until the server reports the last packet and asks for no other, if it is there.

        If a report shows that the last packet is missing, it is sent again: the server cannot know
        of it, and so cannot ask for it. On a path that loses packets no report is waited for: a
        last packet that came a second late would look as if the sender had stalled before it.
        """
        began_at = self._clock.monotonic()
        path = self.path_report
        is_lossy = path is not None and path.fraction_lost > 0

        def has_last() -> bool:
            reported, last = connection.highest_reported, self._last_sequence
            if last is None or not connection.is_open:
                return True
            if reported is not None and signed(reported - last, bits=16) >= 0:
                return True
            if is_lossy or connection.heard_at - began_at >= SURELY_ARRIVED_S:
                self._send_again(connection, [last])
            return False

        def is_quiet() -> bool:
            return self._clock.monotonic() - self._requested_at >= QUIET_S

        silent_s = self._clock.monotonic() - connection.heard_at
        if silent_s < DEAD_AFTER_S and await self._wait(CONFIRM_S, has_last):
            await self._wait(CONFIRM_S, is_quiet)

    async def _end(self) -> float | None:
        self._backoff.reset()
        until = self._clock.monotonic() + END_S
        while True:
            try:
                return await self._signaling.delete(self.session_id)
            except (ServerUnreachable, ServerRefused) as error:
                if not is_temporary(error):
                    raise
                delay = delay_s(error, self._backoff)
                if self._clock.monotonic() + delay >= until:
                    raise EndUnconfirmed(
                        f"{error}; it will end the recording when its inactivity time-out runs out"
                    ) from error
                await self._clock.sleep(delay)

    async def _forget(self, session_id: str) -> None:
        """Delete a session that has no media path, so that the server need not wait for it."""
        with contextlib.suppress(ServerUnreachable, ServerRefused):  # the server times it out
            await self._signaling.delete(session_id)


def _is_refusal(error: GaplessError) -> bool:
    """Whether a Gapless server refuses the client: it is not wanted, or its session is over."""
    return isinstance(error, ServerRefused) and error.refusal is Refusal.FINAL
