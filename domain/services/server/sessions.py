"""The server's sessions. An offer opens or resumes a session; each track has a recording."""

from __future__ import annotations

import contextlib
import datetime
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from domain.errors import OfferRejected, ServerFull, SessionUnknown
from domain.events.server import (
    ConnectionAdded,
    RecordingCompleted,
    SessionDeleted,
    SessionEnded,
    SessionOpened,
)
from domain.ports.clock import Clock, Spawner
from domain.ports.codec import DecoderFactory
from domain.ports.events import EventPublisher
from domain.ports.signaling import ServerConnection, ServerTransport
from domain.ports.storage import InterruptedRecording, RecordingStore
from domain.recording.effects import EndReason
from domain.recording.naming import client_name_in
from domain.recording.restoring import SpoolInfo
from domain.services.server.answers import Accepted, Answers
from domain.services.server.delivery import Delivery, DeliverySink
from domain.services.server.live_session import (
    End,
    LiveSession,
    Release,
    ServiceEffect,
    SessionConnection,
)
from domain.services.server.outcomes import Outcome, Outcomes
from domain.services.server.restoring import RestoreService
from domain.services.server.track_identity import TrackIdentity
from domain.services.server.track_processor import AudioTrackProcessor
from domain.session.caller import UNKNOWN, Caller
from domain.session.ice import IceCandidate, IceDescription
from domain.session.placement import id_of
from domain.session.policy import SessionPolicy
from domain.session.session import END_REASONS, Session, SessionInput, SessionState, digest_of
from domain.session.turn import IceServerList

_RESUME_BYTES = 32


class SessionService:
    """Accepts offers, and owns the sessions until they end.

    Call `tick` a few times a second: it applies the deadlines.
    """

    def __init__(
        self,
        *,
        policy: SessionPolicy,
        ice_servers: IceServerList,
        transport: ServerTransport,
        decoders: DecoderFactory,
        store: RecordingStore,
        clock: Clock,
        spawner: Spawner,
        events: EventPublisher,
        new_secret: Callable[[int], str],
        restoring: RestoreService,
    ) -> None:
        self._policy = policy
        self._ice_servers = ice_servers
        self._transport = transport
        self._decoders = decoders
        self._store = store
        self._clock = clock
        self._spawner = spawner
        self._events = events
        self._new_secret = new_secret
        self._restoring = restoring
        self._answers = Answers(spawner)
        self._delivery = Delivery(clock, spawner, self._apply)
        self._sessions: dict[str, LiveSession] = {}
        self._ids: dict[str, str] = {}  # session ids by the digests of their secrets
        self._outcomes = Outcomes()
        self._being_offered = 0
        self._closing = False

    @property
    def session_count(self) -> int:
        """The number of sessions that have not ended."""
        return sum(live.session.state is not SessionState.ENDED for live in self._sessions.values())

    @property
    def places_taken(self) -> int:
        """The number of sessions, including those that are being opened or completed."""
        return len(self._sessions) + self._being_offered

    def states(self) -> dict[str, int]:
        """Return the number of sessions in each state, except ended ones."""
        counts = Counter(live.session.state for live in self._sessions.values())
        return {
            state.value: counts[state] for state in SessionState if state is not SessionState.ENDED
        }

    def recover(self) -> None:
        """Complete the recordings of earlier processes, or keep them open for their clients.

        Call it before the first offer.
        """
        since = self._clock.utc() - datetime.timedelta(seconds=self._policy.max_gap_s)
        found = self._store.recover(resumable_since=since)
        self._restoring.recover({item.info.session_id for item in found.interrupted})
        for interrupted in found.interrupted:
            self._resume_interrupted(interrupted)
        for event in found.events():
            self._events.publish(event)

    async def offer(
        self,
        sdp: str,
        *,
        name: str,
        resume: str | None = None,
        spool: SpoolInfo | None = None,
        caller: Caller = UNKNOWN,
    ) -> Accepted:
        """Answer an offer: open a session, or add a connection to the one that `resume` opens.

        `spool` is where the client keeps what it captures, if it does. The same offer gets the same
        answer, as long as its session lives. Raises `OfferRejected`, `SessionUnknown`, `ServerFull`
        or `StorageFull`.
        """
        offer = digest_of(f"{resume or ''} {sdp}")
        return await self._answers.get(
            offer, lambda: self._accept(offer, sdp, name, resume, spool, caller)
        )

    def add_candidate(self, session_id: str, candidate: IceCandidate) -> None:
        """Pass a client's candidate to its latest connection.

        Raises `SessionUnknown` or `CandidateRejected`.
        """
        self._find(session_id).latest.add_candidate(candidate)

    def connection_of(self, secret: str) -> ServerConnection:
        """Return the latest connection of the session that `secret` opens.

        Raises `SessionUnknown`.
        """
        return self._find(self.session_of(secret)).latest

    async def restart_ice(self, secret: str, remote: IceDescription) -> IceDescription:
        """Restart ICE on the latest connection of a session, with fresh TURN credentials.

        Raises `SessionUnknown` or `CandidateRejected`.
        """
        connection = self.connection_of(secret)
        servers = self._ice_servers.for_session(self.session_of(secret), now=self._clock.utc())
        return await connection.restart_ice(remote, ice_servers=servers)

    def session_of(self, secret: str) -> str:
        """Return the id of the session that `secret` opens. Raises `SessionUnknown`."""
        session_id = self._ids.get(digest_of(secret))
        if session_id is None:
            raise SessionUnknown("there is no such session, or it is over")
        return session_id

    async def delete(self, session_id: str, *, caller: Caller = UNKNOWN) -> float:
        """End a session as its client asks; return the seconds of its longest recording.

        Returns when the recordings are complete, after packets in flight have arrived. If the
        session has ended already, returns its outcome, which is kept for a while. Raises
        `SessionUnknown` after that, and `RecordingIncomplete`.
        """
        if session_id not in self._outcomes:
            live = self._sessions.get(session_id)
            if live is None:
                raise SessionUnknown("there is no such session, or it is over")
            await self._all([item.connection.drain() for item in live.connections], name="drain")
            if live.session.state is not SessionState.ENDED:
                self._events.publish(SessionDeleted(session_id, caller))
            self._end(live, SessionInput.DELETED)
            assert live.finished is not None
            await live.finished
        return self._outcomes.seconds(session_id)

    def tick(self) -> None:
        """Apply the deadlines, and publish the events of the store."""
        for event in self._store.poll_events():
            self._events.publish(event)
        now = self._clock.monotonic()
        for resume_digest in self._outcomes.expire(now=now):
            del self._ids[resume_digest]
        self._restoring.tick()
        # a packet that arrived before this time has been read by now
        read_until = now - self._transport.max_read_delay_s
        for live in list(self._sessions.values()):
            self._delivery.release_overdue(live, now=read_until)
            self._delivery.apply(live, live.expire(now=now))

    async def shut_down(self) -> None:
        """Accept no more offers, complete all recordings and release everything."""
        self._closing = True
        # packets in flight still belong to the recordings
        connections = [
            item.connection for live in self._sessions.values() for item in live.connections
        ]
        await self._all([connection.drain() for connection in connections], name="drain")
        ending = list(self._sessions.values())
        for live in ending:
            self._end(live, SessionInput.SHUT_DOWN)
        for live in ending:
            assert live.finished is not None
            with contextlib.suppress(Exception):  # the spawner logs it
                await live.finished
        await self._restoring.shut_down()
        await self._spawner.join()

    # -- offers --------------------------------------------------------------------------------

    async def _accept(
        self,
        offer: str,
        sdp: str,
        name: str,
        resume: str | None,
        spool: SpoolInfo | None,
        caller: Caller,
    ) -> Accepted:
        live = self._resumable(resume) if resume is not None else None
        if live is not None:
            self._restoring.check_spool(live.session.id, spool)
        self._refuse_when_closing()
        if live is None:
            if self.places_taken >= self._policy.max_sessions:
                raise ServerFull(f"all {self._policy.max_sessions} sessions are taken")
            self._store.check_room()
        secret = resume if resume is not None else self._new_secret(_RESUME_BYTES)
        session_id = id_of(secret) if live is None else live.session.id
        servers = self._ice_servers.for_session(session_id, now=self._clock.utc())
        self._being_offered += live is None
        try:
            connection = await self._transport.accept(
                sdp, ice_servers=servers, codecs=() if live is None else live.codec_names
            )
        finally:
            self._being_offered -= live is None
        try:
            self._refuse_when_closing()
            if live is not None:
                if live.session.state is SessionState.ENDED:
                    raise SessionUnknown("the session is over")
                if not live.can_use(connection):
                    raise OfferRejected("the recording cannot continue with another codec")
            if live is None:
                if spool is not None:
                    await self._begin_restoring(session_id, secret, name, spool)
                live = self._open(session_id, name, secret, caller)
        except BaseException:  # no session owns the connection yet
            await connection.close()
            raise
        self._add_connection(live, connection, offer, spool)
        if resume is not None:
            self._events.publish(ConnectionAdded(session_id, caller))
        return Accepted(session_id, secret, connection.answer_sdp, connection.ice_tag, servers)

    async def _begin_restoring(
        self, session_id: str, resume: str, name: str, spool: SpoolInfo
    ) -> None:
        self._being_offered += 1  # it waits for the disk, and other offers come
        try:
            await self._restoring.begin(
                session_id=session_id, resume_digest=digest_of(resume), name=name, spool=spool
            )
        finally:
            self._being_offered -= 1
        self._refuse_when_closing()

    def _add_connection(
        self,
        live: LiveSession,
        connection: ServerConnection,
        offer: str,
        spool: SpoolInfo | None,
    ) -> None:
        now = self._clock.monotonic()
        added, effects = live.add_connection(connection, offer=offer, now=now, spool=spool)
        self._delivery.apply(live, effects)
        connection.start(DeliverySink(self._delivery, live, added))

    def _open(self, session_id: str, name: str, resume: str, caller: Caller) -> LiveSession:
        now = self._clock.monotonic()
        session = Session(
            id=session_id,
            resume_digest=digest_of(resume),
            name=name,
            connect_deadline=now + self._policy.connect_timeout_s,
            inactivity_timeout_s=self._policy.inactivity_timeout_s,
        )
        live = self._keep(session)
        self._events.publish(SessionOpened(session.id, name, caller))
        return live

    def _resume_interrupted(self, interrupted: InterruptedRecording) -> None:
        now = self._clock.monotonic()
        info = interrupted.info
        live = self._sessions.get(info.session_id)
        if live is None:
            session = Session(
                id=info.session_id,
                resume_digest=info.resume_digest,
                name=client_name_in(info.name),
                connect_deadline=now,
                inactivity_timeout_s=self._policy.inactivity_timeout_s,
                state=SessionState.INTERRUPTED,
                active_at=now,
            )
            live = self._keep(session)
        live.resume(interrupted, track=info.track)

    def _keep(self, session: Session) -> LiveSession:
        live = LiveSession(
            session,
            lambda number: self._new_track(session, number),
            connect_timeout_s=self._policy.connect_timeout_s,
        )
        self._sessions[session.id] = live
        self._ids[session.resume_digest] = session.id
        return live

    def _new_track(self, session: Session, number: int) -> AudioTrackProcessor:
        identity = TrackIdentity(
            session_id=session.id,
            track=number,
            client_name=session.name,
            resume_digest=session.resume_digest,
        )
        return AudioTrackProcessor(
            identity,
            self._policy,
            decoders=self._decoders,
            store=self._store,
            clock=self._clock,
            events=self._events,
            spool=self._restoring.tracker(session.id) if number == 1 else None,
        )

    def _resumable(self, resume: str) -> LiveSession:
        live = self._sessions.get(self._ids.get(digest_of(resume), ""))
        if live is None or live.session.state is SessionState.ENDED:
            raise SessionUnknown("the session to resume is over")
        return live

    def _find(self, session_id: str) -> LiveSession:
        live = self._sessions.get(session_id)
        if live is None or live.session.state is SessionState.ENDED or not live.connections:
            raise SessionUnknown("there is no such session, or it is over")
        return live

    def _refuse_when_closing(self) -> None:
        if self._closing:
            raise ServerFull("the server is shutting down")

    # -- what sessions decide ------------------------------------------------------------------

    def _apply(self, live: LiveSession, effects: Sequence[ServiceEffect]) -> None:
        for effect in effects:
            match effect:
                case Release(connection):
                    self._release(connection)
                case End(cause, detail):
                    self._end(live, cause, detail)
                case event:
                    self._events.publish(event)

    def _release(self, connection: SessionConnection) -> None:
        self._answers.forget(connection.offer)
        self._spawner.spawn(connection.connection.close(), name="close connection")

    def _end(self, live: LiveSession, cause: SessionInput, detail: str | None = None) -> None:
        """End a session in the background; do nothing if it has ended."""
        if live.session.handle(cause):
            for connection in live.connections:
                self._answers.forget(connection.offer)
            live.finished = self._spawner.spawn(
                self._finish(live, END_REASONS[cause], detail), name=f"finish {live.session.id}"
            )

    async def _finish(self, live: LiveSession, reason: EndReason, detail: str | None) -> None:
        session, now = live.session, self._clock.monotonic()
        outcome = Outcome(session.resume_digest)
        await self._all(
            [
                self._end_track(live, number, reason, now=now, outcome=outcome)
                for number in range(1, len(live.tracks) + 1)
            ],
            name="end track",
        )
        await self._all([item.connection.close() for item in live.connections], name="close")
        self._outcomes.keep(session.id, outcome, now=self._clock.monotonic())
        del self._sessions[session.id]
        self._restoring.session_ended(session.id)
        self._events.publish(SessionEnded(session.id, reason, detail))

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
