"""The format of arriving sound."""

from __future__ import annotations

import av
import numpy as np
import pytest

from adapters.codec.pyav_frames import from_av
from domain.errors import FrameUnsupported, PayloadInvalid
from domain.sound.conversion import convert
from domain.sound.detection import CodecParameters, detect_format, detect_layout, is_supported
from domain.sound.formats import AudioFormat, SampleFormat

OPUS = CodecParameters("opus", 111, 48_000, 2)
MONO, STEREO = b"\x78", b"\x7c"


@pytest.mark.parametrize(("toc", "channels"), [(MONO, 1), (STEREO, 2)])
def test_opus_has_the_channels_of_its_first_packet(toc: bytes, channels: int) -> None:
    assert detect_format(OPUS, toc + b"...") == AudioFormat(48_000, channels)


def test_a_sender_that_announces_stereo_is_believed() -> None:
    announced = CodecParameters("opus", 111, 48_000, 2, {"sprop-stereo": "1"})
    assert detect_format(announced, MONO).channels == 2


@pytest.mark.parametrize(("name", "rate"), [("pcmu", 8_000), ("pcma", 8_000), ("g722", 16_000)])
def test_telephone_codecs_keep_their_rate(name: str, rate: int) -> None:
    codec = CodecParameters(name, 0, 8_000, 1)
    assert detect_format(codec, b"\xff") == AudioFormat(rate, 1)


def test_an_empty_opus_packet_has_no_format() -> None:
    with pytest.raises(PayloadInvalid):
        detect_format(OPUS, b"")


def test_codecs_have_to_fit_in_name_rate_and_channels() -> None:
    assert is_supported("OPUS", clock_rate_hz=48_000, channels=2)
    assert not is_supported("opus", clock_rate_hz=16_000, channels=2)
    assert not is_supported("L16", clock_rate_hz=44_100, channels=2)


AV_LAYOUTS = ["u8", "s16", "s32", "flt", "dbl", "u8p", "s16p", "s32p", "fltp", "dblp"]


@pytest.mark.parametrize("channels", [1, 2, 6])
@pytest.mark.parametrize("name", AV_LAYOUTS)
def test_every_kind_of_frame_from_pyav_is_read_sample_by_sample(name: str, channels: int) -> None:
    sample_format, planar = detect_layout(name)
    wave = (np.arange(50 * channels).reshape(50, channels) * 97 % 200 - 100).astype("<i2")
    true = convert(wave * 256, SampleFormat.S16, sample_format)
    layout = {1: "mono", 2: "stereo", 6: "5.1"}[channels]
    array = true.T if planar else true.reshape(1, -1)
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(array), format=name, layout=layout)
    frame.sample_rate = 44_100
    read = from_av(frame, position=7)
    assert read.format == AudioFormat(44_100, channels, sample_format)
    assert read.position == 7
    np.testing.assert_array_equal(read.samples, true)


@pytest.mark.parametrize("name", ["s64", "s64p"])
def test_an_unsupported_frame_layout_is_named(name: str) -> None:
    frame = av.AudioFrame(format=name, layout="mono", samples=10)
    frame.sample_rate = 48_000
    with pytest.raises(FrameUnsupported, match=f"'{name}'"):
        from_av(frame)
