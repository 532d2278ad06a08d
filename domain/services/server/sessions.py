"""The server's sessions: each offer becomes one, each session one recording."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from domain.errors import (
    OfferRejected,
    RecordingIncomplete,
    ServerFull,
    SessionUnknown,
)
from domain.events import (
    RecordingCompleted,
    RecordingFailed,
    SessionEnded,
    SessionFailed,
    SessionOpened,
    SessionStateChanged,
)
from domain.ports.clock import Clock, Spawner
from domain.ports.codec import DecoderFactory
from domain.ports.events import EventPublisher
from domain.ports.signaling import ServerConnection, ServerTransport
from domain.ports.storage import InterruptedRecording, RecordingStore, Recovery
from domain.recording.recording import EndReason
from domain.services.server.live_session import Attempt, LiveSession
from domain.services.server.track_processor import AudioTrackProcessor
from domain.session.ice import IceCandidate, IceDescription, IceServer
from domain.session.session import END_REASONS, Session, SessionInput, SessionState, digest_of
from domain.session.turn import with_credentials
from domain.settings import ServerSettings

_ID_BYTES = 8
_RESUME_BYTES = 32
_TOGETHER = 12
"""Sessions whose packets are decoded together: some milliseconds, then the others have a turn."""
_OUTCOME_S = 60.0
"""How long a session that is over can still be asked for."""


@dataclass(frozen=True, slots=True)
class _Outcome:
    resume_digest: str
    failure: Exception | None
    seconds: float
    until: float


@dataclass(frozen=True, slots=True)
class Accepted:
    """An offer that was answered."""

    session_id: str
    resume: str
    """The secret with which the session can be taken up again, and the attempt be reached."""
    answer_sdp: str
    ice_tag: str
    """Names the ICE session of the answer."""
    ice_servers: Sequence[IceServer]
    """What the client may use to find a path."""


class SessionService:
    """Takes offers, keeps the sessions and ends each of them in one of the ways there are.

    `tick` has to be called a few times a second: deadlines are kept by it, nothing else waits.
    """

    def __init__(
        self,
        *,
        settings: ServerSettings,
        transport: ServerTransport,
        decoders: DecoderFactory,
        store: RecordingStore,
        clock: Clock,
        spawner: Spawner,
        events: EventPublisher,
        new_secret: Callable[[int], str],
    ) -> None:
        self._settings = settings
        self._transport = transport
        self._decoders = decoders
        self._store = store
        self._clock = clock
        self._spawner = spawner
        self._events = events
        self._new_secret = new_secret
        self._sessions: dict[str, LiveSession] = {}
        self._ids: dict[str, str] = {}  # by the digests of the secrets
        self._answers: dict[str, _Answering] = {}
        self._outcomes: dict[str, _Outcome] = {}
        self._being_offered = 0
        self._unsettled: list[LiveSession] = []
        self._closing = False

    @property
    def session_count(self) -> int:
        """Sessions that have not ended."""
        return sum(live.session.state is not SessionState.ENDED for live in self._sessions.values())

    @property
    def places_taken(self) -> int:
        """All sessions, those that are being made and those that are being completed as well."""
        return len(self._sessions) + self._being_offered

    def states(self) -> dict[str, int]:
        """How many sessions are in each of the states that are not the end."""
        counts = Counter(live.session.state for live in self._sessions.values())
        return {
            state.value: counts[state] for state in SessionState if state is not SessionState.ENDED
        }

    def recover(self) -> Recovery:
        """Complete what earlier processes have left; go on with what its client may come back to.

        Call it before the first offer.
        """
        since = self._clock.utc() - datetime.timedelta(seconds=self._settings.max_gap_s)
        found = self._store.recover(resumable_since=since)
        for interrupted in found.interrupted:
            self._take_up(interrupted)
        return found

    async def offer(self, sdp: str, *, name: str, resume: str | None = None) -> Accepted:
        """Answer an offer: with a new session, or with a new attempt of the one of `resume`.

        The same offer gets the same answer, as long as its session lives. Raises `OfferRejected`,
        `SessionUnknown`, `ServerFull` or `StorageFull`.
        """
        key = digest_of(f"{resume or ''} {sdp}")
        answering = self._answers.get(key)
        if answering is None:
            # in the background: whoever asked may be gone before there is an answer, and may
            # come back for it
            answering = self._answers[key] = _Answering()
            answering.done = self._spawner.spawn(
                self._answer(key, answering, sdp, name, resume), name="answer offer"
            )
        if answering.done is not None:
            await answering.done
        if answering.error is not None:
            raise answering.error
        assert answering.accepted is not None
        return answering.accepted

    def add_candidate(self, session_id: str, candidate: IceCandidate) -> None:
        """Hand a client's candidate to its latest connection.

        Raises `SessionUnknown` or `CandidateRejected`.
        """
        self._find(session_id).latest.add_candidate(candidate)

    def connection_of(self, secret: str) -> ServerConnection:
        """The latest connection of the session that `secret` opens. Raises `SessionUnknown`."""
        return self._find(self.session_of(secret)).latest

    async def restart_ice(self, secret: str, remote: IceDescription) -> IceDescription:
        """Restart ICE on the latest connection of a session, with fresh TURN credentials.

        Raises `SessionUnknown` or `CandidateRejected`.
        """
        connection = self.connection_of(secret)
        ice_servers = self._ice_servers(self.session_of(secret))
        return await connection.restart_ice(remote, ice_servers=ice_servers)

    def session_of(self, secret: str) -> str:
        """The id of the session that `secret` opens. Raises `SessionUnknown`."""
        session_id = self._ids.get(digest_of(secret))
        if session_id is None:
            raise SessionUnknown("there is no such session, or it is over")
        return session_id

    async def delete(self, session_id: str) -> float:
        """End a session at its client's wish; returns when the recording is complete: its seconds.

        A client that closes its connection just before has ended the session already, by
        packets that may come later than this request: they are waited for. What became of a
        session can be asked for a while after its end. Raises `SessionUnknown` after that, and
        `RecordingIncomplete`.
        """
        if session_id not in self._outcomes:
            live = self._sessions.get(session_id)
            if live is None:
                raise SessionUnknown("there is no such session, or it is over")
            for attempt in list(live.attempts):
                await attempt.connection.drain()
            self.end(live, SessionInput.DELETED)
            assert live.finished is not None
            await live.finished
        outcome = self._outcomes[session_id]
        if outcome.failure is not None:
            raise RecordingIncomplete(f"the recording could not be completed: {outcome.failure}")
        return outcome.seconds

    def tick(self) -> None:
        """Keep the deadlines."""
        now = self._clock.monotonic()
        for session_id in [key for key, outcome in self._outcomes.items() if now >= outcome.until]:
            del self._ids[self._outcomes.pop(session_id).resume_digest]
        for live in list(self._sessions.values()):
            live.poll(
                now=now - self._transport.max_read_delay_s
            )  # whatever was missing by then has not come
            if (event := live.due(now=now)) is SessionInput.PACKETS_CEASED:
                live.session.handle(event)
                self._events.publish(SessionStateChanged(live.session.id, live.session.state))
            elif event is not None:
                self.end(live, event)

    def end(self, live: LiveSession, event: SessionInput) -> None:
        """End a session in the background; does nothing for one that has ended."""
        if live.session.handle(event):
            self._forget_answers(live)
            live.finished = self._spawner.spawn(
                self._finish(live, END_REASONS[event]), name=f"finish {live.session.id}"
            )

    def settle_soon(self, live: LiveSession) -> None:
        """Decode and store what a session has, with all others that have packets by then."""
        self._unsettled.append(live)
        if len(self._unsettled) == 1:
            self._spawner.soon(self._settle)

    def release(self, attempt: Attempt) -> None:
        """Close a connection that serves nothing any more, in the background."""
        self._answers.pop(attempt.offer, None)
        self._spawner.spawn(attempt.connection.close(), name="close connection")

    async def shut_down(self) -> None:
        """Take no more offers, complete all recordings and release everything."""
        self._closing = True
        # what is on its way still belongs to the recordings
        drains = [
            self._spawner.spawn(attempt.connection.drain(), name="drain")
            for live in self._sessions.values()
            for attempt in live.attempts
        ]
        for drain in drains:
            await drain
        for live in list(self._sessions.values()):
            self.end(live, SessionInput.SHUT_DOWN)
        await self._spawner.join()

    def fault(self, live: LiveSession, error: Exception) -> None:
        """A fault in this program while it served a session: that session ends, no other."""
        self._events.publish(SessionFailed(live.session.id, error))
        self.end(live, SessionInput.FAILED)

    def _settle(self) -> None:
        together = self._unsettled[:_TOGETHER]
        del self._unsettled[:_TOGETHER]
        for live in together:
            live.decode()
        for live in together:
            live.store()
        if self._unsettled:
            self._spawner.soon(self._settle)

    async def _answer(
        self, key: str, answering: _Answering, sdp: str, name: str, resume: str | None
    ) -> None:
        try:
            live = self._resumable(resume) if resume is not None else None
            answering.accepted = await self._accept(key, sdp, name, resume, live)
        except Exception as error:
            answering.error = error
            del self._answers[key]
        finally:
            answering.done = None  # it lives as long as the session, and need not with it

    async def _accept(
        self, key: str, sdp: str, name: str, resume: str | None, live: LiveSession | None
    ) -> Accepted:
        self._refuse_when_closing()
        if live is None:
            if self.places_taken >= self._settings.max_sessions:
                raise ServerFull(f"all {self._settings.max_sessions} sessions are taken")
            self._store.check_room()
        session_id = self._new_secret(_ID_BYTES) if live is None else live.session.id
        ice_servers = self._ice_servers(session_id)
        self._being_offered += live is None
        try:
            connection = await self._transport.accept(sdp, ice_servers=ice_servers)
        finally:
            self._being_offered -= live is None
        try:
            self._refuse_when_closing()
            if live is not None:
                if live.session.state is SessionState.ENDED:
                    raise SessionUnknown("the session is over")
                if not live.processor.can_record(connection.tracks[0].codecs):
                    raise OfferRejected("the recording cannot go on with another codec")
            if live is None or resume is None:
                resume = self._new_secret(_RESUME_BYTES)
                live = self._open(session_id, name, resume)
        except BaseException:  # it is in nobody else's hands yet
            await connection.close()
            raise
        live.add_attempt(connection, offer=key, now=self._clock.monotonic())
        return Accepted(session_id, resume, connection.answer_sdp, connection.ice_tag, ice_servers)

    def _ice_servers(self, session_id: str) -> tuple[IceServer, ...]:
        until = self._clock.utc() + datetime.timedelta(seconds=self._settings.turn_ttl_s)
        return with_credentials(
            self._settings.ice_servers,
            secret=self._settings.turn_secret,
            name=session_id,
            until=until,
        )

    def _open(self, session_id: str, name: str, resume: str) -> LiveSession:
        session = Session(
            id=session_id,
            resume_digest=digest_of(resume),
            name=name,
            connect_deadline=self._clock.monotonic() + self._settings.connect_timeout_s,
            inactivity_timeout_s=self._settings.inactivity_timeout_s,
        )
        live = self._keep(session)
        self._events.publish(SessionOpened(session.id, name))
        return live

    def _take_up(self, interrupted: InterruptedRecording) -> None:
        now = self._clock.monotonic()
        session = Session(
            id=interrupted.info.id,
            resume_digest=interrupted.info.resume_digest,
            name="",
            connect_deadline=now,
            inactivity_timeout_s=self._settings.inactivity_timeout_s,
            state=SessionState.INTERRUPTED,
            active_at=now,
        )
        self._keep(session).processor.take_up(interrupted)

    def _keep(self, session: Session) -> LiveSession:
        live = LiveSession(
            session,
            self._processor(session),
            self,
            self._events,
            connect_timeout_s=self._settings.connect_timeout_s,
        )
        self._sessions[session.id] = live
        self._ids[session.resume_digest] = session.id
        return live

    def _forget_answers(self, live: LiveSession) -> None:
        """The same offer again is a new one."""
        for attempt in live.attempts:
            self._answers.pop(attempt.offer, None)

    def _resumable(self, resume: str) -> LiveSession:
        live = self._sessions.get(self._ids.get(digest_of(resume), ""))
        if live is None or live.session.state is SessionState.ENDED:
            raise SessionUnknown("the session to resume is over")
        return live

    def _refuse_when_closing(self) -> None:
        if self._closing:
            raise ServerFull("the server is shutting down")

    def _find(self, session_id: str) -> LiveSession:
        live = self._sessions.get(session_id)
        if live is None or live.session.state is SessionState.ENDED or not live.attempts:
            raise SessionUnknown("there is no such session, or it is over")
        return live

    async def _finish(self, live: LiveSession, reason: EndReason) -> None:
        session_id = live.session.id
        failure: Exception | None = None
        seconds = 0.0
        try:
            finished = await live.processor.end(reason, now=self._clock.monotonic())
            if finished is not None:
                seconds = finished.seconds
                self._events.publish(RecordingCompleted(session_id, 1, finished))
            failure = live.processor.failure
        except Exception as error:
            failure = error
        if failure is not None:
            self._events.publish(RecordingFailed(session_id, 1, failure))
        try:
            for attempt in live.attempts:
                await attempt.connection.close()
        finally:
            until = self._clock.monotonic() + _OUTCOME_S
            self._outcomes[session_id] = _Outcome(
                live.session.resume_digest, failure, seconds, until
            )
            del self._sessions[session_id]
            self._events.publish(SessionEnded(session_id, reason))

    def _processor(self, session: Session) -> AudioTrackProcessor:
        # a silence that is as long as a session may be without a packet is real, and is filled
        longest_s = self._settings.max_gap_s + self._settings.inactivity_timeout_s
        return AudioTrackProcessor(
            session_id=session.id,
            client_name=session.name,
            resume_digest=session.resume_digest,
            decoders=self._decoders,
            store=self._store,
            clock=self._clock,
            reorder_hold_s=self._settings.reorder_hold_s,
            max_gap_s=longest_s,
            keep_packets=self._settings.storage == "opus",
        )


class _Answering:
    """An offer on its way to an answer, for all who ask with the same one."""

    def __init__(self) -> None:
        self.done: Awaitable[None] | None = None
        """What to wait for, as long as there is neither of the others."""
        self.accepted: Accepted | None = None
        self.error: Exception | None = None
