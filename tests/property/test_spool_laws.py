"""A spool holds what was captured, whatever was captured, and wherever its process is killed."""

from __future__ import annotations

import asyncio
import hashlib
import os
import pathlib
import random
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.storage.spool import writer as writer_module
from adapters.storage.spool.folder import DiskSpoolFolder
from adapters.storage.spool.room import SpoolOptions
from domain.ports.spool import Spool
from domain.recording.ranges import RangeSet
from domain.sound.conversion import convert
from domain.sound.formats import AudioFormat, SampleFormat, Samples
from tests.rigs.spooling import SESSION, block_at, description, owed, pcm_of, sound_at

formats = st.builds(
    AudioFormat,
    st.sampled_from([44_100, 48_000, 88_200, 96_000]),
    st.integers(1, 8),
    st.sampled_from([SampleFormat.U8, SampleFormat.S16, SampleFormat.S24]),
)
block_lists = st.lists(
    st.tuples(st.sampled_from([0, 0, 0, 1, 700, 200_000]), st.integers(1, 3000)), max_size=12
)
"""How many samples are lost before a block, and how many it has."""
seeds = st.integers(0, 2**32)
OPTIONS = SpoolOptions(min_free_bytes=0, chunk_s=0.05)


def decode(flac: bytes, folder: pathlib.Path, audio_format: AudioFormat) -> Samples:
    """Decode a file without code of ours."""
    path = folder / "piece.flac"
    path.write_bytes(flac)
    samples, rate = soundfile.read(path, dtype="int32", always_2d=True)
    assert rate == audio_format.sample_rate_hz
    return convert(samples, SampleFormat.S32, audio_format.sample_format)


async def check(
    spool: Spool, captured: RangeSet, folder: pathlib.Path, dice: random.Random
) -> None:
    """Check that a spool holds what was captured, up to its length."""
    audio_format = spool.description.format
    expected = RangeSet()
    for item in captured.within(0, spool.length):
        expected.add(item.start, item.end)
    assert spool.captured == expected
    assert spool.length == expected.end
    digest = hashlib.sha256(pcm_of(expected, spool.length, audio_format)).hexdigest()
    assert await spool.sha256() == digest
    for item in expected:
        start = item.start
        while start < item.end:
            length = min(item.end - start, dice.randrange(1, 4000))
            samples = decode(await spool.flac(start, length), folder, audio_format)
            assert np.array_equal(samples, sound_at(start, length, audio_format))
            start += length


async def write(
    folder: pathlib.Path,
    audio_format: AudioFormat,
    blocks: list[tuple[int, int]],
    watch: Callable[[Spool], None] = lambda spool: None,
) -> tuple[Spool, RangeSet]:
    writer = await DiskSpoolFolder(str(folder), OPTIONS).create(description("a", audio_format))
    watch(writer.spool)
    position, captured = 0, RangeSet()
    for gap, length in blocks:
        position += gap
        writer.write(block_at(position, length, audio_format))
        captured.add(position, position + length)
        position += length
    await writer.finish()
    assert writer.failure is None
    return writer.spool, captured


@settings(deadline=None)
@given(formats, block_lists, seeds)
def test_what_was_captured_is_read_in_the_same_process_and_in_another(
    audio_format: AudioFormat, blocks: list[tuple[int, int]], seed: int
) -> None:
    dice = random.Random(seed)

    async def run(folder: pathlib.Path) -> None:
        spool, captured = await write(folder / "spools", audio_format, blocks)
        if not blocks:
            assert await owed(folder / "spools") == []
            assert not (folder / "spools" / "a").exists()
            return
        assert spool.length == captured.end
        await check(spool, captured, folder, dice)
        await spool.release()
        (again,) = await owed(folder / "spools")
        assert again.description == spool.description
        assert again.length == captured.end
        await check(again, captured, folder, dice)
        await again.export(str(folder / "all.wav"))
        samples, _ = soundfile.read(folder / "all.wav", dtype="int32", always_2d=True)
        pcm = convert(samples, SampleFormat.S32, audio_format.sample_format)
        for item in captured:
            there = pcm[item.start : item.end]
            assert np.array_equal(there, sound_at(item.start, item.length, audio_format))
        assert len(pcm) == captured.end
        await again.release()

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(run(pathlib.Path(folder)))


@contextmanager
def stopping_at_each_step(stop: Callable[[], None]) -> Iterator[None]:
    """Call `stop` before and after each step that changes files other than the head."""
    steps: list[tuple[object, str]] = [
        (writer_module, "create_file"), (writer_module, "sync_file"), (os, "fsync"),
        (writer_module, "sync_folder"), (pathlib.Path, "rename"), (pathlib.Path, "unlink"),
    ]  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        for owner, name in steps:
            original = getattr(owner, name)

            def step(*arguments: object, original: Callable[..., object] = original) -> object:
                stop()
                try:
                    return original(*arguments)
                finally:
                    stop()

            patch.setattr(owner, name, step)
        yield


def copy_as_killed(
    source: pathlib.Path, target: pathlib.Path, dice: random.Random, width: int
) -> int | None:
    """Copy the files of a spool while it grows.

    If the end of the head is cut off, return the position where; `width` is the bytes per sample
    of all channels.
    """
    cut = None
    names = sorted(path.name for path in source.iterdir())
    target.mkdir(parents=True)
    # a hole is in the journal before the sound behind it is in the head
    for name in sorted(names, key=lambda name: name == "journal"):
        shutil.copyfile(source / name, target / name)
    heads = sorted(target.glob("*.pcm"))
    if heads and not heads[-1].with_suffix(".flac").exists() and dice.random() < 0.5:
        data = heads[-1].read_bytes()
        size = dice.randrange(len(data) + 1)
        heads[-1].write_bytes(data[:size])
        cut = int(heads[-1].stem) + size // width
    with (target / "journal").open("ab") as journal:
        journal.write(dice.choice([b"", b'{"hole":[0,', b'{"session":{"server":"h']))
    return cut


@settings(deadline=None, max_examples=20)
@given(formats, block_lists.filter(bool), seeds)
def test_a_process_killed_at_any_step_leaves_every_sample_once(
    audio_format: AudioFormat, blocks: list[tuple[int, int]], seed: int
) -> None:
    dice = random.Random(seed)
    kills: list[tuple[pathlib.Path, int]] = []

    async def run(folder: pathlib.Path) -> None:
        source = folder / "spools" / "a"
        spools: list[Spool] = []
        lock = threading.Lock()

        def kill() -> None:
            with lock:  # two threads write
                if not (source.is_dir() and spools and dice.random() < 0.3):
                    return
                target = folder / "kills" / str(len(kills)) / "a"
                written = spools[0].length
                cut = copy_as_killed(source, target, dice, audio_format.bytes_per_frame)
                kills.append((target.parent, written if cut is None else min(written, cut)))

        with stopping_at_each_step(kill):
            spool, captured = await write(folder / "spools", audio_format, blocks, spools.append)
            await spool.release()
        for copy, length in kills:
            found = await owed(copy)
            ends = [item.end for item in captured.within(0, length)]
            if not found:  # nothing was captured, or it was cut off
                assert not ends and not (copy / "a").exists()
                continue
            (again,) = found
            assert again.length >= max(ends, default=0)
            await check(again, captured, folder, dice)
            await again.note_session(SESSION)
            await again.release()
            (again,) = await owed(copy)
            assert again.session == SESSION
            await again.release()

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(run(pathlib.Path(folder)))
