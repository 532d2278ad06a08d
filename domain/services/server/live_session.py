"""A session with its connections and tracks. It decides, and returns effects."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from domain.events.server import (
    RecordingFailed,
    ServerEvent,
    SessionFailed,
    SessionResumed,
    SessionStateChanged,
)
from domain.ports.clock import Work
from domain.ports.signaling import ServerConnection
from domain.ports.storage import InterruptedRecording
from domain.recording.restoring import SpoolInfo
from domain.rtp.packets import RtpPacket
from domain.rtp.rate import PacketRate
from domain.rtp.reports import ReceptionReport, SenderReport
from domain.services.server.track_processor import AudioTrackProcessor
from domain.session.limits import SessionLimits
from domain.session.session import Session, SessionInput, SessionState


@dataclass(slots=True, eq=False)
class SessionConnection:
    """One connection of a session."""

    connection: ServerConnection
    offer: str
    """The digest of the offer that this connection answers."""
    connect_deadline: float
    spool: SpoolInfo | None = None
    """What its offer says of the client's spool, which belongs to the first track."""
    is_connected: bool = False
    held: list[tuple[int, Sequence[RtpPacket]]] = field(default_factory=list)
    """Packets that arrived before the connection took over, with the index of their track."""
    reports: list[SenderReport] = field(default_factory=list)
    """The sender reports that came with them; only the latest ones are kept."""
    was_closed: bool = False
    """Whether it was closed before it took over, while its packets were held."""


@dataclass(frozen=True, slots=True)
class TakeOver:
    """Read the packets of the serving connection, then let this connection take over."""

    connection: SessionConnection


@dataclass(frozen=True, slots=True)
class AskForMissing:
    """Call `request_missing` regularly from now on, while the session `is_incomplete`."""


@dataclass(frozen=True, slots=True)
class Release:
    """Close a connection that the session does not need any more."""

    connection: SessionConnection


@dataclass(frozen=True, slots=True)
class End:
    """End the session."""

    cause: SessionInput
    detail: str | None = None
    """Why the connection failed, or which limit was passed, if that is the cause."""


MAX_HELD_REPORTS = 16
_ASK_FOR_MISSING = AskForMissing()
ServiceEffect: TypeAlias = Release | End | ServerEvent
"""What the service has to do; it publishes events."""
Effect: TypeAlias = TakeOver | AskForMissing | ServiceEffect
"""What the caller has to do."""


class LiveSession:
    """A session, its tracks, and the connections that feed them.

    One connection serves. A newer one takes over with its first packet; from then on packets of
    older ones are ignored. An offer replaces a connection that has received no packet yet.
    """

    def __init__(
        self,
        session: Session,
        new_track: Callable[[int], AudioTrackProcessor],
        *,
        connect_timeout_s: float,
        limits: SessionLimits,
    ) -> None:
        """`new_track` makes the processor of the track with a number."""
        self.session = session
        self.tracks: list[AudioTrackProcessor] = [new_track(1)]
        self.connections: list[SessionConnection] = []
        """Oldest first."""
        self.finished: Work | None = None
        """The work that ends the session; it is done when everything is released."""
        self._new_track = new_track
        self._connect_timeout_s = connect_timeout_s
        self._limits = limits
        self._rate = PacketRate(per_s=limits.session_packets_per_s, burst_s=limits.max_burst_s)
        self._began_at: float | None = None  # when it was first served
        self._lasted_s = 0.0  # in the process before this one
        self._counted = 0  # bytes that `take_written` has returned
        self._serving: SessionConnection | None = None
        self._connection_count = 0  # connections that have served, this one included
        self._failed: set[int] = set()  # numbers of tracks whose failure was reported
        self._is_faulty = False

    @property
    def latest(self) -> ServerConnection:
        return self.connections[-1].connection

    @property
    def serving(self) -> SessionConnection | None:
        """The connection whose packets are recorded."""
        return self._serving

    @property
    def is_over(self) -> bool:
        """Whether the session has ended or failed, so that nothing more is recorded."""
        return self._is_faulty or self.session.state is SessionState.ENDED

    @property
    def codec_names(self) -> Sequence[str | None]:
        """The codec of each track's recording; None before the track's first packet."""
        return [track.codec_name for track in self.tracks]

    def resume(self, interrupted: InterruptedRecording, *, track: int) -> None:
        """Continue a recording of this session whose process was killed."""
        self._make_tracks(track)
        self.tracks[track - 1].resume(interrupted)
        lasted = interrupted.ended_at - interrupted.info.started_at
        self._lasted_s = max(self._lasted_s, lasted.total_seconds())
        self._connection_count = max(self._connection_count, interrupted.connections)

    def can_use(self, connection: ServerConnection) -> bool:
        """Return whether a connection's codecs can continue the recordings."""
        return all(
            track.can_record(remote.codecs)
            for track, remote in zip(self.tracks, connection.tracks, strict=False)
        )

    def add_connection(
        self,
        connection: ServerConnection,
        *,
        offer: str,
        now: float,
        spool: SpoolInfo | None = None,
    ) -> tuple[SessionConnection, Sequence[Effect]]:
        """Add a connection; it replaces one that has not served yet."""
        effects: list[Effect] = []
        for other in list(self.connections):
            if other is not self._serving and not other.held:
                effects += self._drop(other)
        self.session.connect_deadline = now + self._connect_timeout_s
        added = SessionConnection(connection, offer, self.session.connect_deadline, spool)
        self.connections.append(added)
        return added, effects

    def established(self, connection: SessionConnection, *, now: float) -> Sequence[Effect]:
        """Note that a connection has a media path."""
        if connection not in self.connections:
            return ()
        connection.is_connected = True
        return self._state_changed() if self.session.connected(now=now) else ()

    def received(
        self, connection: SessionConnection, index: int, packets: Sequence[RtpPacket]
    ) -> Sequence[Effect]:
        """Process packets of a connection; `index` is that of their track in it."""
        if self.is_over:
            return ()
        if connection is not self._serving:
            return self._received_first(connection, index, packets)
        return self._received(index, packets)

    def sender_reported(self, connection: SessionConnection, report: SenderReport) -> bool:
        """Pass a sender report to the track of its source; return whether there is one."""
        if self.is_over:
            return False
        if connection is not self._serving:
            connection.reports = [*connection.reports, report][-MAX_HELD_REPORTS:]
            return False
        return any(track.sender_reported(report) for track in self.tracks)

    def take_over(self, connection: SessionConnection) -> Sequence[Effect]:
        """Let a connection serve, and process the packets that were held for it."""
        if self.is_over or not connection.held:  # it serves already
            return ()
        effects: list[Effect] = []
        for old in self.connections[: self.connections.index(connection)]:
            effects += self._drop(old)
        effects += self._serve(connection)
        held, connection.held = connection.held, []
        for index, packets in held:
            effects += self._received(index, packets)
        reports, connection.reports = connection.reports, []
        for report in reports:
            self.sender_reported(connection, report)
        if connection.was_closed:
            effects += self.closed(connection)
        return effects

    def closed(self, connection: SessionConnection, reason: str | None = None) -> Sequence[Effect]:
        """Note that the peer has closed a connection, or the `reason` for which it failed.

        This ends the session, unless it has another connection. A page, which does not know its RTP
        timestamps, may go on after it was reloaded: a browser closes its connections then.
        """
        if connection not in self.connections:
            return ()
        if connection.held:
            connection.was_closed = True  # process its packets before closing
            return ()
        was_never_connected = self.session.state is SessionState.CONNECTING
        is_page = connection.spool is not None and connection.spool.position is not None
        is_last = len(self.connections) == 1 and not is_page
        if is_last and (connection.is_connected or was_never_connected):
            return (End(SessionInput.CONNECTION_CLOSED, reason),)
        return self._drop(connection)

    def release_overdue(self, *, now: float) -> bool:
        """Release packets whose predecessors are overdue; return whether there are any."""
        if self.is_over:
            return False
        is_any = False
        for track in self.tracks:
            is_any |= track.poll(now=now)
        return is_any

    @property
    def is_incomplete(self) -> bool:
        """Whether packets wait for one that is missing."""
        return not self.is_over and any(track.is_incomplete for track in self.tracks)

    def request_missing(self, *, now: float) -> None:
        """Ask for missing packets, as far as that is due, over the connection that serves."""
        if self.is_over or self._serving is None:
            return
        connection = self._serving.connection
        for index, track in enumerate(self.tracks):
            request = track.request_missing(now=now)
            if request is not None:
                connection.request_retransmission(index, request.ssrc, request.sequences)

    def packet_repeated(
        self, connection: SessionConnection, ssrc: int, sequence: int, *, now: float
    ) -> None:
        """Note that a packet of a connection has arrived again: a request was needless."""
        if connection is self._serving:
            for track in self.tracks:
                track.packet_repeated(ssrc, sequence, now=now)

    def expire(self, *, now: float) -> Sequence[Effect]:
        """Apply the deadlines that have passed."""
        effects: list[Effect] = []
        for number, track in enumerate(self.tracks, start=1):
            if track.failure is not None:
                effects += self.failed(number, track.failure)
        if self._failed and all(track.failure for track in self.tracks if track.has_begun):
            return (*effects, End(SessionInput.STORAGE_FAILED))
        if self.session.state is not SessionState.CONNECTING:
            for connection in list(self.connections):
                if self._is_useless(connection) and now >= connection.connect_deadline:
                    effects += self._drop(connection)
        if (limit := self._limit_passed(now)) is not None:
            return (*effects, End(SessionInput.LIMIT_PASSED, limit))
        cause = self.session.due(now=now)
        if cause is SessionInput.PACKETS_CEASED:
            self.session.handle(cause)
            effects += self._state_changed()
        elif cause is SessionInput.CONNECT_DEADLINE_PASSED:
            effects.append(End(cause, self.latest.obstacle if self.connections else None))
        elif cause is not None:
            effects.append(End(cause))
        return effects

    def _limit_passed(self, now: float) -> str | None:
        """Return which limit of the server the session has passed, if any."""
        if self._began_at is None:
            return None
        for track in self.tracks:
            if (abuse := track.abuse) is not None:
                return abuse
        if self._rate.excess > self._rate.burst:
            most = self._limits.session_packets_per_s
            return f"it sent more than {most:g} packets a second in all its tracks"
        lasted_s = self._lasted_s + now - self._began_at
        return self._limits.passed(lasted_s=lasted_s, written=self._written)

    @property
    def _written(self) -> int:
        return sum(track.written for track in self.tracks)

    def take_written(self) -> int:
        """Return how many bytes were written since the last call."""
        before, self._counted = self._counted, self._written
        return self._counted - before

    def decode(self) -> None:
        """Decode the packets that are in order."""
        if not self.is_over:
            for track in self.tracks:
                track.decode()

    def store(self) -> None:
        """Pass the decoded sound to the store."""
        if not self.is_over:
            for track in self.tracks:
                track.store()

    def fail(self, error: Exception) -> Sequence[Effect]:
        """End the session after an internal error, which would occur again."""
        self._is_faulty = True
        return (SessionFailed(self.session.id, error), End(SessionInput.FAILED))

    def failed(self, number: int, error: Exception) -> Sequence[Effect]:
        """Report once that the recording of a track cannot be written any more."""
        if number in self._failed:
            return ()
        self._failed.add(number)
        return (RecordingFailed(self.session.id, number, error),)

    def reception_reports(self, connection: SessionConnection) -> Sequence[ReceptionReport]:
        """Return the content of the next receiver report on a connection."""
        if connection is not self._serving or self.session.state is SessionState.ENDED:
            return ()
        carried = self.tracks[: len(connection.connection.tracks)]
        reports = [track.reception_report() for track in carried]
        return [report for report in reports if report is not None]

    def _received_first(
        self, connection: SessionConnection, index: int, packets: Sequence[RtpPacket]
    ) -> Sequence[Effect]:
        """Hold packets of a connection that does not serve yet, and let it take over if it may."""
        if connection not in self.connections:
            return ()
        if not self.can_use(connection.connection):
            return self._drop(connection)
        is_first_of_any = self._serving is None and not any(c.held for c in self.connections)
        connection.held.append((index, packets))
        self.session.active_at = packets[-1].arrived
        if is_first_of_any:
            return self.take_over(connection)
        return (TakeOver(connection),) if len(connection.held) == 1 else ()

    def _received(self, index: int, packets: Sequence[RtpPacket]) -> Sequence[Effect]:
        is_news = self.session.packet_received(now=packets[-1].arrived)
        track, admitted = self.tracks[index], self._rate.admit(packets)
        track.leave_out(len(packets) - len(admitted))
        is_incomplete = track.packets_received(admitted)
        effects: Sequence[Effect] = self._state_changed() if is_news else ()
        return (*effects, _ASK_FOR_MISSING) if is_incomplete else effects

    def _serve(self, connection: SessionConnection) -> Sequence[Effect]:
        self._serving = connection
        connection.is_connected = True
        self._connection_count += 1
        self._make_tracks(len(connection.connection.tracks))
        _, packets = connection.held[0]
        if self._began_at is None:
            self._began_at = packets[-1].arrived
        for index, remote in enumerate(connection.connection.tracks):
            self.tracks[index].connect(
                remote.codecs,
                number=self._connection_count,
                now=packets[-1].arrived,
                spool=None if index else connection.spool,
            )
        if self._connection_count == 1:
            return ()
        return (SessionResumed(self.session.id, self._connection_count),)

    def _make_tracks(self, count: int) -> None:
        for number in range(len(self.tracks) + 1, count + 1):
            self.tracks.append(self._new_track(number))

    def _is_useless(self, connection: SessionConnection) -> bool:
        """Return whether to drop a connection: it is not connected, or another one serves."""
        if connection is self._serving or connection.held:
            return False
        return not connection.is_connected or self._serving is not None

    def _drop(self, connection: SessionConnection) -> Sequence[Effect]:
        self.connections = [other for other in self.connections if other is not connection]
        if connection is self._serving:
            self._serving = None
        return (Release(connection),)

    def _state_changed(self) -> Sequence[Effect]:
        return (SessionStateChanged(self.session.id, self.session.state),)
