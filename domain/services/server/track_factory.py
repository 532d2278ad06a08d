"""Makes the processors of a session's tracks."""

from __future__ import annotations

from domain.ports.clock import Clock
from domain.ports.codec import DecoderFactory
from domain.ports.events import EventPublisher
from domain.ports.storage import RecordingStore
from domain.services.server.restoring import RestoreService
from domain.services.server.track_identity import TrackIdentity
from domain.services.server.track_processor import AudioTrackProcessor
from domain.session.policy import SessionPolicy
from domain.session.session import Session


class TrackFactory:
    """Knows what all tracks need."""

    def __init__(
        self,
        policy: SessionPolicy,
        *,
        decoders: DecoderFactory,
        store: RecordingStore,
        clock: Clock,
        events: EventPublisher,
        restoring: RestoreService,
    ) -> None:
        self._policy = policy
        self._decoders = decoders
        self._store = store
        self._clock = clock
        self._events = events
        self._restoring = restoring

    def new(self, session: Session, number: int) -> AudioTrackProcessor:
        """Make the processor of the track with this number, which counts from 1."""
        identity = TrackIdentity(
            session_id=session.id,
            track=number,
            client_name=session.name,
            room=session.room,
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
