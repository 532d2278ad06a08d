"""A session with what serves it: a processor, and the connections that feed it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from domain.events import SessionResumed, SessionStateChanged, TrackStarted
from domain.ports.clock import Work
from domain.ports.events import EventPublisher
from domain.ports.signaling import ServerConnection
from domain.rtp.packets import RtpPacket
from domain.rtp.reports import ReceptionReport
from domain.services.server.track_processor import AudioTrackProcessor
from domain.session.session import Session, SessionInput, SessionState


class Keeper(Protocol):
    """Who keeps the sessions, and hears what becomes of each."""

    def end(self, live: LiveSession, event: SessionInput) -> None:
        """It is over."""

    def fault(self, live: LiveSession, error: Exception) -> None:
        """A fault in this program while it was served."""

    def release(self, attempt: Attempt) -> None:
        """A connection serves nothing any more."""

    def settle_soon(self, live: LiveSession) -> None:
        """It has packets in order: call `decode` and `store`, with those of others."""


class LiveSession:
    """A session and its attempts.

    There are two connections at most: the one that serves, and one that is to take its place
    with its first packet. From then on nothing of the old one counts.
    """

    def __init__(
        self,
        session: Session,
        processor: AudioTrackProcessor,
        keeper: Keeper,
        events: EventPublisher,
        *,
        connect_timeout_s: float,
    ) -> None:
        self.session = session
        self.processor = processor
        self.attempts: list[Attempt] = []
        """In their order, the one that serves first."""
        self.finished: Work | None = None
        """Done when everything of the session is, once it has ended."""
        self._keeper = keeper
        self._events = events
        self._connect_timeout_s = connect_timeout_s
        self._serving: Attempt | None = None
        self._faulty = False
        self._is_announced = False

    @property
    def latest(self) -> ServerConnection:
        return self.attempts[-1].connection

    def add_attempt(self, connection: ServerConnection, *, offer: str, now: float) -> None:
        """Another connection is on its way; it replaces one that was so before it."""
        for attempt in self.attempts:
            if attempt is not self._serving:
                self._drop(attempt)
        self.session.connect_deadline = now + self._connect_timeout_s
        attempt = Attempt(self, connection, offer, self.session.connect_deadline)
        self.attempts.append(attempt)
        connection.start(attempt)

    def established(self, attempt: Attempt, *, now: float) -> None:
        attempt.is_connected = True
        if self.session.connected(now=now):
            self._events.publish(SessionStateChanged(self.session.id, self.session.state))

    def received(self, attempt: Attempt, packets: Sequence[RtpPacket]) -> None:
        now = packets[-1].arrived
        if self._faulty or self.session.state is SessionState.ENDED:
            return
        try:
            if attempt is not self._serving and not self._serve(attempt, now=now):
                return
            if self.session.packet_received(now=now):
                self._events.publish(SessionStateChanged(self.session.id, self.session.state))
            self.processor.packets_received(packets)
        except Exception as error:
            self._fault(error)
            return
        self._keeper.settle_soon(self)

    def decode(self) -> None:
        """What has come becomes sound."""
        self._do(self.processor.decode)

    def store(self) -> None:
        """What has become sound goes to the store."""
        self._do(self.processor.store)
        if not self._is_announced:
            self._announce()

    def closed(self, attempt: Attempt) -> None:
        """A goodbye ends the session, unless another connection is there to go on with."""
        if attempt not in self.attempts:
            return
        never_was = self.session.state is SessionState.CONNECTING
        if len(self.attempts) == 1 and (attempt.is_connected or never_was):
            self._keeper.end(self, SessionInput.CONNECTION_CLOSED)
        else:
            self._drop(attempt)

    def due(self, *, now: float) -> SessionInput | None:
        """What ends the session now, if anything does."""
        if self.session.state is not SessionState.CONNECTING:
            for attempt in self.attempts:
                # one that is there but brings nothing is of no use while another one serves
                is_idle = not attempt.is_connected or self._serving is not None
                if attempt is not self._serving and is_idle and now >= attempt.connect_deadline:
                    self._drop(attempt)
        if self.processor.failure is not None:
            return SessionInput.STORAGE_FAILED
        return self.session.due(now=now)

    def poll(self, *, now: float) -> None:
        if self._faulty or self.session.state is SessionState.ENDED:
            return
        try:
            is_due = self.processor.poll(now=now)
        except Exception as error:
            self._fault(error)
            return
        if is_due:
            self._keeper.settle_soon(self)

    def report(self, attempt: Attempt) -> ReceptionReport | None:
        if attempt is not self._serving or self.session.state is SessionState.ENDED:
            return None
        return self.processor.reception_report()

    def _serve(self, attempt: Attempt, *, now: float) -> bool:
        """The first packet of an attempt: it takes over, unless a later one has."""
        if attempt not in self.attempts:
            return False
        if not self.processor.can_record(attempt.connection.tracks[0].codecs):
            self._drop(attempt)
            return False
        if self._serving is not None:
            # what it has brought came before this, and may lie unread
            self._serving.connection.read_pending()
            if self._faulty:
                return False
        for old in self.attempts[: self.attempts.index(attempt)]:
            self._drop(old)
        self._serving = attempt
        attempt.is_connected = True
        self.processor.connect(attempt.connection.tracks[0].codecs, now=now)
        if self.processor.attempt > 1:
            self._events.publish(SessionResumed(self.session.id, self.processor.attempt))
        return True

    def _drop(self, attempt: Attempt) -> None:
        self.attempts = [other for other in self.attempts if other is not attempt]
        if attempt is self._serving:
            self._serving = None
        self._keeper.release(attempt)

    def _do(self, step: Callable[[], None]) -> None:
        """A step of the processor; a fault in it ends the session."""
        if self._faulty or self.session.state is SessionState.ENDED:
            return
        try:
            step()
        except Exception as error:
            self._fault(error)

    def _announce(self) -> None:
        """The first packets wait, and may be let go by a packet or by the clock."""
        if self.processor.format is not None:
            self._is_announced = True
            self._events.publish(TrackStarted(self.session.id, 1, self.processor.format))

    def _fault(self, error: Exception) -> None:
        """Whatever it was would happen again: nothing more goes into this recording."""
        self._faulty = True
        self._keeper.fault(self, error)


class Attempt:
    """One connection of a session: the sink of what it brings."""

    def __init__(
        self,
        live: LiveSession,
        connection: ServerConnection,
        offer: str,
        connect_deadline: float,
    ) -> None:
        self.connection = connection
        self.offer = offer
        """The digest of the offer that it answers."""
        self.connect_deadline = connect_deadline
        self.is_connected = False
        self._live = live

    def connection_established(self, *, now: float) -> None:
        self._live.established(self, now=now)

    def packets_received(self, track: int, packets: Sequence[RtpPacket]) -> None:
        self._live.received(self, packets)

    def connection_closed(self) -> None:
        self._live.closed(self)

    def reception_reports(self) -> Sequence[ReceptionReport]:
        report = self._live.report(self)
        return () if report is None else (report,)
