"""The server's sessions. An offer opens or resumes a session; each track has a recording."""

from __future__ import annotations

import contextlib
import datetime
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

from domain.errors import OfferRejected, SessionUnknown
from domain.events.server import ConnectionAdded, SessionDeleted, SessionEnded, SessionOpened
from domain.ports.clock import Clock, Spawner
from domain.ports.codec import DecoderFactory
from domain.ports.events import EventPublisher
from domain.ports.signaling import ServerConnection, ServerTransport
from domain.ports.storage import InterruptedRecording, RecordingStore
from domain.recording.effects import EndReason
from domain.recording.naming import client_name_in
from domain.recording.restoring import SpoolInfo
from domain.services.server.admission import Admission
from domain.services.server.answers import Accepted, Answers
from domain.services.server.capture_reports import CaptureReports
from domain.services.server.delivery import Delivery, DeliverySink
from domain.services.server.ending import Ending, closed_on_error
from domain.services.server.live_session import (
    End,
    LiveSession,
    Release,
    ServiceEffect,
    SessionConnection,
)
from domain.services.server.outcomes import Outcomes
from domain.services.server.restoring import RestoreService
from domain.services.server.status import Earlier, SessionStatuses
from domain.services.server.track_factory import TrackFactory
from domain.session.caller import UNKNOWN, Caller
from domain.session.ice import IceCandidate, IceDescription
from domain.session.messages import Mailbox
from domain.session.placement import id_of
from domain.session.policy import SessionPolicy
from domain.session.session import END_REASONS, Session, SessionInput, SessionState, digest_of
from domain.session.status import SessionStatus
from domain.session.turn import IceServerList

_RESUME_BYTES = 32
_GAVE_WAY = "it had no media path yet, and others came"


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
        self._store = store
        self._clock = clock
        self._spawner = spawner
        self._events = events
        self._new_secret = new_secret
        self._restoring = restoring
        self._tracks = TrackFactory(
            policy, decoders=decoders, store=store, clock=clock, events=events, restoring=restoring
        )
        self._admission = Admission(policy)
        self._sessions: dict[str, LiveSession] = {}
        self._answers = Answers(clock, spawner, valid_s=policy.connect_timeout_s)
        self._delivery = Delivery(clock, spawner, self._apply)
        self._statuses = SessionStatuses(self._sessions, restoring, clock)
        self.capture = CaptureReports(self._statuses, clock, events)
        self._ending = Ending(clock, spawner, events, self._delivery)
        self._ids: dict[str, str] = {}  # session ids by the digests of their secrets
        self._outcomes = Outcomes()

    @property
    def session_count(self) -> int:
        """The number of sessions that have not ended."""
        return sum(live.session.state is not SessionState.ENDED for live in self._sessions.values())

    @property
    def places_taken(self) -> int:
        """The number of sessions, including those that are being opened or completed."""
        return self._admission.places_taken

    def states(self) -> dict[str, int]:
        """Return the number of sessions in each state, except ended ones."""
        counts = Counter(live.session.state for live in self._sessions.values())
        return {
            state.value: counts[state] for state in SessionState if state is not SessionState.ENDED
        }

    def statuses(self, since: Earlier | None = None) -> Sequence[SessionStatus]:
        """Return what each session is like, see `SessionStatuses.all`."""
        return self._statuses.all(since)

    def status(self, session_id: str) -> SessionStatus:
        """Return what a session is like, see `SessionStatuses.one`. Raises `SessionUnknown`."""
        return self._statuses.one(session_id)

    def mailbox_of(self, session_id: str) -> Mailbox:
        """Return the messages for the speaker of a session. Raises `SessionUnknown`."""
        return self._statuses.find(session_id).session.mailbox

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
        room: str = "",
        resume: str | None = None,
        spool: SpoolInfo | None = None,
        caller: Caller = UNKNOWN,
    ) -> Accepted:
        """Answer an offer: open a session, or add a connection to the one that `resume` opens.

        A session stays in the `room` in which it was opened. `spool` is where the client keeps
        what it captures, if it does. The same offer of the same caller gets the same answer for a
        while. Raises `OfferRejected`, `OfferRepeated`, `SessionUnknown`, `TooManyRequests`,
        `ServerFull` or `StorageFull`.
        """
        offer = digest_of(f"{resume or ''} {sdp}")
        if spool is not None:  # how long it takes to answer is known, too
            spool = replace(spool, told_at=self._clock.monotonic())
        return await self._answers.get(
            offer,
            caller,
            lambda: (
                self._accept_new(offer, sdp, name, room, spool, caller)
                if resume is None
                else self._accept_resuming(offer, sdp, resume, spool, caller)
            ),
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
        `SessionUnknown` after that, `RecordingIncomplete`, and `SessionCutOff`.
        """
        if session_id not in self._outcomes:
            live = self._sessions.get(session_id)
            if live is None:
                raise SessionUnknown("there is no such session, or it is over")
            await self._ending.drain([live])
            if live.session.state is not SessionState.ENDED:
                self._events.publish(SessionDeleted(session_id, caller))
            self._end(live, SessionInput.DELETED)
            assert live.finished is not None
            await live.finished
        return self._outcomes.seconds(session_id)

    def tick(self) -> None:
        """Apply the deadlines, and publish the events of the store."""
        for event in self._store.poll_events():
            self._statuses.note(event)
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
            self._admission.wrote(live.take_written(), now=now)

    async def shut_down(self) -> None:
        """Accept no more offers, complete all recordings and release everything."""
        self._admission.close()
        # packets in flight still belong to the recordings
        await self._ending.drain(list(self._sessions.values()))
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

    async def _accept_new(
        self, offer: str, sdp: str, name: str, room: str, spool: SpoolInfo | None, caller: Caller
    ) -> Accepted:
        self._store.check_room()
        secret = self._new_secret(_RESUME_BYTES)
        session_id = id_of(secret)
        gives_way = self._admission.admit(session_id, caller, now=self._clock.monotonic())
        if gives_way is not None:
            self._end(self._sessions[gives_way], SessionInput.GAVE_WAY, _GAVE_WAY)
        servers = self._ice_servers.for_session(session_id, now=self._clock.utc())
        try:
            connection = await self._transport.accept(sdp, ice_servers=servers)
            async with closed_on_error(connection):
                self._admission.check_open()
                if spool is not None:
                    await self._restoring.begin(
                        session_id=session_id,
                        resume_digest=digest_of(secret),
                        name=name,
                        room=room,
                        spool=spool,
                    )
                    self._admission.check_open()
        except BaseException:
            self._admission.leave(session_id)
            raise
        live = self._open(session_id, name, room, secret, caller)
        self._add_connection(live, connection, offer, spool)
        return Accepted(session_id, secret, connection.answer_sdp, connection.ice_tag, servers)

    async def _accept_resuming(
        self, offer: str, sdp: str, resume: str, spool: SpoolInfo | None, caller: Caller
    ) -> Accepted:
        live = self._resumable(resume)
        session_id = live.session.id
        self._restoring.check_spool(session_id, spool)
        self._admission.check_open()
        servers = self._ice_servers.for_session(session_id, now=self._clock.utc())
        connection = await self._transport.accept(sdp, ice_servers=servers, codecs=live.codec_names)
        async with closed_on_error(connection):
            self._admission.check_open()
            if live.session.state is SessionState.ENDED:
                raise SessionUnknown("the session is over")
            if not live.can_use(connection):
                raise OfferRejected("the recording cannot continue with another codec")
        self._add_connection(live, connection, offer, spool)
        self._events.publish(ConnectionAdded(session_id, caller))
        return Accepted(session_id, resume, connection.answer_sdp, connection.ice_tag, servers)

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

    def _open(
        self, session_id: str, name: str, room: str, resume: str, caller: Caller
    ) -> LiveSession:
        session = Session(
            id=session_id,
            resume_digest=digest_of(resume),
            name=name,
            room=room,
            connect_deadline=self._clock.monotonic() + self._policy.connect_timeout_s,
            inactivity_timeout_s=self._policy.inactivity_timeout_s,
            opened_at=self._clock.utc(),
        )
        live = self._keep(session)
        self._admission.opened(session)
        self._events.publish(SessionOpened(session.id, name, caller, room))
        return live

    def _resume_interrupted(self, interrupted: InterruptedRecording) -> None:
        now = self._clock.monotonic()
        info = interrupted.info
        live = self._sessions.get(info.session_id)
        if live is None:
            session = Session(
                id=info.session_id,
                resume_digest=info.resume_digest,
                name=info.title or client_name_in(info.name),
                room=info.room,
                connect_deadline=now,
                inactivity_timeout_s=self._policy.inactivity_timeout_s,
                state=SessionState.INTERRUPTED,
                active_at=now,
                opened_at=info.started_at,
            )
            live = self._keep(session)
            self._admission.keep(session)
        live.resume(interrupted, track=info.track)

    def _keep(self, session: Session) -> LiveSession:
        live = LiveSession(
            session,
            lambda number: self._tracks.new(session, number),
            connect_timeout_s=self._policy.connect_timeout_s,
            limits=self._policy.limits,
        )
        self._sessions[session.id] = live
        self._ids[session.resume_digest] = session.id
        return live

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
        session = live.session
        outcome = await self._ending.end(live, reason, detail)
        self._admission.wrote(live.take_written(), now=self._clock.monotonic())
        self._outcomes.keep(session.id, outcome, now=self._clock.monotonic())
        del self._sessions[session.id]
        self._admission.leave(session.id)
        self._restoring.session_ended(session.id)
        self._events.publish(SessionEnded(session.id, reason, detail))
