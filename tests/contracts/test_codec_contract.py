"""The contract of codecs, tested with the real libraries."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any, cast

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.codec.decoders import make_decoder
from adapters.codec.libopus import OpusEncoder
from adapters.codec.pyav import PyAvResampler
from domain.errors import PayloadInvalid
from domain.sound.comparison import compare
from domain.sound.decoding import Decoder
from domain.sound.detection import CodecParameters, detect_format
from domain.sound.formats import AudioFormat, AudioFrame, SampleFormat, Samples

OPUS = CodecParameters("opus", 111, 48_000, 2)
RATE = 48_000


def encoder(**changes: Any) -> OpusEncoder:
    defaults = {"channels": 1, "bitrate": 64_000, "complexity": 6, "fec": True,
                "expected_loss_percent": 10, "dtx": False, "application": "voip"}  # fmt: skip
    return OpusEncoder(**(defaults | changes))


def speechlike(seconds: float, channels: int = 1) -> Samples:
    """Make noise with a spectrum and envelope like speech, s16."""
    rng = np.random.default_rng(7)
    count = round(seconds * RATE)
    noise = np.convolve(rng.normal(0, 1, count + 31), np.hanning(32), "valid")
    wave = noise * (0.3 + 0.7 * np.sin(np.arange(count) / RATE * 2 * np.pi * 3) ** 2)
    mono = (wave / np.abs(wave).max() * 20_000).astype("<i2").reshape(-1, 1)
    return np.repeat(mono, channels, axis=1)


def opus_packets(wave: Samples, **changes: Any) -> list[bytes]:
    channels = wave.shape[1]
    encode = encoder(channels=channels, **changes).encode
    audio_format = AudioFormat(RATE, channels)
    packets = []
    for start in range(0, len(wave) - 959, 960):
        packet = encode(AudioFrame(audio_format, wave[start : start + 960], start))
        packets.append(b"" if packet is None else packet)
    return packets


def telephone_packets(name: str) -> list[bytes]:
    ffmpeg = {"pcmu": "pcm_mulaw", "pcma": "pcm_alaw", "g722": "g722"}[name]
    context: Any = av.CodecContext.create(ffmpeg, "w")
    rate = 16_000 if name == "g722" else 8_000
    context.sample_rate, context.layout, context.format = rate, "mono", "s16"
    context.time_base = Fraction(1, rate)
    wave = speechlike(1)[:: RATE // rate]
    packets = []
    for start in range(0, len(wave), rate // 50):
        piece = np.ascontiguousarray(wave[start : start + rate // 50].T)
        frame = av.AudioFrame.from_ndarray(piece, format="s16", layout="mono")
        frame.sample_rate = rate
        packets += [bytes(packet) for packet in context.encode(frame)]
    return packets


def collect(decoder: Decoder) -> Samples:
    return np.concatenate(cast("list[Samples]", decoder.collect()))


CASES: dict[str, tuple[CodecParameters, Callable[[], list[bytes]], int]] = {
    "opus mono": (OPUS, lambda: opus_packets(speechlike(1)), 960),
    "opus stereo": (OPUS, lambda: opus_packets(speechlike(1, 2)), 960),
    "pcmu": (CodecParameters("pcmu", 0, 8_000, 1), lambda: telephone_packets("pcmu"), 160),
    "pcma": (CodecParameters("pcma", 8, 8_000, 1), lambda: telephone_packets("pcma"), 160),
    "g722": (CodecParameters("g722", 9, 8_000, 1), lambda: telephone_packets("g722"), 320),
}


@pytest.mark.parametrize("case", CASES)
def test_sound_comes_out_as_it_went_in(case: str) -> None:
    codec, encode, length = CASES[case]
    packets = encode()
    audio_format = detect_format(codec, packets[0])
    decoder = make_decoder(codec, audio_format)
    assert {decoder.decode(packet) for packet in packets} == {length}
    decoded = collect(decoder)
    assert decoded.shape == (length * len(packets), audio_format.channels)
    assert decoded.dtype == np.dtype("<i2")
    assert decoder.collect() == []
    step = RATE // audio_format.sample_rate_hz
    sent = speechlike(1)[::step, 0] / 32768
    received = decoded[:, 0] / 32768
    result = compare(sent, received, sample_rate_hz=audio_format.sample_rate_hz)
    assert result.correlation > 0.9
    assert abs(result.level_difference_db) < 1


@pytest.mark.parametrize("case", CASES)
def test_a_decoder_survives_an_empty_packet(case: str) -> None:
    codec, encode, length = CASES[case]
    packets = encode()
    decoder = make_decoder(codec, detect_format(codec, packets[0]))
    decoder.decode(packets[0])
    with pytest.raises(PayloadInvalid):
        decoder.decode(b"")
    assert decoder.decode(packets[1]) == length
    assert len(collect(decoder)) == 2 * length


@settings(max_examples=300)
@given(garbage=st.lists(st.binary(max_size=80), max_size=5))
def test_an_invalid_packet_affects_no_other_packet(garbage: list[bytes]) -> None:
    good = opus_packets(speechlike(0.04))
    decoder = make_decoder(OPUS, AudioFormat(RATE, 1))
    length = decoder.decode(good[0])
    for payload in garbage:
        try:
            more = decoder.decode(payload)
        except PayloadInvalid:
            continue
        assert 0 < more <= 5760
        length += more
    assert decoder.decode(good[1]) == 960
    assert len(collect(decoder)) == length + 960


@pytest.mark.parametrize("case", CASES)
def test_collected_sound_does_not_change_later(case: str) -> None:
    codec, encode, _ = CASES[case]
    packets = encode()
    audio_format = detect_format(codec, packets[0])
    together, apart = (make_decoder(codec, audio_format) for _ in range(2))
    for packet in packets:
        together.decode(packet)
    collected = []
    for packet in packets:
        apart.decode(packet)
        collected += apart.collect()
    np.testing.assert_array_equal(collect(together), np.concatenate(collected))


@pytest.mark.parametrize("case", CASES)
def test_decoders_are_independent(case: str) -> None:
    codec, encode, _ = CASES[case]
    packets = encode()
    audio_format = detect_format(codec, packets[0])
    alone, one, other = (make_decoder(codec, audio_format) for _ in range(3))
    for packet in packets:
        alone.decode(packet)
    expected = collect(alone)
    for packet, later in zip(packets, reversed(packets), strict=True):
        one.decode(packet)
        other.decode(later)
    collected = other.collect()
    assert sum(map(len, collected)) == len(expected)
    np.testing.assert_array_equal(collect(one), expected)


def test_the_look_ahead_equals_the_delay_of_decoded_sound() -> None:
    fine: dict[str, Any] = {"application": "audio", "bitrate": 256_000}
    decoder = make_decoder(OPUS, AudioFormat(RATE, 1))
    wave = speechlike(1)
    for packet in opus_packets(wave, **fine):
        decoder.decode(packet)
    decoded = collect(decoder)
    result = compare(wave[:, 0] / 32768, decoded[:, 0] / 32768, sample_rate_hz=RATE)
    assert encoder(**fine).look_ahead == 312
    assert abs(result.delay - 312) <= 4  # the encoder's high-pass shifts the phase a little


def test_dtx_sends_almost_nothing_during_silence() -> None:
    quiet = np.zeros((RATE, 1), dtype="<i2")
    with_dtx = [p for p in opus_packets(quiet, dtx=True) if p]
    assert len(opus_packets(quiet)) == 50
    assert len(with_dtx) < 20


def test_the_bit_rate_is_a_setting() -> None:
    sizes = [
        sum(map(len, opus_packets(speechlike(2), bitrate=rate, fec=False))) * 4
        for rate in (16_000, 32_000, 64_000)
    ]
    assert sizes == pytest.approx([16_000, 32_000, 64_000], rel=0.25)


def test_the_complexity_is_a_setting() -> None:
    made = {tuple(opus_packets(speechlike(0.5), complexity=value)) for value in (0, 6, 10)}
    assert len(made) == 3


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100, 48_000, 96_000])
@pytest.mark.parametrize("sample_format", [SampleFormat.S16, SampleFormat.F32])
def test_resampled_sound_keeps_its_length_and_shape(rate: int, sample_format: SampleFormat) -> None:
    source, target = AudioFormat(rate, 2, sample_format), AudioFormat(RATE, 1)
    time = np.arange(rate) / rate
    wave = np.sin(2 * np.pi * 440 * time) * 0.5
    scaled = np.rint(wave * 32767) if sample_format is SampleFormat.S16 else wave
    both = np.repeat(scaled.astype(sample_format.dtype).reshape(-1, 1), 2, axis=1)
    resampler = PyAvResampler(source, target)
    parts = []
    for start in range(0, rate, 331):
        parts += list(resampler.push(AudioFrame(source, both[start : start + 331], start)))
    parts += list(resampler.flush())
    position = 0
    for part in parts:
        assert part.position == position
        position = part.end
    assert abs(position - RATE) <= 2
    true = np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE) * 0.5
    got = np.concatenate([part.samples for part in parts])[:, 0] / 32768
    result = compare(true, got, sample_rate_hz=RATE)
    assert result.correlation > 0.999
    assert abs(result.level_difference_db) < 0.1


def test_a_gap_in_the_source_is_a_gap_after_the_resampler() -> None:
    source, target = AudioFormat(24_000, 1), AudioFormat(RATE, 1)
    resampler = PyAvResampler(source, target)
    quiet = np.zeros((2400, 1), dtype="<i2")
    parts = list(resampler.push(AudioFrame(source, quiet, 0)))
    parts += list(resampler.push(AudioFrame(source, quiet, 12_000)))
    parts += list(resampler.flush())
    starts = [part.position for part in parts]
    assert 24_000 in starts
    assert sum(len(part) for part in parts) == pytest.approx(9600, abs=4)
