"""Sound that is another one at every position, for spools; as a process, it writes a spool."""

from __future__ import annotations

import asyncio
import datetime
import pathlib
import sys
from collections.abc import Iterator, Sequence

import numpy as np

from adapters.storage.spool.folder import DiskSpoolFolder
from adapters.storage.spool.room import SpoolOptions
from domain.ports.spool import Spool, SpoolDescription, SpoolSession
from domain.recording.ranges import RangeSet
from domain.sound.conversion import pack
from domain.sound.formats import AudioFormat, AudioFrame, SampleFormat, Samples, silence

FORMAT = AudioFormat(48_000, 2, SampleFormat.S24)
OPTIONS = SpoolOptions(min_free_bytes=0, chunk_s=0.25)
SESSION = SpoolSession("http://localhost:8080", "session", "secret")
HOLES = {11: 123, 50: 96_000, 77: 1}
"""Samples that are lost before some blocks, by the blocks' numbers modulo 100."""


def description(
    spool_id: str = "20260102-a", audio_format: AudioFormat = FORMAT
) -> SpoolDescription:
    started_at = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
    return SpoolDescription(
        spool_id,
        audio_format,
        started_at,
        "Anna",
        "http://localhost:8080",
        4_000_000_000,
        room="Küche",
    )


def sound_at(start: int, length: int, audio_format: AudioFormat) -> Samples:
    """Return what a microphone hears: every sample and channel is another one."""
    channels, sample_format = audio_format.channels, audio_format.sample_format
    numbers = np.arange(start * channels, (start + length) * channels, dtype=np.uint64)
    mixed = (numbers * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(64 - sample_format.bits)
    signed = mixed.astype(np.int64) - (
        0 if sample_format is SampleFormat.U8 else 1 << sample_format.bits - 1
    )
    return signed.astype(sample_format.dtype).reshape(-1, channels)


def block_at(start: int, length: int, audio_format: AudioFormat) -> AudioFrame:
    return AudioFrame(audio_format, sound_at(start, length, audio_format), start)


def pcm_of(captured: RangeSet, length: int, audio_format: AudioFormat) -> bytes:
    """Return the PCM of `length` samples of which some were captured."""
    samples = silence(audio_format, length)
    for item in captured.within(0, length):
        samples[item.start : item.end] = sound_at(item.start, item.length, audio_format)
    return pack(samples, audio_format.sample_format)


def blocks(audio_format: AudioFormat) -> Iterator[AudioFrame]:
    """Yield blocks of 10 ms without end, with holes before some."""
    position, length, number = 0, audio_format.sample_rate_hz // 100, 0
    while True:
        position += HOLES.get(number % 100, 0)
        yield block_at(position, length, audio_format)
        position, number = position + length, number + 1


def captured_until(length: int, audio_format: AudioFormat) -> RangeSet:
    """Return what `blocks` holds up to a position."""
    captured = RangeSet()
    for block in blocks(audio_format):
        captured.add(block.position, min(block.end, length))
        if block.end >= length:
            return captured
    raise AssertionError


async def owed(folder: pathlib.Path) -> Sequence[Spool]:
    return await DiskSpoolFolder(str(folder), OPTIONS).owed()


async def _write(folder: str) -> None:
    """Write a spool and tell its length, until the process is killed."""
    writer = await DiskSpoolFolder(folder, OPTIONS).create(description())
    await writer.spool.note_session(SESSION)
    for number, block in enumerate(blocks(FORMAT)):
        writer.write(block)
        if writer.failure is not None:
            raise writer.failure
        if number % 10 == 9:
            await asyncio.sleep(0.01)
            print(writer.spool.length, flush=True)


if __name__ == "__main__":
    asyncio.run(_write(sys.argv[1]))
