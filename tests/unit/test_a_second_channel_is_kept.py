"""A sender that begins to send a second channel, and one that nobody knows the channels of."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from adapters.codec.libopus import OpusDecoder
from adapters.storage.memory import MemoryRecording, MemoryStore
from domain.events.server import (
    PartCompleted,
    TrackFormatChanged,
)
from domain.rtp.packets import RtpPacket
from domain.sound.detection import Stereo
from domain.sound.formats import AudioFormat
from tests.rigs import tracks
from tests.rigs.sound import encode, speech

MONO, STEREO = AudioFormat(48_000, 1), AudioFormat(48_000, 2)
FRAME = 960
Samples = npt.NDArray[np.int16]

VOICE = speech(6)
ONE = encode(VOICE)
TWO = encode(np.hstack([VOICE, -VOICE]))
"""Opposite channels: their average is silence."""
TWICE = encode(np.hstack([VOICE, VOICE]))
"""One sound in two equal channels, as Firefox sends it."""
QUIET = encode(np.zeros((6 * 48_000, 2), np.int16))


class OpusTrack(tracks.OpusTrack):
    """A track that is recorded in memory."""

    def __init__(self, stereo: Stereo = Stereo.UNINVITED, *, fmtp: dict[str, str] | None = None):
        self.store = MemoryStore()
        super().__init__(self.store, stereo, fmtp=fmtp)

    async def recorded(self) -> MemoryRecording:
        completed = await self.end()
        (stored,) = self.store.recordings.values()
        assert completed.length == len(stored.samples)
        return stored


def decoded(payloads: list[bytes], channels: int) -> Samples:
    decoder = OpusDecoder(AudioFormat(48_000, channels))
    for payload in payloads:
        decoder.decode(payload)
    return np.concatenate(decoder.collect())  # type: ignore[arg-type]


def channel_events(stored: MemoryRecording) -> list[dict[str, object]]:
    return [event for event in stored.ledger["events"] if event["type"] == "channels"]


def kinds(stored: MemoryRecording) -> list[tuple[int, int, str]]:
    return [(s["start"], s["length"], s["kind"]) for s in stored.ledger["spans"]]


def parts(stored: MemoryRecording) -> list[tuple[int, int, int]]:
    """Start, length and channels of each part."""
    return [
        (part.start, part.length, stored.part_samples(part.number).shape[1])
        for part in stored.parts
    ]


# -- what was negotiated, and what comes -------------------------------------------------------


@pytest.mark.parametrize("mono", [1, 5, 100])
async def test_a_second_channel_begins_a_part_at_its_first_sample(mono: int) -> None:
    track = OpusTrack()
    payloads = ONE[:mono] + TWO[mono:200]
    track.receive(payloads)
    assert track.processor.format == STEREO
    stored = await track.recorded()
    assert parts(stored) == [(0, mono * FRAME, 1), (mono * FRAME, (200 - mono) * FRAME, 2)]
    assert kinds(stored) == [(0, 200 * FRAME, "received")]
    (event,) = channel_events(stored)
    assert (event["position"], event["channels"]) == (mono * FRAME, 2)
    np.testing.assert_array_equal(stored.part_samples(1), decoded(ONE[:mono], 1))
    told = [event for event in track.seen.events if isinstance(event, PartCompleted)]
    assert [(event.part.number, event.is_last) for event in told] == [(1, False), (2, True)]
    (changed,) = [event for event in track.seen.events if isinstance(event, TrackFormatChanged)]
    assert changed.format == STEREO


@pytest.mark.parametrize("mono", [5, 15])
async def test_the_sound_goes_on_as_if_one_decoder_had_decoded_everything(mono: int) -> None:
    track = OpusTrack()
    payloads = ONE[:mono] + TWO[mono:100]
    track.receive(payloads)
    stored = await track.recorded()
    whole = decoded(payloads, 2)
    np.testing.assert_array_equal(stored.part_samples(2), whole[mono * FRAME :])


async def test_the_sound_goes_on_after_a_long_time_in_mono() -> None:
    track = OpusTrack()
    payloads = ONE[:150] + TWO[150:200]
    track.receive(payloads)
    stored = await track.recorded()
    apart = stored.part_samples(2).astype(int) - decoded(payloads, 2)[150 * FRAME :]
    assert np.abs(apart).max() < 33  # 0.1 % of full scale


async def test_mono_packets_do_not_end_a_part_with_two_channels() -> None:
    track = OpusTrack()
    payloads = ONE[:50] + TWO[50:100] + ONE[100:150] + TWO[150:200]
    track.receive(payloads)
    stored = await track.recorded()
    assert parts(stored) == [(0, 50 * FRAME, 1), (50 * FRAME, 150 * FRAME, 2)]
    assert len(channel_events(stored)) == 1
    both = stored.part_samples(2)
    np.testing.assert_array_equal(
        both[60 * FRAME : 90 * FRAME, 0], both[60 * FRAME : 90 * FRAME, 1]
    )
    late = both[120 * FRAME :].astype(int)
    assert np.abs(late[:, 0] - late[:, 1]).max() > 1000


@pytest.mark.parametrize(
    ("stereo", "fmtp"),
    [
        (Stereo.EXPECTED, {}),
        (Stereo.EXPECTED, {"sprop-stereo": "1"}),
        (Stereo.UNINVITED, {"sprop-stereo": "1"}),
    ],
)
async def test_two_channels_are_decoded_from_the_first_packet_where_they_were_agreed(
    stereo: Stereo, fmtp: dict[str, str]
) -> None:
    track = OpusTrack(stereo, fmtp=fmtp)
    payloads = ONE[:5] + TWO[5:100]
    track.receive(payloads)
    stored = await track.recorded()
    assert parts(stored) == [(0, 100 * FRAME, 2)]
    np.testing.assert_array_equal(stored.samples, decoded(payloads, 2))
    assert channel_events(stored) == []


async def test_a_sender_that_announces_mono_is_recorded_as_mono_until_it_sends_more() -> None:
    track = OpusTrack(Stereo.EXPECTED, fmtp={"sprop-stereo": "0"})
    track.receive(ONE[:50] + TWO[50:100])
    stored = await track.recorded()
    assert parts(stored) == [(0, 50 * FRAME, 1), (50 * FRAME, 50 * FRAME, 2)]


async def test_a_payload_that_is_no_packet_does_not_change_the_channels() -> None:
    track = OpusTrack()
    code_3_without_count, of_300_ms = b"\xff", bytes([0xFF, 15])
    track.receive([*ONE[:20], code_3_without_count, of_300_ms, b"", *ONE[23:50]])
    stored = await track.recorded()
    assert parts(stored) == [(0, 50 * FRAME, 1)]
    told = [e for e in stored.ledger["events"] if e["type"] == "packets left out"]
    assert [event["rejected_payload"] for event in told] == [2]


async def test_loss_before_the_second_channel_is_rebuilt_in_its_part() -> None:
    track = OpusTrack()
    track.receive(ONE[:50])
    track.skip(3)
    track.receive(TWO[53:100])
    stored = await track.recorded()
    assert len(stored.samples) == 100 * FRAME
    (event,) = channel_events(stored)
    assert event["position"] == 50 * FRAME
    assert [kind for _, _, kind in kinds(stored)] in (
        ["received", "concealed", "recovered", "received"],
        ["received", "concealed", "received"],
    )


async def test_a_stall_before_the_second_channel_stays_before_it() -> None:
    track = OpusTrack()
    track.receive(ONE[:100])
    track.clock.advance(3.0)  # the sender stalls: its timestamps do not go on
    track.receive(TWO[100:200])
    stored = await track.recorded()
    silent = [(start, length) for start, length, kind in kinds(stored) if kind == "silence"]
    assert silent == [(100 * FRAME, pytest.approx(3 * 48_000, abs=2000))]
    (event,) = channel_events(stored)
    assert event["position"] == silent[0][0] + silent[0][1]
    assert stored.parts[1].length == 100 * FRAME


async def test_other_codecs_have_no_stereo_bit() -> None:
    track = OpusTrack()
    for n in range(50):
        packet = RtpPacket(0, n, n * 160, 1, bytes([0xFF]) * 160, arrived=track.clock.now)
        track.processor.packets_received([packet])
        track.wait(0.02)
    stored = await track.recorded()
    assert [part.length for part in stored.parts] == [50 * 160]
    assert stored.info.format == AudioFormat(8000, 1)


# -- only the sound can tell -------------------------------------------------------------------


async def test_one_sound_in_two_equal_channels_becomes_mono() -> None:
    track = OpusTrack(Stereo.UNCERTAIN)
    track.receive(TWICE[:200])
    assert track.seen.started == [MONO]
    stored = await track.recorded()
    assert parts(stored) == [(0, 200 * FRAME, 1)]
    assert kinds(stored) == [(0, 200 * FRAME, "received")]
    both = decoded(TWICE[:200], 2).astype(int)
    assert np.abs(stored.samples[:, 0].astype(int) * 2 - both.sum(axis=1)).max() <= 1
    assert channel_events(stored) == []


async def test_two_channels_are_kept_from_the_first_sample() -> None:
    track = OpusTrack(Stereo.UNCERTAIN)
    track.receive(TWO[:200])
    assert track.seen.started == [STEREO]
    stored = await track.recorded()
    assert parts(stored) == [(0, 200 * FRAME, 2)]
    np.testing.assert_array_equal(stored.samples, decoded(TWO[:200], 2))
    assert channel_events(stored) == []


async def test_a_recording_begins_as_mono_if_nothing_is_heard_for_a_second() -> None:
    track = OpusTrack(Stereo.UNCERTAIN)
    began = track.clock.now
    for payload in QUIET[:200]:
        track.receive([payload])
        if track.seen.started:
            break
    hold_s = 1.0 + 0.2  # the first packet itself waits for those before it
    assert track.clock.now - began <= hold_s
    assert track.seen.started == [MONO]


async def test_sound_that_pauses_is_not_held_back_for_longer() -> None:
    track = OpusTrack(Stereo.UNCERTAIN)
    track.receive(TWICE[:30:10])
    track.wait(0.5)
    assert track.seen.started == []
    track.wait(0.8)
    assert track.seen.started == [MONO]


async def test_a_recording_that_ends_before_the_verdict_has_all_its_sound_and_counts() -> None:
    track = OpusTrack(Stereo.UNCERTAIN)
    track.receive([*TWICE[:4], b"\xff", *TWICE[5:8]])
    stored = await track.recorded()
    assert parts(stored) == [(0, 8 * FRAME, 1)]
    assert "packets left out" in [event["type"] for event in stored.ledger["events"]]


@pytest.mark.parametrize("mono", [60, 77, 150])
async def test_a_second_channel_that_comes_later_begins_a_part_before_it(mono: int) -> None:
    track = OpusTrack(Stereo.UNCERTAIN)
    payloads = TWICE[:mono] + TWO[mono:250]
    track.receive(payloads)
    assert track.seen.started == [MONO]
    stored = await track.recorded()
    (first, second) = stored.parts
    assert (first.length + second.length, second.start) == (250 * FRAME, first.length)
    # the encoders differ: the first packets of the other one may sound equal
    assert 0 <= second.start - mono * FRAME <= 2 * FRAME
    (event,) = channel_events(stored)
    assert event["position"] == second.start
    both = decoded(payloads, 2)
    np.testing.assert_array_equal(stored.part_samples(2), both[second.start :])


async def test_channels_that_differ_for_a_moment_only_do_not_matter() -> None:
    track = OpusTrack(Stereo.UNCERTAIN)
    payloads = TWICE[:60] + TWO[60:62] + TWICE[62:200]
    track.receive(payloads)
    stored = await track.recorded()
    assert len(stored.samples) == 200 * FRAME
    assert kinds(stored) == [(0, 200 * FRAME, "received")]


async def test_breaks_and_losses_during_the_hold_are_kept_in_order() -> None:
    track = OpusTrack(Stereo.UNCERTAIN)
    track.receive(TWICE[:10])
    track.skip(4)
    track.receive(TWICE[14:60])
    stored = await track.recorded()
    assert len(stored.samples) == 60 * FRAME
    assert kinds(stored)[0][2] == "received"
    assert sum(length for _, length, kind in kinds(stored) if kind == "received") == 56 * FRAME
    assert stored.ledger["events"][0]["type"] == "anchor"


async def test_a_connection_on_which_the_channels_are_uncertain_may_follow_one_in_mono() -> None:
    track = OpusTrack(Stereo.UNINVITED)
    track.receive(ONE[:60])
    track.connect(Stereo.UNCERTAIN)
    track.receive(TWICE[60:120])
    stored = await track.recorded()
    assert {channels for _, _, channels in parts(stored)} == {1}
    track = OpusTrack(Stereo.UNINVITED)
    track.receive(ONE[:60])
    track.connect(Stereo.UNCERTAIN)
    track.receive(TWO[60:120])
    stored = await track.recorded()
    assert [channels for _, _, channels in parts(stored)] == [1, 2]


async def test_others_are_never_held_back() -> None:
    for stereo in (Stereo.UNINVITED, Stereo.EXPECTED):
        uncertain, other = OpusTrack(Stereo.UNCERTAIN), OpusTrack(stereo)
        for track in (uncertain, other):
            track.receive(TWICE[:14])
        assert (len(uncertain.seen.started), len(other.seen.started)) == (0, 1)
        (live,) = other.store.live.values()
        assert live.length > 0
