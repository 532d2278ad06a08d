"""The server's sessions: each offer becomes one, each session one recording."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from domain.errors import RecordingFailed, ServerFull, SessionUnknown
from domain.ports.clock import Clock, Spawner
from domain.ports.codec import DecoderFactory
from domain.ports.observers import ServerObserver
from domain.ports.storage import RecordingStore
from domain.ports.transport import IceCandidate, IngestConnection, IngestTransport
from domain.recording import EndReason
from domain.rtp import ReceptionReport, RtpPacket
from domain.services.record import AudioTrackProcessor
from domain.session import END_REASONS, Session, SessionEvent, SessionState
from domain.settings import ServerSettings

_ID_BYTES = 8
_RESUME_BYTES = 32
_OUTCOME_S = 60.0
"""How long a session that is over can still be asked for."""


@dataclass(frozen=True, slots=True)
class _Outcome:
    failure: Exception | None
    until: float


@dataclass(frozen=True, slots=True)
class Accepted:
    """A session that was made."""

    session_id: str
    resume: str
    answer_sdp: str


class Ingest:
    """Takes offers, keeps the sessions and ends each of them in one of the ways there are.

    `tick` has to be called a few times a second: deadlines are kept by it, nothing else waits.
    """

    def __init__(
        self,
        *,
        settings: ServerSettings,
        transport: IngestTransport,
        decoders: DecoderFactory,
        store: RecordingStore,
        clock: Clock,
        spawner: Spawner,
        observer: ServerObserver,
        new_secret: Callable[[int], str],
    ) -> None:
        self._settings = settings
        self._transport = transport
        self._decoders = decoders
        self._store = store
        self._clock = clock
        self._spawner = spawner
        self._observer = observer
        self._new_secret = new_secret
        self._sessions: dict[str, _LiveSession] = {}
        self._outcomes: dict[str, _Outcome] = {}
        self._being_offered = 0
        self._closing = False

    @property
    def session_count(self) -> int:
        """Sessions that have not ended."""
        return sum(live.session.state is not SessionState.ENDED for live in self._sessions.values())

    async def offer(self, sdp: str, *, name: str) -> Accepted:
        """Answer an offer with a new session.

        Raises `OfferRejected`, `ServerFull` or `StorageFull`.
        """
        self._refuse_when_closing()
        if len(self._sessions) + self._being_offered >= self._settings.max_sessions:
            raise ServerFull(f"all {self._settings.max_sessions} sessions are taken")
        self._store.check_room()
        self._being_offered += 1
        try:
            connection = await self._transport.accept(sdp)
        finally:
            self._being_offered -= 1
        try:
            self._refuse_when_closing()
        except ServerFull:
            await connection.close()
            raise
        session = Session(
            id=self._new_secret(_ID_BYTES),
            resume=self._new_secret(_RESUME_BYTES),
            name=name,
            connect_deadline=self._clock.monotonic() + self._settings.connect_timeout_s,
            inactivity_timeout_s=self._settings.inactivity_timeout_s,
        )
        live = _LiveSession(session, connection, self._processor(session, connection), self)
        self._sessions[session.id] = live
        self._observer.session_opened(session.id, name)
        connection.start(live)
        return Accepted(session.id, session.resume, connection.answer_sdp)

    def add_candidate(self, session_id: str, candidate: IceCandidate) -> None:
        """Hand a client's candidate to its connection.

        Raises `SessionUnknown` or `CandidateRejected`.
        """
        live = self._find(session_id)
        if live.session.state is SessionState.ENDED:
            raise SessionUnknown("the session is over")
        live.connection.add_candidate(candidate)

    async def delete(self, session_id: str) -> None:
        """End a session at its client's wish; returns when the recording is complete.

        A client that closes its connection just before has ended the session already, by
        packets that may come later than this request: they are waited for. What became of a
        session can be asked for a while after its end. Raises `SessionUnknown` after that, and
        `RecordingFailed`.
        """
        if session_id not in self._outcomes:
            live = self._find(session_id)
            await live.connection.drain()
            self.end(live, SessionEvent.DELETED)
            assert live.finished is not None
            await live.finished
        if (failure := self._outcomes[session_id].failure) is not None:
            raise RecordingFailed(f"the recording could not be completed: {failure}")

    def tick(self) -> None:
        """Keep the deadlines."""
        now = self._clock.monotonic()
        for session_id in [key for key, outcome in self._outcomes.items() if now >= outcome.until]:
            del self._outcomes[session_id]
        for live in list(self._sessions.values()):
            live.poll(now=now)
            if (event := live.due(now=now)) is not None:
                self.end(live, event)

    def end(self, live: _LiveSession, event: SessionEvent) -> None:
        """End a session in the background; does nothing for one that has ended."""
        if live.session.handle(event):
            live.finished = self._spawner.spawn(
                self._finish(live, END_REASONS[event]), name=f"finish {live.session.id}"
            )

    async def shut_down(self) -> None:
        """Take no more offers, complete all recordings and release everything."""
        self._closing = True
        for live in list(self._sessions.values()):
            self.end(live, SessionEvent.SHUT_DOWN)
        await self._spawner.join()

    def fault(self, live: _LiveSession, error: Exception) -> None:
        """A fault in this program while it served a session: that session ends, no other."""
        self._observer.failed(live.session.id, error)
        self.end(live, SessionEvent.FAILED)

    def recording_started(self, live: _LiveSession) -> None:
        assert live.processor.format is not None
        self._observer.recording_started(live.session.id, live.processor.format)

    def _refuse_when_closing(self) -> None:
        if self._closing:
            raise ServerFull("the server is shutting down")

    def _find(self, session_id: str) -> _LiveSession:
        live = self._sessions.get(session_id)
        if live is None:
            raise SessionUnknown("there is no such session, or it is over")
        return live

    async def _finish(self, live: _LiveSession, reason: EndReason) -> None:
        session_id = live.session.id
        failure: Exception | None = None
        try:
            finished = await live.processor.end(reason, now=self._clock.monotonic())
            if finished is not None:
                self._observer.recording_finished(session_id, finished.location, finished.seconds)
            failure = live.processor.failure
        except Exception as error:
            failure = error
        if failure is not None:
            self._observer.failed(session_id, failure)
        try:
            await live.connection.close()
        finally:
            until = self._clock.monotonic() + _OUTCOME_S
            self._outcomes[session_id] = _Outcome(failure, until)
            del self._sessions[session_id]
            self._observer.session_ended(session_id, reason)

    def _processor(self, session: Session, connection: IngestConnection) -> AudioTrackProcessor:
        return AudioTrackProcessor(
            session_id=session.id,
            client_name=session.name,
            codecs=connection.codecs,
            decoders=self._decoders,
            store=self._store,
            clock=self._clock,
            reorder_hold_s=self._settings.reorder_hold_s,
            max_gap_s=self._settings.max_gap_s,
        )


class _LiveSession:
    """A session with what serves it: the sink of its connection."""

    def __init__(
        self,
        session: Session,
        connection: IngestConnection,
        processor: AudioTrackProcessor,
        ingest: Ingest,
    ) -> None:
        self.session = session
        self.connection = connection
        self.processor = processor
        self.finished: Awaitable[None] | None = None
        """Done when everything of the session is, once it has ended."""
        self._ingest = ingest
        self._faulty = False
        self._announced = False

    def connection_established(self, *, now: float) -> None:
        self.session.connected(now=now)

    def packet_received(self, packet: RtpPacket, *, now: float) -> None:
        if self._faulty:
            return
        try:
            self.session.packet_received(now=now)
            self.processor.packet_received(packet, now=now)
        except Exception as error:
            self._fault(error)
            return
        self._announce()

    def due(self, *, now: float) -> SessionEvent | None:
        """What ends the session now, if anything does."""
        if self.processor.failure is not None:
            return SessionEvent.STORAGE_FAILED
        return self.session.due(now=now)

    def poll(self, *, now: float) -> None:
        if self._faulty:
            return
        try:
            self.processor.poll(now=now)
        except Exception as error:
            self._fault(error)
            return
        self._announce()

    def _announce(self) -> None:
        """The first packets wait, and may be let go by a packet or by the clock."""
        if not self._announced and self.processor.format is not None:
            self._announced = True
            self._ingest.recording_started(self)

    def _fault(self, error: Exception) -> None:
        """Whatever it was would happen again: nothing more goes into this recording."""
        self._faulty = True
        self._ingest.fault(self, error)

    def connection_closed(self) -> None:
        self._ingest.end(self, SessionEvent.CONNECTION_CLOSED)

    def reception_report(self) -> ReceptionReport | None:
        if self.session.state is SessionState.ENDED:
            return None
        return self.processor.reception_report()
