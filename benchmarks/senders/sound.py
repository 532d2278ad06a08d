"""The sound that scripted senders send: a tone that changes every second, encoded once."""

from __future__ import annotations

import functools
import io

import av
import numpy as np
import numpy.typing as npt
import soundfile

from adapters.codec.libopus import OpusEncoder
from domain.sound.formats import AudioFormat, AudioFrame

RATE = 48_000
TICKS_PER_S = 48_000
"""RTP ticks per second of Opus (RFC 7587 § 4.1)."""
FRAME_S = 0.02
TONES = 32
_LEVEL = 8000


def tone_hz(number: int) -> float:
    return 400.0 + 150.0 * number


def wave(seconds: float, rate: int = RATE) -> npt.NDArray[np.int16]:
    """The tones one after another, each for a second; shape (n,)."""
    times = np.arange(round(seconds * rate)) / rate
    hz = 400.0 + 150.0 * np.floor(times)
    return (_LEVEL * np.sin(2 * np.pi * hz * times)).astype(np.int16)


@functools.cache
def tones(frame_ms: int = 20) -> tuple[bytes, ...]:
    """`TONES` seconds of mono Opus."""
    return _opus(wave(TONES)[:, None], frame_ms)


@functools.cache
def opposite_channels(seconds: int = 5) -> tuple[bytes, ...]:
    """Stereo Opus whose channels cancel each other out when they are mixed."""
    left = wave(seconds)
    return _opus(np.stack([left, -left], axis=1), 20)


@functools.cache
def equal_channels(seconds: int = 5) -> tuple[bytes, ...]:
    """Stereo Opus of one sound in two equal channels, as Firefox sends a mono microphone."""
    left = wave(seconds)
    return _opus(np.stack([left, left], axis=1), 20)


@functools.cache
def quiet() -> bytes:
    """A packet of comfort noise, as an encoder sends it in DTX: near silence."""
    return _opus(np.zeros((4800, 1), np.int16), 20)[-1]


@functools.cache
def pcmu(seconds: int = 6) -> tuple[bytes, ...]:
    """The tones in G.711 µ-law, in packets of 20 ms."""
    file = io.BytesIO()
    soundfile.write(file, wave(seconds, 8000), 8000, format="RAW", subtype="ULAW")
    data = file.getvalue()
    return tuple(data[at : at + 160] for at in range(0, len(data), 160))


@functools.cache
def g722(seconds: int = 6) -> tuple[bytes, ...]:
    """The tones in G.722, in packets of 20 ms."""
    codec = av.CodecContext.create("g722", "w")
    assert isinstance(codec, av.AudioCodecContext)
    codec.sample_rate, codec.layout, codec.format = 16_000, "mono", "s16"
    frame = av.AudioFrame.from_ndarray(wave(seconds, 16_000)[None, :], layout="mono")
    frame.sample_rate = 16_000
    data = b"".join(bytes(packet) for packet in [*codec.encode(frame), *codec.encode(None)])
    return tuple(data[at : at + 160] for at in range(0, len(data), 160))


def _opus(samples: npt.NDArray[np.int16], frame_ms: int) -> tuple[bytes, ...]:
    channels = samples.shape[1]
    encoder = OpusEncoder(
        channels=channels, bitrate=64_000, complexity=5, fec=False, expected_loss_percent=0,
        dtx=False, application="audio",
    )  # fmt: skip
    length = RATE * frame_ms // 1000
    audio_format = AudioFormat(RATE, channels)
    packets = []
    for start in range(0, len(samples) - length + 1, length):
        packet = encoder.encode(AudioFrame(audio_format, samples[start : start + length], start))
        assert packet is not None
        packets.append(packet)
    return tuple(packets)
