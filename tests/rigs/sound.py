"""Sound for tests to send."""

from __future__ import annotations

import pathlib

import numpy as np
import numpy.typing as npt
import soundfile

from adapters.codec.libopus import OpusEncoder
from domain.sound.formats import AudioFormat, AudioFrame

RATE = 48_000
FRAME = 960
SPEECH = pathlib.Path(__file__).parents[2] / "entrypoints/assets/speech.flac"


def speech(seconds: float) -> npt.NDArray[np.int16]:
    """Return speech as s16, shape (n, 1); a longer duration repeats it."""
    samples, rate = soundfile.read(SPEECH, dtype="int16", always_2d=True)
    assert rate == RATE
    count = round(seconds * RATE)
    return np.tile(samples, (count // len(samples) + 1, 1))[:count]


def encode(samples: npt.NDArray[np.int16], *, fec: bool = True) -> list[bytes]:
    """Encode samples of one or two channels as 20 ms Opus packets, 32 kbit/s for each channel."""
    channels = samples.shape[1]
    encoder = OpusEncoder(
        channels=channels, bitrate=32_000 * channels, fec=fec, expected_loss_percent=20, dtx=False,
        application="voip", complexity=9,
    )  # fmt: skip
    audio_format = AudioFormat(RATE, channels)
    packets = []
    for start in range(0, len(samples) - FRAME + 1, FRAME):
        packet = encoder.encode(AudioFrame(audio_format, samples[start : start + FRAME], start))
        assert packet is not None
        packets.append(packet)
    return packets
