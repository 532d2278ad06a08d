"""Each connection may number its sound anew; its offer says how that belongs to the spool."""

from __future__ import annotations

from dataclasses import replace

import pytest

from adapters.codec.decoders import make_decoder
from adapters.storage.memory import MemoryStore
from domain.recording.effects import EndReason, Placed
from domain.recording.ledger import LedgerEvent, RestoreMode, SampleKind
from domain.recording.restoring import ABOUT, LOOK_AHEAD, PLACED, Segment, SpoolInfo
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


def page(position: int, told_at: float, rate_hz: int = 48_000) -> SpoolInfo:
    """Return what a page says, which does not know its timestamps."""
    return SpoolInfo(None, AudioFormat(rate_hz, 1), position=position, told_at=told_at)


@pytest.mark.parametrize(("rate_hz", "position"), [(48_000, 96_000), (44_100, 88_200)])
def test_the_time_since_the_offer_tells_about_where_sound_is(rate_hz: int, position: int) -> None:
    segments: list[Segment] = []
    tracker = SpoolTracker(RestoreMode.ALL, segments.extend)
    tracker.connect(page(position, 10.0, rate_hz))
    event = tracker.placed(Placed(0, 0, 12_345, arrived=10.5))
    ticks = 96_000 + 24_000 - 960 - LOOK_AHEAD
    assert event is not None
    assert event.details == {"gap": 0, "ticks": ticks, "about": ABOUT}
    tracker.recorded(4800, SampleKind.RECEIVED)
    assert segments == [
        Segment(ticks, SampleKind.SILENCE, None, 0, ABOUT),
        Segment(4800, SampleKind.RECEIVED, 0, ticks, ABOUT),
    ]


def test_a_stall_is_in_the_spool_of_a_page_as_time() -> None:
    """The timestamps did not count it, but the page has filled its spool with silence."""
    segments: list[Segment] = []
    tracker = SpoolTracker(RestoreMode.ALL, segments.extend)
    tracker.connect(page(0, 10.0))
    tracker.placed(Placed(0, 0, 0, arrived=11.0))
    tracker.recorded(9600, SampleKind.RECEIVED)
    first = segments[-1].captured
    assert first is not None
    event = tracker.placed(Placed(9600, 24_000, 9600, arrived=11.7))
    assert event is not None
    assert event.details["ticks"] == first + 9600 + 24_000
    tracker.recorded(24_000, SampleKind.SILENCE)
    tracker.recorded(960, SampleKind.RECEIVED)
    assert segments[-2:] == [
        Segment(24_000, SampleKind.SILENCE, 9600, first + 9600, ABOUT),
        Segment(960, SampleKind.RECEIVED, 33_600, first + 33_600, ABOUT),
    ]


@pytest.mark.parametrize("early", [0, 9600])
def test_a_page_that_was_loaded_again_tells_a_new_position(early: int) -> None:
    """An estimate that is too early takes no sound away that was received."""
    segments: list[Segment] = []
    tracker = SpoolTracker(RestoreMode.ALL, segments.extend)
    tracker.connect(page(0, 10.0))
    tracker.placed(Placed(0, 0, 77, arrived=10.0))
    tracker.recorded(48_000, SampleKind.RECEIVED)
    tracker.connect(page(48_000 + 4800 - early, 11.2))
    tracker.placed(Placed(48_000, 4800, 3_000_000_000, arrived=11.2 + (960 + LOOK_AHEAD) / 48_000))
    tracker.recorded(4800, SampleKind.SILENCE)
    tracker.recorded(960, SampleKind.RECEIVED)
    at = 48_000 if early else 52_800
    assert segments[-1] == Segment(960, SampleKind.RECEIVED, 52_800, at, ABOUT)
    received = [item for item in segments if item.kind is SampleKind.RECEIVED]
    assert sum(item.length for item in received) == 48_960


def test_a_page_goes_on_with_a_recording_of_a_server_that_was_killed() -> None:
    segments: list[Segment] = []
    tracker = SpoolTracker(RestoreMode.ALL, segments.extend)
    placed = LedgerEvent(PLACED, 0, {"gap": 0, "ticks": 5000, "about": ABOUT})
    tracker.resume(placed, 48_000)
    tracker.connect(page(100_000, 10.0))
    tracker.placed(Placed(48_000, 40_000, 7, arrived=10.0 + (960 + LOOK_AHEAD) / 48_000))
    tracker.recorded(40_000, SampleKind.SILENCE)
    tracker.recorded(960, SampleKind.RECEIVED)
    assert segments[-1] == Segment(960, SampleKind.RECEIVED, 88_000, 100_000, ABOUT)
    lost = [(item.captured, item.length) for item in segments[:-1]]
    assert lost == [(53_000, 40_000), (93_000, 7000)]


def test_a_connection_without_a_spool_is_not_placed() -> None:
    tracker = SpoolTracker(RestoreMode.ALL, lambda _: None)
    tracker.connect(page(0, 10.0))
    tracker.connect(None)
    assert tracker.placed(Placed(0, 0, 0, arrived=10.0)) is None
