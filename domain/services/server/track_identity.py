"""Whose track is recorded, and what is known of its recording when it begins."""

from __future__ import annotations

import datetime
from dataclasses import dataclass, replace

from domain.recording.ledger import Container, RecordingInfo, RestoreMode
from domain.recording.naming import recording_id, recording_name
from domain.session.titles import title_of
from domain.sound.detection import CodecParameters, Stereo, detect_format


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackIdentity:
    """Identifies the track, its session and its client."""

    session_id: str
    track: int = 1
    """Its number in the session, from 1."""
    client_name: str = ""
    room: str = ""
    resume_digest: str = ""
    """SHA-256 (hex) of the secret with which the client can resume the session."""

    def new_recording(
        self,
        codec: CodecParameters,
        first_payload: bytes,
        *,
        started_at: datetime.datetime,
        keep_packets: bool,
        restore: RestoreMode = RestoreMode.OFF,
    ) -> RecordingInfo:
        """Return the facts about a recording that begins with this payload.

        Raises `PayloadInvalid` if it cannot be a payload of the codec.
        """
        audio_format = detect_format(codec, first_payload)
        if codec.stereo is Stereo.UNCERTAIN:
            audio_format = replace(audio_format, channels=2)  # unless its sound says otherwise
        keep_packets = keep_packets and codec.name == "opus"
        return RecordingInfo(
            id=recording_id(self.session_id, self.track),
            name=recording_name(
                started_at=started_at,
                client_name=self.client_name,
                session_id=self.session_id,
                track=self.track,
            ),
            format=audio_format,
            codec=codec.name,
            started_at=started_at,
            resume_digest=self.resume_digest,
            container=Container.OGG if keep_packets else Container.WAV,
            session_id=self.session_id,
            track=self.track,
            room=self.room,
            title=title_of(self.client_name),
            restore=restore if codec.name == "opus" else RestoreMode.OFF,
        )
