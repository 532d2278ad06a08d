"""Each connection may number its sound anew; its offer says how that belongs to the spool."""

from __future__ import annotations

from dataclasses import replace

import pytest

from adapters.codec.decoders import make_decoder
from adapters.storage.memory import MemoryStore
from domain.recording.effects import EndReason
from domain.recording.ledger import RestoreMode, SampleKind
from domain.recording.restoring import LOOK_AHEAD, PLACED, Segment, SpoolInfo
from domain.rtp.packets import RtpPacket
from domain.services.server.spool_tracker import SpoolTracker
from domain.services.server.track_identity import TrackIdentity
from domain.services.server.track_processor import AudioTrackProcessor
from domain.session.policy import SessionPolicy
from domain.sound.detection import Stereo
from domain.sound.formats import AudioFormat
from tests.fakes.events import SeenByServer
from tests.fakes.media import OPUS
from tests.fakes.time import FakeClock
from tests.rigs.sound import encode, speech

FRAMES = 20
ORIGINS = [7_000, 2**32 - 5_000, 3_000_000_000]


@pytest.mark.parametrize("stereo", [Stereo.UNINVITED, Stereo.UNCERTAIN])
@pytest.mark.parametrize("pause_s", [0.0, 0.4])
async def test_sound_that_is_held_back_belongs_to_the_connection_that_brought_it(
    stereo: Stereo, pause_s: float
) -> None:
    segments: list[Segment] = []
    clock, store = FakeClock(), MemoryStore()
    track = AudioTrackProcessor(
        TrackIdentity(session_id="session", resume_digest=""),
        SessionPolicy(),
        decoders=make_decoder,
        store=store,
        clock=clock,
        events=SeenByServer(),
        spool=SpoolTracker(RestoreMode.LOST, segments.extend),
    )
    payloads = encode(speech(FRAMES * len(ORIGINS) * 0.02))
    codec = replace(OPUS, stereo=stereo)
    for number, origin in enumerate(ORIGINS):
        spool = SpoolInfo(origin, AudioFormat(48_000, 1))
        track.connect({OPUS.payload_type: codec}, number=number + 1, now=clock.now, spool=spool)
        for n in range(number * FRAMES, (number + 1) * FRAMES):
            if n % FRAMES == FRAMES - 5:
                clock.advance(pause_s)  # a late packet is held back until it is clear why
            timestamp = (origin + n * 960) % 2**32
            packet = RtpPacket(OPUS.payload_type, n, timestamp, number + 1, payloads[n])
            track.packets_received([replace(packet, arrived=clock.now)])
            clock.advance(0.02 if n % FRAMES < FRAMES - 5 else 0.0)
            track.poll(now=clock.now)
            track.decode()
            track.store()
    await track.end(EndReason.CLOSED, now=clock.now)
    received = [item for item in segments if item.kind is SampleKind.RECEIVED]
    assert received[0].captured == 0
    assert received[-1].captured is not None
    end = received[-1].captured + received[-1].length
    assert end == FRAMES * len(ORIGINS) * 960 - LOOK_AHEAD
    (stored,) = store.recordings.values()
    placed = [event for event in stored.ledger["events"] if event["type"] == PLACED]
    assert placed[0]["ticks"] == -LOOK_AHEAD
    assert all(event["ticks"] < end for event in placed)
