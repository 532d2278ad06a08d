"""What every store promises."""

from __future__ import annotations

import datetime
import pathlib
import stat
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import soundfile

from adapters.storage.memory import MemoryStore
from adapters.storage.wav import WavStore
from domain.audio import AudioFormat, SampleFormat, Samples
from domain.conversion import convert
from domain.errors import StorageFailed
from domain.ports.storage import RecordingInfo, RecordingStore
from domain.recording import EndReason

Read = Callable[[str], tuple[AudioFormat, Samples]]
_DTYPES = {SampleFormat.U8: "int16", SampleFormat.S24: "int32"}


def info(name: str, audio_format: AudioFormat | None = None) -> RecordingInfo:
    return RecordingInfo(
        id=name,
        name=name,
        format=audio_format or AudioFormat(48_000, 1),
        started_at=datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC),
    )


@pytest.fixture(params=["wav", "memory"])
def opened(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> Iterator[Any]:
    """A store, and a way to read what it has kept."""
    store: RecordingStore
    if request.param == "memory":
        memory = store = MemoryStore()

        def read(location: str) -> tuple[AudioFormat, Samples]:
            stored = memory.recordings[location.removeprefix("memory:")]
            return stored.info.format, stored.samples
    else:
        store = WavStore(str(tmp_path / "recordings"))
        read = read_wav
    store.check()
    yield store, read
    store.close()


def read_wav(location: str) -> tuple[AudioFormat, Samples]:
    by_subtype = {"PCM_U8": "u8", "PCM_16": "s16", "PCM_24": "s24", "PCM_32": "s32",
                  "FLOAT": "f32", "DOUBLE": "f64"}  # fmt: skip
    with soundfile.SoundFile(location) as file:
        sample_format = SampleFormat(by_subtype[file.subtype])
        raw = file.read(dtype=_DTYPES.get(sample_format, sample_format.dtype.name), always_2d=True)
        if sample_format is SampleFormat.U8:
            raw = convert(raw, SampleFormat.S16, SampleFormat.U8)
        elif sample_format is SampleFormat.S24:
            raw = raw >> 8
        return AudioFormat(file.samplerate, file.channels, sample_format), raw


def ramp(length: int, channels: int = 1, start: int = 0) -> Samples:
    values = np.arange(start, start + length * channels) % 30_000
    return values.astype("<i2").reshape(length, channels)


async def test_what_was_appended_is_kept_in_order(opened: tuple[RecordingStore, Read]) -> None:
    store, read = opened
    writer = store.create(info("a"))
    for start in range(0, 9600, 960):
        writer.append(ramp(960, start=start))
    audio_format, samples = read(await writer.finish(9600, EndReason.CLOSED))
    assert audio_format == AudioFormat(48_000, 1)
    np.testing.assert_array_equal(samples, ramp(9600))


async def test_silence_is_exactly_as_long_as_it_was(opened: tuple[RecordingStore, Read]) -> None:
    store, read = opened
    writer = store.create(info("a"))
    writer.append(ramp(100))
    writer.append_silence(100_001)
    writer.append(ramp(100))
    _, samples = read(await writer.finish(100_201, EndReason.CLOSED))
    assert len(samples) == 100_201
    assert not samples[100:-100].any()
    np.testing.assert_array_equal(samples[-100:], ramp(100))


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("sample_format", list(SampleFormat))
async def test_every_format_is_kept_as_it_is(
    opened: tuple[RecordingStore, Read], sample_format: SampleFormat, channels: int
) -> None:
    store, read = opened
    audio_format = AudioFormat(16_000, channels, sample_format)
    values = convert(ramp(500, channels), SampleFormat.S16, sample_format)
    writer = store.create(info("a", audio_format))
    writer.append(values)
    writer.append_silence(10)
    kept_format, samples = read(await writer.finish(510, EndReason.CLOSED))
    assert kept_format == audio_format
    np.testing.assert_array_equal(samples[:500], values)
    assert (samples[500:] == (128 if sample_format is SampleFormat.U8 else 0)).all()


async def test_recordings_side_by_side_do_not_mix(opened: tuple[RecordingStore, Read]) -> None:
    store, read = opened
    writers = [store.create(info(str(n))) for n in range(5)]
    for start in range(0, 960, 96):
        for n, writer in enumerate(writers):
            writer.append(ramp(96, start=start) + n)
    for n, writer in enumerate(writers):
        _, samples = read(await writer.finish(960, EndReason.CLOSED))
        np.testing.assert_array_equal(samples, ramp(960) + n)


async def test_a_name_that_exists_is_never_overwritten(opened: tuple[RecordingStore, Read]) -> None:
    store, read = opened
    first = store.create(info("a"))
    first.append(ramp(10))
    location = await first.finish(10, EndReason.CLOSED)
    second = store.create(info("a"))
    second.append(ramp(20))
    with pytest.raises(StorageFailed):
        await second.finish(20, EndReason.CLOSED)
    assert len(read(location)[1]) == 10


async def test_two_recordings_of_one_name_do_not_share_a_file(
    opened: tuple[RecordingStore, Read],
) -> None:
    store, read = opened
    first, second = store.create(info("a")), store.create(info("a"))
    first.append(ramp(10))
    second.append(ramp(20))
    location = await first.finish(10, EndReason.CLOSED)
    with pytest.raises(StorageFailed):
        await second.finish(20, EndReason.CLOSED)
    assert len(read(location)[1]) == 10


async def test_a_finished_wav_is_private_and_alone(tmp_path: pathlib.Path) -> None:
    store = WavStore(str(tmp_path))
    writer = store.create(info("a"))
    writer.append(ramp(10))
    location = pathlib.Path(await writer.finish(10, EndReason.CLOSED))
    store.close()
    assert stat.S_IMODE(location.stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]


async def test_a_planted_link_is_not_followed(tmp_path: pathlib.Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "a.wav.part").symlink_to(victim)
    store = WavStore(str(tmp_path))
    writer = store.create(info("a"))
    writer.append(ramp(10))
    with pytest.raises(StorageFailed):
        await writer.finish(10, EndReason.CLOSED)
    store.close()
    assert victim.read_text() == "precious"


def test_a_folder_that_cannot_be_written_is_told_at_once(tmp_path: pathlib.Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageFailed, match="cannot write recordings to .*file"):
        WavStore(str(tmp_path / "file")).check()
