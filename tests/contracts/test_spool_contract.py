"""The contract of spools, and what becomes of them on a disk with faults."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import json
import os
import pathlib
import re
import stat
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import soundfile

from adapters.storage import media_file
from adapters.storage.flac_header import INFO_SIZE
from adapters.storage.spool import files, flac, writer
from adapters.storage.spool.folder import DiskSpoolFolder
from adapters.storage.spool.room import SpoolOptions
from domain.errors import SpoolFailed
from domain.ports.spool import MAX_PIECE_SAMPLES, Spool, SpoolSession, SpoolWriter
from domain.recording.ledger import RestoreMode
from domain.recording.ranges import Range, RangeSet
from domain.sound.formats import AudioFormat, SampleFormat
from tests.fakes.disk import FaultyDisk
from tests.rigs.spooling import (
    FORMAT,
    OPTIONS,
    SESSION,
    block_at,
    description,
    owed,
    pcm_of,
    sound_at,
)

MONO = AudioFormat(48_000, 1)
SECOND = 48_000


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / "state" / "spools"


async def create(
    folder: pathlib.Path,
    spool_id: str = "a",
    audio_format: AudioFormat = MONO,
    options: SpoolOptions = OPTIONS,
) -> SpoolWriter:
    return await DiskSpoolFolder(str(folder), options).create(description(spool_id, audio_format))


def write(writer: SpoolWriter, start: int, end: int) -> None:
    """Write blocks of 10 ms, and a shorter one at the end."""
    audio_format = writer.spool.description.format
    step = audio_format.sample_rate_hz // 100
    for position in range(start, end, step):
        writer.write(block_at(position, min(step, end - position), audio_format))


async def spooled(folder: pathlib.Path, spool_id: str = "a", seconds: float = 2) -> None:
    writer = await create(folder, spool_id)
    write(writer, 0, round(seconds * SECOND))
    await writer.finish()
    assert writer.failure is None
    await writer.spool.release()


async def until(condition: object) -> None:
    assert callable(condition)
    while not condition():
        await asyncio.sleep(0.005)


def hash_of(spool: Spool) -> str:
    pcm = pcm_of(spool.captured, spool.length, spool.description.format)
    return hashlib.sha256(pcm).hexdigest()


def decode(data: bytes, path: pathlib.Path) -> np.ndarray:
    path.write_bytes(data)
    samples, _ = soundfile.read(path, dtype="int16", always_2d=True)
    return np.asarray(samples)


# -- what it holds --------------------------------------------------------------------------------


async def test_a_spool_is_read_while_it_grows(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    writer = await create(folder)
    spool = writer.spool
    assert (spool.length, len(spool.captured), spool.session) == (0, 0, None)
    for second in range(3):
        write(writer, second * SECOND, (second + 1) * SECOND)
        end = (second + 1) * SECOND
        await until(lambda end=end: spool.length == end)
        assert list(spool.captured) == [Range(0, end)]
        samples = decode(await spool.flac(end - 30_000, 30_000), tmp_path / "piece")
        assert np.array_equal(samples, sound_at(end - 30_000, 30_000, MONO))
        assert await spool.sha256() == hash_of(spool)
    await writer.finish()
    assert await spool.sha256() == hash_of(spool)
    assert len(list((folder / "a").glob("*.flac"))) == 11
    assert len(list((folder / "a").glob("*.pcm"))) == 1
    await spool.release()


async def test_what_was_not_captured_cannot_be_read(folder: pathlib.Path) -> None:
    writer = await create(folder)
    write(writer, 500, 1000)
    write(writer, 1001, 2000)
    await writer.finish()
    assert list(writer.spool.captured) == [Range(500, 500), Range(1001, 999)]
    assert await writer.spool.sha256() == hash_of(writer.spool)
    for start, length in ((0, 10), (499, 2), (900, 200), (1999, 2), (5000, 1)):
        with pytest.raises(SpoolFailed, match="not captured"):
            await writer.spool.flac(start, length)
    await writer.spool.release()


@pytest.mark.parametrize("audio_format", [
    MONO, AudioFormat(44_100, 2, SampleFormat.U8), AudioFormat(96_000, 8, SampleFormat.S24),
])  # fmt: skip
async def test_the_longest_piece_is_one_flac_file(
    folder: pathlib.Path, tmp_path: pathlib.Path, audio_format: AudioFormat
) -> None:
    writer = await create(folder, audio_format=audio_format)
    write(writer, 0, MAX_PIECE_SAMPLES)
    await writer.finish()
    data = await writer.spool.flac(0, MAX_PIECE_SAMPLES)
    (tmp_path / "piece").write_bytes(data)
    found = soundfile.info(tmp_path / "piece")
    assert (found.format, found.frames) == ("FLAC", MAX_PIECE_SAMPLES)
    assert (found.samplerate, found.channels) == (
        audio_format.sample_rate_hz, audio_format.channels,
    )  # fmt: skip
    assert np.array_equal(
        flac.decode(data, audio_format), sound_at(0, MAX_PIECE_SAMPLES, audio_format)
    )
    await writer.spool.release()


async def test_a_short_piece_has_little_around_it(folder: pathlib.Path) -> None:
    writer = await create(folder)
    write(writer, 0, 960)
    await writer.finish()
    # noise cannot be compressed: what is left is the head of the file, and of one frame
    assert len(await writer.spool.flac(0, 960)) <= 960 * 2 + 110
    await writer.spool.release()


@pytest.mark.parametrize("audio_format", [
    AudioFormat(48_000, 1, SampleFormat.F32), AudioFormat(48_000, 1, SampleFormat.S32),
    AudioFormat(48_000, 9), AudioFormat(768_000, 1),
])  # fmt: skip
async def test_a_format_that_flac_cannot_hold_is_refused(
    folder: pathlib.Path, audio_format: AudioFormat
) -> None:
    with pytest.raises(SpoolFailed, match="FLAC"):
        await create(folder, audio_format=audio_format)
    assert await owed(folder) == []


# -- which spools there are -----------------------------------------------------------------------


async def test_spools_are_owed_oldest_first_with_what_is_known_of_them(
    folder: pathlib.Path,
) -> None:
    assert await owed(folder) == []
    told = replace(description("b", FORMAT), mode=RestoreMode.ALL, name="Zoë")
    writers = []
    for what in (told, description("a", MONO)):
        writer = await DiskSpoolFolder(str(folder), OPTIONS).create(what)
        write(writer, 0, 1000)
        await writer.spool.note_session(replace(SESSION, session_id="first"))
        await writer.spool.note_session(SESSION)
        assert writer.spool.session == SESSION
        await writer.finish()
        assert await owed(folder) == []
        writers.append(writer)
    for writer in writers:
        await writer.spool.release()
        await writer.spool.release()
    found = await owed(folder)
    assert [spool.description for spool in found] == [description("a", MONO), told]
    assert {spool.session for spool in found} == {SESSION}
    assert {spool.length for spool in found} == {1000}
    assert await owed(folder) == []
    for spool in found:
        await spool.release()
    assert len(await owed(folder)) == 2


async def test_only_its_user_can_read_a_spool(folder: pathlib.Path) -> None:
    await spooled(folder)
    files = list((folder / "a").iterdir())
    assert len(files) > 5
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert stat.S_IMODE((folder / "a").stat().st_mode) == 0o700
    assert "secret" not in repr(SESSION)


async def test_an_empty_spool_is_removed(folder: pathlib.Path) -> None:
    writer = await create(folder)
    await writer.finish()
    assert writer.failure is None
    assert not [path for path in folder.iterdir() if path.is_dir()]
    await writer.spool.release()


async def test_a_spool_is_removed_once(folder: pathlib.Path) -> None:
    await spooled(folder)
    (spool,) = await owed(folder)
    await spool.remove()
    await spool.remove()
    assert not [path for path in folder.iterdir() if path.is_dir()]
    with pytest.raises(SpoolFailed):
        await spool.flac(0, 1)


async def test_a_power_failure_does_not_bring_a_removed_spool_back(
    folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await spooled(folder)
    (spool,) = await owed(folder)
    synced: list[set[str]] = []
    monkeypatch.setattr(
        files, "sync_folder", lambda path: synced.append({item.name for item in path.iterdir()})
    )
    await spool.remove()
    assert synced == [{".lock", ".a.gone"}]
    assert {item.name for item in folder.iterdir()} == {".lock"}


async def test_leftovers_are_cleared_and_other_files_are_not(folder: pathlib.Path) -> None:
    await spooled(folder, "a")
    await spooled(folder, "b")
    (folder / "a").rename(folder / ".a.gone")  # killed while it removed the spool
    (folder / ".a.gone" / "journal").unlink()
    (folder / ".b.new").mkdir()  # killed while it began
    (folder / ".b.new" / "journal").touch()
    (folder / "notes").mkdir()
    (folder / "notes" / "journal").write_text("my own\n")
    (folder / "empty").mkdir()
    (folder / "letter").write_text("mine")
    (spool,) = await owed(folder)
    assert spool.description.id == "b"
    await spool.remove()
    left = sorted(path.name for path in folder.iterdir())
    assert left == [".lock", "empty", "letter", "notes"]
    assert (folder / "notes" / "journal").read_text() == "my own\n"


# -- damage ---------------------------------------------------------------------------------------


async def test_what_is_damaged_or_missing_counts_as_not_captured(
    folder: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    await spooled(folder)
    pieces = sorted((folder / "a").glob("*.flac"))
    pieces[1].unlink()
    pieces[2].write_bytes(pieces[2].read_bytes()[:30])
    other_md5 = bytearray(pieces[3].read_bytes())
    other_md5[INFO_SIZE - 1] ^= 1
    pieces[3].write_bytes(other_md5)
    inside = bytearray(pieces[4].read_bytes())
    inside[len(inside) // 2] ^= 0x10
    pieces[4].write_bytes(inside)
    pieces[5].write_bytes(pieces[5].read_bytes()[:-100])
    (head,) = (folder / "a").glob("*.pcm")
    head.write_bytes(head.read_bytes()[:1001])
    with (folder / "a" / "journal").open("ab") as journal:
        journal.write(b'\0\0\0\n[]\n{"hole":"x"}\n{"session":{}}\n{"hole":[')
    (spool,) = await owed(folder)
    length = 12_000  # of a piece
    expected = RangeSet([Range(0, 7 * length + 500)])
    expected.remove(length, 3 * length)
    assert spool.captured == expected
    with pytest.raises(SpoolFailed, match="damaged"):
        await spool.flac(4 * length, 100)
    expected.remove(4 * length, 5 * length)
    assert spool.captured == expected
    expected.remove(3 * length, 4 * length)
    expected.remove(5 * length, 6 * length)
    assert await spool.sha256() == hashlib.sha256(pcm_of(expected, spool.length, MONO)).hexdigest()
    assert spool.captured == expected
    samples = decode(await spool.flac(6 * length, length), tmp_path / "piece")
    assert np.array_equal(samples, sound_at(6 * length, length, MONO))
    await spool.export(str(tmp_path / "all.wav"))
    found, _ = soundfile.read(tmp_path / "all.wav", dtype="int16")
    assert found.astype("<i2").tobytes() == pcm_of(expected, spool.length, MONO)
    await spool.release()


async def test_what_was_hashed_before_it_was_damaged_is_hashed_again(folder: pathlib.Path) -> None:
    writer = await create(folder)
    write(writer, 0, SECOND)
    await writer.finish()
    assert await writer.spool.sha256() == hash_of(writer.spool)
    piece = sorted((folder / "a").glob("*.flac"))[1]
    piece.write_bytes(piece.read_bytes()[:-100])
    with pytest.raises(SpoolFailed, match="damaged"):
        await writer.spool.flac(12_000, 100)
    assert list(writer.spool.captured) == [Range(0, 12_000), Range(24_000, 24_000)]
    assert await writer.spool.sha256() == hash_of(writer.spool)
    await writer.spool.release()


async def test_a_spool_without_a_beginning_is_left_alone(
    folder: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    await spooled(folder)
    journal = folder / "a" / "journal"
    entry = json.loads(journal.read_text())
    journal.write_text(json.dumps(entry | {"channels": 0}) + "\n")
    assert await owed(folder) == []
    assert "the beginning of" in caplog.text
    assert len(list((folder / "a").iterdir())) > 5


async def test_a_spool_of_another_version_is_left_alone(
    folder: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    await spooled(folder)
    (pcm,) = (folder / "a").glob("*.pcm")
    pcm.rename(pcm.with_suffix(".wv"))  # a file that this version does not know
    for path in (folder / "a").glob("*.flac"):
        path.unlink()
    journal = folder / "a" / "journal"
    entry = json.loads(journal.read_text())
    journal.write_text(json.dumps(entry | {"spool": 2}) + "\n")
    before = sorted((folder / "a").iterdir())
    assert await owed(folder) == []
    assert await DiskSpoolFolder(str(folder), OPTIONS).entries() == []
    assert caplog.text.count("has version 2, and this Gapless knows version 1") == 2
    assert sorted((folder / "a").iterdir()) == before


async def test_what_a_later_version_adds_to_a_journal_is_ignored(folder: pathlib.Path) -> None:
    await spooled(folder)
    journal = folder / "a" / "journal"
    entry = json.loads(journal.read_text())
    lines = entry | {"gain": 3}, {"weather": "fine"}
    journal.write_text("".join(json.dumps(line) + "\n" for line in lines))
    (spool,) = await owed(folder)
    assert spool.description == description("a", MONO)
    await spool.release()


# -- the end of the disk --------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: pathlib.Path) -> Iterator[pathlib.Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("a tmpfs cannot be mounted here")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.parametrize("kept", [0, 1_000_000])
async def test_a_full_disk_ends_a_spool_and_keeps_it(small_disk: pathlib.Path, kept: int) -> None:
    options = replace(OPTIONS, min_free_bytes=kept)
    writer = await create(small_disk, audio_format=FORMAT, options=options)
    write(writer, 0, 25 * SECOND)
    await writer.finish()
    reason = "are free on the disk" if kept else "(are free on the disk|No space left)"
    assert writer.failure is not None
    assert str(writer.failure).startswith(str(small_disk))
    await check_that_a_prefix_is_kept(small_disk, writer, reason)
    stats = os.statvfs(small_disk)
    assert stats.f_bavail * stats.f_frsize >= kept - 300_000  # FLAC is written beside


async def check_that_a_prefix_is_kept(
    folder: pathlib.Path, writer: SpoolWriter, reason: str
) -> None:
    """Check that a spool has failed, and that this process and another one read the same."""
    assert re.search(reason, str(writer.failure))
    spool = writer.spool
    length = spool.length
    assert length > 0
    assert list(spool.captured) == [Range(0, length)]
    assert await spool.sha256() == hash_of(spool)
    await spool.release()
    (again,) = await owed(folder)
    assert again.length == length
    assert await again.sha256() == hash_of(again)
    await again.release()


async def test_half_a_block_that_was_written_is_cut_off(
    folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = await create(folder)
    write(writer, 0, 5000)
    await until(lambda: writer.spool.length == 5000)
    disk = FaultyDisk(monkeypatch)
    disk.fail("pwrite", errno.EIO, ".pcm")
    write(writer, 5000, 6000)
    await until(lambda: writer.failure is not None)
    disk.repair()
    write(writer, 6000, 7000)
    await writer.finish()
    assert writer.spool.length == 5000
    await check_that_a_prefix_is_kept(folder, writer, r"0\.pcm: Input/output error")


@pytest.mark.parametrize(("function", "text"), [("pwrite", "flac.part"), ("fsync", "flac.part")])
async def test_a_file_that_cannot_become_flac_stays_as_it_is(
    folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch, function: str, text: str
) -> None:
    writer = await create(folder)
    FaultyDisk(monkeypatch).fail(function, errno.ENOSPC, text)
    write(writer, 0, 13_000)
    await until(lambda: writer.failure is not None)
    await writer.finish()
    assert not list((folder / "a").glob("*.flac*"))
    await check_that_a_prefix_is_kept(folder, writer, "No space left on device")


async def test_a_folder_that_is_gone_ends_a_spool(folder: pathlib.Path) -> None:
    writer = await create(folder)
    write(writer, 0, 5000)
    await until(lambda: writer.spool.length == 5000)
    folder.rename(folder.with_name("elsewhere"))
    write(writer, 5000, 6000)
    await writer.finish()
    await writer.spool.release()
    assert "No such file or directory" in str(writer.failure)
    (again,) = await owed(folder.with_name("elsewhere"))
    assert again.length == 5000


async def test_all_spools_together_have_a_limit(folder: pathlib.Path) -> None:
    await spooled(folder, "a", 1)
    options = replace(OPTIONS, max_bytes=200_000)
    writer = await create(folder, "b", options=options)
    write(writer, 0, 2 * SECOND)
    await writer.finish()
    assert "the limit of 0.2 MB is reached" in str(writer.failure)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    assert 180_000 < size <= 201_000
    await writer.spool.release()
    with pytest.raises(SpoolFailed, match="limit"):
        await create(folder, "c", options=replace(options, max_bytes=size - 1000))
    assert [spool.description.id for spool in await owed(folder)] == ["a", "b"]


async def test_a_disk_that_hangs_delays_nothing_and_then_ends_a_spool(
    folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    goes_on, hangs = threading.Event(), threading.Event()
    original = media_file.write_all

    def hang(descriptor: int, data: bytes, offset: int) -> None:
        hangs.set()
        assert goes_on.wait(50)
        original(descriptor, data, offset)

    monkeypatch.setattr(writer, "write_all", hang)
    spool_writer = await create(folder, options=replace(OPTIONS, waiting_s=1))
    write(spool_writer, 0, 480)
    assert await asyncio.to_thread(hangs.wait, 50)
    write(spool_writer, 480, 5 * SECOND)
    assert "has not answered for 1 s" in str(spool_writer.failure)
    await spool_writer.finish()  # does not hang
    goes_on.set()
    await spool_writer.finish()
    # what waited was written when the disk went on
    assert SECOND <= spool_writer.spool.length <= SECOND + 960
    await check_that_a_prefix_is_kept(folder, spool_writer, "has not answered")


async def test_sound_that_comes_all_at_once_is_no_fault_of_the_disk(
    folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    goes_on, original = threading.Event(), media_file.write_all

    def write_later(descriptor: int, data: bytes, offset: int) -> None:
        assert goes_on.wait(50)
        original(descriptor, data, offset)

    def sleep(_seconds: float) -> None:
        goes_on.set()
        threading.Event().wait(0.001)

    monkeypatch.setattr(writer, "write_all", write_later)
    monkeypatch.setattr(writer.time, "sleep", sleep)
    spool_writer = await create(folder, options=replace(OPTIONS, waiting_s=0.5))
    write(spool_writer, 0, 3 * SECOND)  # the disk has not had the time to write any of it
    await spool_writer.finish()
    assert spool_writer.failure is None
    assert spool_writer.spool.length == 3 * SECOND
    await spool_writer.spool.release()


async def test_a_stick_that_is_mounted_read_only_can_be_read(
    small_disk: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    await spooled(small_disk, seconds=1)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    (spool,) = await owed(small_disk)
    assert spool.length == SECOND
    assert await spool.sha256() == hash_of(spool)
    await spool.flac(0, 960)
    await spool.export(str(tmp_path / "all.wav"))
    assert soundfile.info(tmp_path / "all.wav").frames == SECOND
    with pytest.raises(SpoolFailed):
        await spool.note_session(SpoolSession("", "", ""))
    assert spool.session is None
    with pytest.raises(SpoolFailed, match="Read-only file system"):
        await spool.remove()
    with pytest.raises(SpoolFailed, match="Read-only file system"):
        await create(small_disk, "b")
    await spool.release()
    assert len(await owed(small_disk)) == 1


async def test_a_folder_that_cannot_be_read_is_told(tmp_path: pathlib.Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SpoolFailed, match="file: Not a directory"):
        await owed(tmp_path / "file")
    with pytest.raises(SpoolFailed, match="file"):
        await create(tmp_path / "file")


# -- export ---------------------------------------------------------------------------------------


async def test_an_export_replaces_no_file(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    await spooled(folder)
    (spool,) = await owed(folder)
    (tmp_path / "a.wav").write_text("mine")
    with pytest.raises(SpoolFailed, match=r"a\.wav: File exists"):
        await spool.export(str(tmp_path / "a.wav"))
    with pytest.raises(SpoolFailed, match="No such file or directory"):
        await spool.export(str(tmp_path / "nowhere" / "a.wav"))
    assert (tmp_path / "a.wav").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.wav", "state"]
    await spool.release()


async def test_an_odd_number_of_bytes_is_padded(
    folder: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    writer = await create(folder, audio_format=AudioFormat(48_000, 1, SampleFormat.U8))
    write(writer, 1, 1001 + 1000)
    await writer.finish()
    await writer.spool.export(str(tmp_path / "a.wav"))
    data = (tmp_path / "a.wav").read_bytes()
    assert len(data) == 44 + 2002
    assert data[44] == 128
    assert soundfile.info(tmp_path / "a.wav").frames == 2001
    await writer.spool.release()


async def test_an_export_larger_than_a_wav_is_rf64(
    folder: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    """Three hours of a hole between two blocks, in eight channels of 24 bit."""
    length = 190_000_000
    writer = await create(folder, audio_format=AudioFormat(96_000, 8, SampleFormat.S24))
    write(writer, 0, 960)
    write(writer, length - 960, length)
    await writer.finish()
    (tmp_path / "big").mkdir()
    path = tmp_path / "big" / "a.wav"
    exporting = asyncio.create_task(writer.spool.export(str(path)))
    part = path.with_name("a.wav.part")
    await until(lambda: part.exists() and part.stat().st_size > 1000)
    with part.open("rb") as file:
        head = file.read(32)
    assert (head[:4], head[12:16]) == (b"RF64", b"ds64")
    assert int.from_bytes(head[28:32] + b"\0\0\0\0", "little") == (length * 24) & 0xFFFFFFFF
    exporting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await exporting
    await until(lambda: not list(path.parent.iterdir()))  # nobody waits for gigabytes any more
    await writer.spool.release()
