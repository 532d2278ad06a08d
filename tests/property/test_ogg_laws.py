"""Opus in Ogg: written pages can be read again, also from damaged files and by other programs."""

from __future__ import annotations

import os
import pathlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import av
import numpy as np
import numpy.typing as npt
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.storage.ogg import pages as ogg
from adapters.storage.ogg.opus import OggOpusFile, OggOpusWriter, read_file, read_packets
from domain.errors import PayloadInvalid
from domain.sound import opus
from tests.rigs.sound import encode, speech

LOOK_AHEAD = 312
SERIAL = 0xDEADBEEF


@contextmanager
def stored(content: bytes) -> Iterator[int]:
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.flush()
        yield file.fileno()


def pages_of(content: bytes) -> list[ogg.Page]:
    with stored(content) as descriptor:
        return list(ogg.read_pages(descriptor))


def inspected(content: bytes) -> OggOpusFile:
    with stored(content) as descriptor:
        found = read_file(descriptor)
    assert found is not None
    return found


def audio_of(content: bytes) -> list[tuple[int, int, bytes, bool]]:
    with stored(content) as descriptor:
        return [(*packet, packet.is_gap) for packet in read_packets(descriptor)]


def bitwise_crc(data: bytes) -> int:
    value = 0
    for byte in data:
        value ^= byte << 24
        for _ in range(8):
            value = (value << 1 ^ (0x04C11DB7 if value & 1 << 31 else 0)) & 0xFFFFFFFF
    return value


@st.composite
def opus_packets(draw: st.DrawFn) -> bytes:
    toc = draw(st.integers(0, 255))
    count = bytes((draw(st.integers(1, 5760 // opus.frame_samples(bytes((toc,))))),))
    return bytes((toc,)) + count * (toc & 3 == 3) + b"x" * draw(st.integers(0, 700))


parts = st.lists(st.integers(0, 20_000) | st.lists(opus_packets(), max_size=12), max_size=6)


def written(writer: OggOpusWriter, parts: list[int | list[bytes]]) -> bytes:
    """Write packets, and gaps for numbers."""
    return b"".join(writer.silence(p) if isinstance(p, int) else writer.append(p) for p in parts)


def length_of(parts: list[int | list[bytes]]) -> int:
    return sum(p if isinstance(p, int) else sum(map(opus.packet_samples, p)) for p in parts)


# -- pages ------------------------------------------------------------------------------------


@given(st.binary(max_size=2000))
def test_the_checksum_is_that_of_ogg(data: bytes) -> None:
    assert ogg.crc(data) == bitwise_crc(data)


@given(
    packets=st.lists(st.integers(0, 600), max_size=60),
    granule=st.integers(0, 2**63 - 1),
    serial=st.integers(0, 2**32 - 1),
    last=st.booleans(),
)
def test_a_page_is_read_as_it_was_written(
    packets: list[int], granule: int, serial: int, last: bool
) -> None:
    payloads = [os.urandom(size) for size in packets]
    content = ogg.page(payloads, serial=serial, number=0, granule=granule, first=True, last=last)
    assert pages_of(content) == [
        ogg.Page(0, len(content), granule, 0, serial, True, last, payloads)
    ]


@given(st.lists(st.sampled_from([0, 1, 80, 254, 255, 1275, 30_000, 65_024]), max_size=600))
def test_pages_are_as_full_as_they_can_be(sizes: list[int]) -> None:
    packets = [bytes(size) for size in sizes]
    ranges = list(ogg.paginate(packets))
    assert [p for start, stop in ranges for p in packets[start:stop]] == packets
    for start, stop in ranges:
        assert ogg.page(packets[start:stop], serial=0, number=0, granule=0)
        if stop < len(packets):
            with pytest.raises(ValueError, match="segments"):
                ogg.page(packets[start : stop + 1], serial=0, number=0, granule=0)


def test_a_packet_too_large_for_a_page_is_refused_and_nothing_has_happened() -> None:
    writer = OggOpusWriter(SERIAL)
    content = writer.header(1) + writer.append([b"\x78" + bytes(ogg.MAX_PACKET_SIZE - 1)])
    before = vars(writer).copy()
    with pytest.raises(ValueError, match="segments"):
        writer.append([b"\x78", b"\x78" + bytes(ogg.MAX_PACKET_SIZE)])
    for invalid in (b"", b"\x03", b"\x03\x00", b"\x03\x3f"):
        with pytest.raises(PayloadInvalid):
            writer.append([b"\x78", invalid])
    with pytest.raises(ValueError, match="gap"):
        writer.silence(-1)
    assert vars(writer) == before
    assert len(pages_of(content)) == 3


@pytest.mark.parametrize("name", ["", "A=B", "Ä", "A\n", "~"])
def test_tags_that_cannot_be_written_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="name of a tag"):
        OggOpusWriter(SERIAL).header(1, tags={name: "value"})
    with pytest.raises(ValueError, match="segments"):
        OggOpusWriter(SERIAL).header(1, tags={"A": "x" * 65_000})


# -- streams ----------------------------------------------------------------------------------


@settings(max_examples=200)
@given(parts=parts, channels=st.sampled_from([1, 2]), end=st.booleans())
def test_the_length_is_exact_and_every_packet_in_its_place(
    parts: list[int | list[bytes]], channels: int, end: bool
) -> None:
    writer = OggOpusWriter(SERIAL)
    content = writer.header(channels, pre_skip=120) + written(writer, parts)
    assert writer.position == length_of(parts)
    assert 0 <= writer.position - writer.granule < 120
    content += writer.end() if end else b""
    found = inspected(content)
    assert (found.channels, found.pre_skip, found.ended) == (channels, 120, end)
    assert (found.size, found.length) == (len(content), writer.granule)
    assert end is False or found.length == length_of(parts)

    audio = audio_of(content)
    position = 0
    for start, samples, payload, gap in audio:
        assert start == position
        assert samples == opus.packet_samples(payload) or (gap and start + samples == found.length)
        position += samples
    assert position == found.length
    assert [a[2] for a in audio if not a[3]] == [p for part in parts if part
                                                 and not isinstance(part, int)
                                                 for p in part]  # fmt: skip
    at = 0
    sound = [start for start, _, _, gap in audio if not gap]
    for part in parts:
        if isinstance(part, int):
            at += part
        for packet in part if not isinstance(part, int) else ():
            assert 0 <= at - sound.pop(0) < 120  # early by the samples owed
            at += opus.packet_samples(packet)


@given(toc=st.integers(0, 255), samples=st.integers(0, 500_000))
def test_a_gap_has_frames_like_the_sound_before_it(toc: int, samples: int) -> None:
    before = bytes((toc & ~3,))
    writer = OggOpusWriter(SERIAL)
    start = writer.header(1) + writer.append([before])
    gap = audio_of(start + writer.silence(samples))[1:]
    assert all(is_gap for *_, is_gap in gap)
    assert sum(length for _, length, _, _ in gap) == samples - samples % 120
    frame = opus.frame_samples(before)
    same = [length for _, length, payload, _ in gap if payload[0] >> 3 == toc >> 3]
    assert sum(same) == samples - samples % frame
    assert all(opus.channels(payload) == opus.channels(before) for _, _, payload, _ in gap)
    assert (
        len(gap) <= samples // (5760 // frame * frame) + 3
    )  # few packets, though the gap may be an hour


def test_dtx_is_not_taken_for_a_gap() -> None:
    writer = OggOpusWriter(SERIAL)
    content = writer.header(1) + writer.append([b"\x78", b"\x7b\x01", b"\x7b\x41\x00"])
    assert [gap for *_, gap in audio_of(content)] == [False, False, True]


# -- damage -----------------------------------------------------------------------------------


def a_recording() -> bytes:
    writer = OggOpusWriter(SERIAL)
    content = writer.header(2, tags={"TITLE": "a"})
    return content + written(writer, [[b"\x78" + b"a" * 80] * 3, 5000, [b"\x78" * 300], 77]) + (
        writer.end()
    )  # fmt: skip


CONTENT = a_recording()
PAGES = pages_of(CONTENT)
PAGE_ENDS = [page.offset + page.size for page in PAGES]


def assert_whole_up_to(content: bytes, damage: int) -> None:
    """Check that all pages before the damage are found, and that the file can be continued."""
    whole = [page for page in PAGES if page.offset + page.size <= damage]
    assert pages_of(content) == whole
    if len(whole) < 2:
        with stored(content) as descriptor:
            assert read_file(descriptor) is None
            assert list(read_packets(descriptor)) == []
        return
    found = inspected(content)
    assert found.size == PAGE_ENDS[len(whole) - 1]
    assert found.length == whole[-1].granule
    audio = audio_of(content)
    assert audio == [a for a in audio_of(CONTENT) if a[0] < found.length]

    writer = found.writer
    assert writer.position == found.length
    again = content[: found.open_size] + written(writer, [1000, [b"\x78" * 10]])
    again += writer.end()
    assert inspected(again).length == found.length + 1000 + 960
    assert [a[2] for a in audio_of(again) if not a[3]] == [a[2] for a in audio if not a[3]] + [
        b"\x78" * 10
    ]


def test_a_file_cut_off_at_any_byte_is_whole_up_to_there() -> None:
    for cut in range(len(CONTENT) + 1):
        assert_whole_up_to(CONTENT[:cut], cut)


def test_a_file_with_any_byte_damaged_is_whole_up_to_there() -> None:
    for at in range(len(CONTENT)):
        for flip in (0x01, 0x80, 0xFF):
            damaged = bytearray(CONTENT)
            damaged[at] ^= flip
            assert_whole_up_to(bytes(damaged), at)


@given(st.binary(max_size=300))
def test_other_files_are_not_read_as_ogg(content: bytes) -> None:
    for prefix in (b"", b"OggS\0\2", CONTENT[: PAGE_ENDS[0]]):
        with stored(prefix + content) as descriptor:
            assert read_file(descriptor) is None


@given(packets=st.lists(st.binary(max_size=40), max_size=3), granule=st.integers(0, 2**62))
def test_valid_pages_with_impossible_contents_end_the_reading(
    packets: list[bytes], granule: int
) -> None:
    strange = ogg.page(packets, serial=SERIAL, number=2, granule=granule)
    closing = ogg.page(packets, serial=SERIAL, number=2, granule=granule, last=True)
    header = CONTENT[: PAGE_ENDS[1]]
    for content in (header + strange, header + closing):
        found = inspected(content)
        assert found.size in (len(header), len(content))
        assert sum(samples for _, samples, _, _ in audio_of(content)) == found.length


def test_pages_that_do_not_belong_there_end_the_reading() -> None:
    def more(**other: int | bool) -> bytes:
        fields = {"serial": SERIAL, "number": 2, "granule": 960} | other
        return ogg.page([b"\x78"], **fields)  # type: ignore[arg-type]

    header = CONTENT[: PAGE_ENDS[1]]
    assert len(pages_of(header + more())) == 3
    assert len(pages_of(header + more(number=3))) == 2
    assert len(pages_of(header + more(serial=1))) == 2
    assert len(pages_of(header + more(first=True))) == 2
    assert len(pages_of(header + more(last=True) + more(number=3))) == 3


def test_long_files_are_read_over_the_ends_of_blocks() -> None:
    writer = OggOpusWriter(SERIAL)
    content = writer.header(1)
    packets = [b"\x78" + os.urandom(1200) for _ in range(2500)]
    for start in range(0, len(packets), 50):
        content += writer.append(packets[start : start + 50])
    assert len(content) > 2 << 20
    assert [payload for _, _, payload, _ in audio_of(content)] == packets


# -- others -----------------------------------------------------------------------------------


def decode(path: pathlib.Path) -> tuple[npt.NDArray[np.float32], int]:
    """Return the samples (n, channels) and the length according to FFmpeg."""
    with av.open(path) as container:
        stream = container.streams.audio[0]
        frames = [frame.to_ndarray() for frame in container.decode(audio=0)]
        channels = stream.codec_context.channels
        return np.concatenate([*frames, np.zeros((channels, 0))], axis=1).T, stream.duration or 0


SPEECH = encode(speech(2))


@pytest.fixture
def path(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / "a.opus"


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("pre_skip", [0, LOOK_AHEAD])
@pytest.mark.parametrize("gap", [None, 0, 1, 119, 120, 959, 960, 33_333, 48_000 * 60 + 7])
def test_ffmpeg_and_libopus_read_the_exact_length(
    path: pathlib.Path, channels: int, pre_skip: int, gap: int | None
) -> None:
    writer = OggOpusWriter(SERIAL)
    content = writer.header(channels, pre_skip=pre_skip, tags={"TITLE": "Grüße"})
    content += written(writer, [SPEECH[:50], gap or 0, SPEECH[50:], gap or 0])
    content += b"" if gap is None else writer.end()  # None: as a killed process leaves it
    path.write_bytes(content)
    length = 96_000 + 2 * (gap or 0)
    info = soundfile.info(path)
    assert (info.frames, info.channels, info.samplerate) == (length - pre_skip, channels, 48_000)
    samples, duration = decode(path)
    assert samples.shape == (length - pre_skip, channels)
    assert duration == length
    with soundfile.SoundFile(path) as file:
        assert (file.title, sum(len(b) for b in file.blocks(48_000))) == ("Grüße", info.frames)


def test_ffmpeg_and_libopus_read_a_stream_without_sound(path: pathlib.Path) -> None:
    for samples in (0, 100, 48_000):
        writer = OggOpusWriter(SERIAL)
        path.write_bytes(writer.header(2) + writer.silence(samples) + writer.end())
        assert soundfile.info(path).frames == samples
        assert decode(path)[0].shape == (samples, 2)


@pytest.mark.parametrize("gap", [960, 48_000, 48_077, 24_000 + 119])
def test_sound_after_a_gap_is_at_its_position(path: pathlib.Path, gap: int) -> None:
    """FFmpeg and libopus place it within 2.5 ms and decode the gap as silence."""
    original = speech(2)[:, 0].astype(float)
    writer = OggOpusWriter(SERIAL)
    content = writer.header(1) + written(writer, [SPEECH[:50], gap, SPEECH[50:]])
    path.write_bytes(content + writer.end())
    for samples in (decode(path)[0][:, 0], soundfile.read(path)[0]):
        behind = samples[48_000 + gap - 120 :]
        second = original[60_000:90_000]
        likeness = [
            float(second @ behind[12_000 + shift : 42_000 + shift])
            for shift in range(120 + 2 * LOOK_AHEAD)
        ]
        late = int(np.argmax(likeness)) - 120
        assert abs(late + gap % 120 - LOOK_AHEAD) <= 48
        quiet = samples[48_000 + 24_000 : 48_000 + gap - 960]
        assert np.abs(quiet).max(initial=0) < 0.003
