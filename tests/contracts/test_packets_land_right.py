"""Real codecs in the real receive path: all packet lengths, codecs and channel changes."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest

from adapters.codec.decoders import make_decoder
from adapters.codec.libopus import OpusEncoder
from adapters.storage.memory import MemoryRecording, MemoryStore
from domain.recording.effects import EndReason
from domain.rtp.packets import RtpPacket
from domain.services.server.track_identity import TrackIdentity
from domain.services.server.track_processor import AudioTrackProcessor
from domain.session.policy import SessionPolicy
from domain.sound.comparison import compare
from domain.sound.detection import CodecParameters
from domain.sound.formats import AudioFormat, AudioFrame
from tests.contracts.test_codec_contract import telephone_packets
from tests.fakes.events import SeenByServer
from tests.fakes.time import FakeClock
from tests.rigs.sound import RATE, speech

CODECS = {
    111: CodecParameters("opus", 111, 48_000, 2),
    0: CodecParameters("pcmu", 0, 8_000, 1),
    8: CodecParameters("pcma", 8, 8_000, 1),
    9: CodecParameters("g722", 9, 8_000, 1),
}


def encoder(channels: int, *, bitrate: int = 48_000) -> OpusEncoder:
    return OpusEncoder(
        channels=channels, bitrate=bitrate, fec=True, expected_loss_percent=20, dtx=False,
        application="voip", complexity=9,
    )  # fmt: skip


def joined(payloads: Sequence[bytes]) -> bytes:
    """Join packets of one frame each to one packet (RFC 6716 § 3.2.5, VBR)."""
    toc = payloads[0][0] & 0xFC | 3
    assert len({payload[0] & 0xFC for payload in payloads}) == 1
    frames = [payload[1:] for payload in payloads]
    lengths = b"".join(
        bytes([len(frame)]) if len(frame) < 252
        else bytes([252 + (len(frame) & 3), (len(frame) - 252 - (len(frame) & 3)) // 4])
        for frame in frames[:-1]
    )  # fmt: skip
    return bytes([toc, 0x80 | len(frames)]) + lengths + b"".join(frames)


async def record(packets: Sequence[tuple[int, int, bytes]]) -> MemoryRecording:
    """Record packets (payload type, timestamp, payload) that arrive in order without loss."""
    clock, store = FakeClock(), MemoryStore()
    processor = AudioTrackProcessor(
        TrackIdentity(session_id="s"),
        SessionPolicy(max_gap_s=60),
        decoders=make_decoder,
        store=store,
        clock=clock,
        events=SeenByServer(),
    )
    processor.connect(CODECS, now=clock.now)
    began, first = clock.now, packets[0][1]
    for sequence, (payload_type, timestamp, payload) in enumerate(packets):
        clock.now = began + (timestamp - first) / CODECS[payload_type].clock_rate_hz
        packet = RtpPacket(payload_type, sequence, timestamp % 2**32, 1, payload, arrived=clock.now)
        processor.packets_received([packet])
        processor.decode()
        processor.store()
    assert await processor.end(EndReason.CLOSED, now=clock.now) is not None
    assert not processor.rejected
    (stored,) = store.recordings.values()
    return stored


def assert_all_received(stored: MemoryRecording, length: int) -> None:
    assert stored.ledger["spans"] == [{"start": 0, "length": length, "kind": "received"}]


@pytest.mark.parametrize("frame", [120, 240, 480, 960, 1920, 2880])
async def test_opus_frames_from_2_5_to_60_ms(frame: int) -> None:
    spoken = speech(2)
    opus = encoder(1, bitrate=128_000)  # short frames need a higher bit rate
    packets = []
    for start in range(0, len(spoken) - frame + 1, frame):
        made = opus.encode(AudioFrame(AudioFormat(RATE, 1), spoken[start : start + frame], start))
        assert made is not None
        packets.append((111, 2**32 - 5000 + start, made))
    stored = await record(packets)
    assert_all_received(stored, len(packets) * frame)
    result = compare(spoken[:, 0] / 32768, stored.samples[:, 0] / 32768, sample_rate_hz=RATE)
    assert result.correlation > 0.9


@pytest.mark.parametrize("count", [2, 3, 4, 6])
async def test_opus_packets_of_several_frames_up_to_120_ms(count: int) -> None:
    spoken = speech(3)
    opus = encoder(1)
    singles = []
    for start in range(0, len(spoken) - 959, 960):
        made = opus.encode(AudioFrame(AudioFormat(RATE, 1), spoken[start : start + 960], start))
        assert made is not None
        singles.append(made)
    packets, position = [], 0
    # only frames of one configuration can share a packet
    for _, run in itertools.groupby(singles, key=lambda payload: payload[0]):
        same = list(run)
        for start in range(0, len(same), count):
            group = same[start : start + count]
            packets.append((111, position, joined(group)))
            position += 960 * len(group)
    stored = await record(packets)
    assert_all_received(stored, position)
    result = compare(spoken[:, 0] / 32768, stored.samples[:, 0] / 32768, sample_rate_hz=RATE)
    assert result.correlation > 0.9


@pytest.mark.parametrize("first", [1, 2])
async def test_a_change_between_mono_and_stereo_keeps_every_sample_in_its_place(first: int) -> None:
    """The source changes each second between stereo (two speakers) and mono (the left one).

    A second channel that comes later begins a part with two channels.
    """
    left, right = speech(4), speech(8)[4 * RATE :]
    source = np.concatenate([left, right], axis=1)
    packets, expected = [], []
    encoders = {channels: encoder(channels, bitrate=128_000) for channels in (1, 2)}
    for start in range(0, len(source) - 959, 960):
        channels = first if start // RATE % 2 == 0 else 3 - first
        piece = source[start : start + 960, :channels]
        made = encoders[channels].encode(AudioFrame(AudioFormat(RATE, channels), piece, start))
        assert made is not None
        packets.append((111, start, made))
        expected.append(np.broadcast_to(piece, (960, 2)))
    stored = await record(packets)
    assert stored.samples.shape == (len(packets) * 960, 2)
    assert stored.info.format.channels == 2
    length = len(packets) * 960
    assert [part.length for part in stored.parts] == (
        [length] if first == 2 else [RATE, length - RATE]
    )
    assert all(span["kind"] == "received" for span in stored.ledger["spans"])
    sent, recorded = np.concatenate(expected) / 32768, stored.samples / 32768
    for channel in range(2):
        result = compare(sent[:, channel], recorded[:, channel], sample_rate_hz=RATE)
        assert result.correlation > 0.85  # each encoder starts without history at each change
        assert abs(result.level_difference_db) < 1
    turns = np.arange(len(recorded)) // RATE % 2 + first == 2  # where the source is stereo
    stereo, mono = recorded[turns], recorded[~turns]
    assert abs(np.corrcoef(stereo.T)[0, 1]) < 0.1  # two speakers, each in one channel
    assert np.corrcoef(mono.T)[0, 1] > 0.99


@pytest.mark.parametrize(
    ("name", "payload_type", "rate"), [("pcmu", 0, 8_000), ("pcma", 8, 8_000), ("g722", 9, 16_000)]
)
async def test_telephone_codecs_with_their_clocks(name: str, payload_type: int, rate: int) -> None:
    payloads = telephone_packets(name)
    stored = await record(
        [(payload_type, index * 160, payload) for index, payload in enumerate(payloads)]
    )
    assert (stored.info.format.sample_rate_hz, stored.info.codec) == (rate, name)
    assert_all_received(stored, len(payloads) * rate // 50)


async def test_dtx_is_distinguished_from_loss() -> None:
    opus = OpusEncoder(
        channels=1, bitrate=24_000, fec=False, expected_loss_percent=0, dtx=True,
        application="voip", complexity=9,
    )  # fmt: skip
    spoken = np.concatenate([speech(1), np.zeros((2 * RATE, 1), dtype="<i2"), speech(1)])
    packets = []
    for start in range(0, len(spoken) - 959, 960):
        made = opus.encode(AudioFrame(AudioFormat(RATE, 1), spoken[start : start + 960], start))
        if made is not None:
            packets.append((111, start, made))
    stored = await record(packets)
    kinds = {span["kind"] for span in stored.ledger["spans"]}
    silent = sum(s["length"] for s in stored.ledger["spans"] if s["kind"] == "dtx")
    assert kinds == {"received", "dtx"}
    assert silent > RATE
    assert stored.ledger["length_samples"] == len(spoken) // 960 * 960
