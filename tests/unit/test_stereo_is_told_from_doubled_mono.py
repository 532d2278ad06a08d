"""What was negotiated about stereo, and what the sound says."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from adapters.codec.libopus import OpusDecoder, OpusEncoder
from domain.sound.channels import SOON_SAMPLES, SURE_SAMPLES, StereoDetector
from domain.sound.detection import CodecParameters, Stereo, detect_format
from domain.sound.formats import AudioFormat, AudioFrame
from tests.rigs.sound import SPEECH

STEREO = AudioFormat(48_000, 2)
BITRATES = [24_000, 32_000, 64_000, 96_000, 128_000]
Sound = npt.NDArray[np.int16]


def speech() -> Sound:
    samples, rate = soundfile.read(SPEECH, dtype="int16", always_2d=True)
    assert rate == 48_000
    return np.asarray(samples[: 6 * 48_000, 0])


def delayed(sound: Sound, samples: int) -> Sound:
    return np.concatenate([np.zeros(samples, np.int16), sound[:-samples]])


def over_opus(left: Sound, right: Sound, bitrate: int) -> list[Sound]:
    """The decoded packets of two channels that libopus has encoded."""
    encoder = OpusEncoder(
        channels=2, bitrate=bitrate, complexity=6, fec=True, expected_loss_percent=10, dtx=False,
        application="audio",
    )  # fmt: skip
    decoder = OpusDecoder(STEREO)
    both = np.stack([left, right], axis=1).astype("<i2")
    pieces = []
    for start in range(0, len(both) - 960, 960):
        frame = AudioFrame(STEREO, np.ascontiguousarray(both[start : start + 960]))
        payload = encoder.encode(frame)
        if payload is not None:
            decoder.decode(payload)
            pieces += [np.array(piece) for piece in decoder.collect()]
    return pieces


def verdicts(pieces: list[Sound]) -> list[bool | None]:
    detector = StereoDetector()
    return [detector.add(piece) for piece in pieces]


@pytest.mark.parametrize("bitrate", BITRATES)
def test_one_sound_in_two_equal_channels_is_mono(bitrate: int) -> None:
    for sound in (speech(), speech() // 30):
        found = verdicts(over_opus(sound, sound, bitrate))
        assert True not in found
        assert found[-1] is False


@pytest.mark.parametrize("bitrate", BITRATES)
@pytest.mark.parametrize("kind", ["delay", "level", "left only", "opposite", "two sounds"])
def test_two_channels_are_stereo(kind: str, bitrate: int) -> None:
    sound = speech()
    other = {
        "delay": delayed(sound, 5),
        "level": (sound * 0.89).astype(np.int16),
        "left only": np.zeros_like(sound),
        "opposite": -sound,
        "two sounds": delayed(sound, 30_000),
    }[kind]
    assert verdicts(over_opus(sound, other, bitrate))[-1] is True


def test_a_wide_side_is_heard_soon_and_a_narrow_one_after_half_a_second() -> None:
    noise = np.random.default_rng(1).normal(0, 3000, (960, 2)).astype(np.int16)
    found = verdicts([noise] * 5)
    assert found == [None] * (SOON_SAMPLES // 960 - 1) + [True]
    narrow = np.stack([noise[:, 0], (noise[:, 0] * 0.95).astype(np.int16)], axis=1)
    found = verdicts([narrow] * 25)
    assert found == [None] * (SURE_SAMPLES // 960 - 1) + [True]


def test_silence_decides_nothing_and_a_second_channel_may_come_later() -> None:
    noise = np.random.default_rng(1).normal(0, 3000, (960, 2)).astype(np.int16)
    mono, silence = noise[:, [0, 0]], np.zeros((960, 2), np.int16)
    assert set(verdicts([silence] * 100)) == {None}
    found = verdicts([*[silence] * 100, *[mono] * 200, *[noise] * 25, *[mono] * 100])
    assert found[:124] == [None] * 124
    assert found[124:300] == [False] * 176
    assert found[-100:] == [True] * 100
    assert StereoDetector().add(noise[:0]) is None


def test_the_sound_decides_only_where_the_sender_has_not_said_what_it_sends() -> None:
    def format_of(stereo: Stereo, toc: bytes, is_stereo: bool | None, **fmtp: str) -> int:
        parameters = {key.replace("_", "-"): value for key, value in fmtp.items()}
        codec = CodecParameters("opus", 111, 48_000, 2, parameters, stereo)
        return detect_format(codec, toc, is_stereo=is_stereo).channels

    mono, two = b"\x78", b"\x7c"
    assert format_of(Stereo.UNCERTAIN, two, False) == 1
    assert format_of(Stereo.UNCERTAIN, two, True) == 2
    assert format_of(Stereo.UNCERTAIN, two, None) == 2
    assert format_of(Stereo.UNCERTAIN, mono, None) == 1
    assert format_of(Stereo.UNINVITED, two, False) == 2
    assert format_of(Stereo.EXPECTED, two, False) == 2
    assert format_of(Stereo.EXPECTED, mono, None, sprop_stereo="1") == 2
