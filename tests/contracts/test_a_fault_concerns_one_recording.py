"""Disk calls fail (statvfs, fsync, close): only one recording is affected, others continue."""

from __future__ import annotations

import asyncio
import errno
import os
import pathlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from adapters.codec.decoders import make_decoder
from adapters.storage.folder.catalogue import FolderCatalogue
from adapters.storage.folder.inspection import inspect_recording
from adapters.storage.folder.recovery import FolderRecovery
from adapters.storage.folder.store import FolderStore
from domain.errors import StorageFailed, StorageFull
from domain.ports.catalogue import CatalogueQuery, RecordingState
from domain.recording.effects import EndReason
from domain.recording.ledger import SampleKind
from domain.recording.verification import Limits, verify
from tests.rigs.recordings import LONG_AGO, START, info, ramp

GOOD, BAD = (1, 3), 2


@pytest.fixture
def store(tmp_path: pathlib.Path) -> Iterator[FolderStore]:
    catalogue = FolderCatalogue(str(tmp_path), make_decoder)
    store = FolderStore(str(tmp_path), catalogue=catalogue)
    yield store
    store.close()
    catalogue.close()


def path_of(descriptor: int) -> str:
    return str(pathlib.Path(f"/proc/self/fd/{descriptor}").readlink())


def fail(
    monkeypatch: pytest.MonkeyPatch, function: str, wanted: Callable[[str], bool]
) -> list[str]:
    """Let a function of `os` fail for files whose paths are wanted; returns where it has."""
    seen: list[str] = []
    original = getattr(os, function)

    def failing(target: int | pathlib.Path) -> object:
        path = path_of(target) if isinstance(target, int) else str(target)
        if not wanted(path):
            return original(target)
        if function == "close":
            original(target)  # close the descriptor in any case
        seen.append(path)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, function, failing)
    return seen


def is_of_the_bad_one(ending: str) -> Callable[[str], bool]:
    """Whether a path is of the bad recording; it ends with "(deleted)" after a rename."""
    return lambda path: f"{info(BAD).name}{ending}" in path


def descriptors() -> set[str]:
    """Return the open files in the folders of tests."""
    found = set()
    for link in list(pathlib.Path("/proc/self/fd").iterdir()):
        try:
            path = str(link.readlink())
        except FileNotFoundError:
            continue
        if "pytest" in path and "catalogue" not in path:
            found.add(path)
    return found


@contextmanager
def nothing_stays_open() -> Iterator[None]:
    before = descriptors()
    yield
    assert descriptors() == before


async def record(store: FolderStore) -> dict[int, str | StorageFailed]:
    """Make three recordings at the same time; return the location or the error of each."""
    writers = {number: store.create(info(number)) for number in (*GOOD, BAD)}
    for _ in range(3):
        for writer in writers.values():
            writer.append([ramp(4800)], SampleKind.RECEIVED)
    async with asyncio.timeout(20):
        ends = await asyncio.gather(
            *(writer.finish(EndReason.CLOSED, START) for writer in writers.values()),
            return_exceptions=True,
        )
    found: dict[int, str | StorageFailed] = {}
    for number, end in zip(writers, ends, strict=True):
        if isinstance(end, StorageFailed):
            found[number] = end
        else:
            assert not isinstance(end, BaseException)
            found[number] = end.location
    return found


def assert_sound(location: object) -> None:
    verdict = verify(inspect_recording(str(location)), Limits())
    assert verdict.problems == []
    assert verdict.length == 14_400


@pytest.mark.parametrize("ending", [".wav.part", ".json.part"])
async def test_a_failing_fsync_ends_its_recording_and_recovery_completes_it(
    store: FolderStore, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    with nothing_stays_open():
        with monkeypatch.context() as faulty:
            seen = fail(faulty, "fsync", is_of_the_bad_one(ending))
            found = await record(store)
        assert len(seen) == 1
        for number in GOOD:
            assert_sound(found[number])
        assert "Input/output error" in str(found[BAD])
    catalogue = FolderCatalogue(str(tmp_path), make_decoder)
    live = catalogue.page(CatalogueQuery(states=frozenset({RecordingState.LIVE}))).entries
    assert [entry.info.id for entry in live] == [info(BAD).id]
    catalogue.close()
    (recovered,) = FolderRecovery().recover(str(tmp_path)).recovered
    assert_sound(recovered.location)
    names = {path.name for path in tmp_path.iterdir() if not path.name.startswith(".")}
    assert names == {f"{info(n).name}.{e}" for n in (1, 2, 3) for e in ("wav", "json")}


async def test_a_folder_that_cannot_be_synced_ends_only_recordings_being_completed(
    store: FolderStore, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with nothing_stays_open():
        going_on = store.create(info(4))
        going_on.append([ramp(4800)], SampleKind.RECEIVED)
        with monkeypatch.context() as faulty:
            fail(faulty, "fsync", str(tmp_path).__eq__)
            found = await record(store)
        assert all(isinstance(end, StorageFailed) for end in found.values())
        going_on.append([ramp(9600)], SampleKind.RECEIVED)
        assert_sound((await going_on.finish(EndReason.CLOSED, START)).location)
    assert len(FolderRecovery().recover(str(tmp_path)).recovered) == 3
    for path in tmp_path.glob("*.wav"):
        assert_sound(path)


@pytest.mark.parametrize("ending", [".wav.part", ".journal", ".json.part", ""])
async def test_a_failing_close_loses_nothing_that_was_synced(
    store: FolderStore, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    with nothing_stays_open():
        with monkeypatch.context() as faulty:
            wanted = is_of_the_bad_one(ending) if ending else str(tmp_path).__eq__
            seen = fail(faulty, "close", wanted)
            found = await record(store)
        assert seen
        for number in (*GOOD, BAD):
            assert_sound(found[number])
    names = {path.name for path in tmp_path.iterdir() if not path.name.startswith(".")}
    assert names == {f"{info(n).name}.{e}" for n in (1, 2, 3) for e in ("wav", "json")}


async def test_a_failing_statvfs_ends_no_recording_and_refuses_new_ones(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapters.storage.folder.disk.SYNC_INTERVAL_S", 0.01)
    store = FolderStore(str(tmp_path))
    store.check_room()
    writer = store.create(info(1))
    writer.append([ramp(4800)], SampleKind.RECEIVED)
    with monkeypatch.context() as faulty:
        seen = fail(faulty, "statvfs", lambda _path: True)
        async with asyncio.timeout(10):
            while len(seen) < 3:
                await asyncio.sleep(0.01)
        with pytest.raises(StorageFull):
            store.check_room()
        writer.append([ramp(9600)], SampleKind.RECEIVED)
        completed = await writer.finish(EndReason.CLOSED, START)
    assert completed.end_reason == "closed"
    assert_sound(completed.location)
    async with asyncio.timeout(10):
        while True:
            try:
                store.check_room()
            except StorageFull:
                await asyncio.sleep(0.01)
            else:
                break
    store.close()


async def test_a_write_that_fails_is_reported_with_its_own_reason(
    store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This also holds if statvfs fails, so that nobody knows whether the disk is full."""
    monkeypatch.setattr(os, "fstatvfs", lambda _descriptor: _raise(errno.ESTALE))
    original = os.pwrite

    def write(descriptor: int, data: bytes, offset: int) -> int:
        if b'"silence"' in data and info(BAD).name in path_of(descriptor):
            _raise(errno.EDQUOT)
        return original(descriptor, data, offset)

    monkeypatch.setattr(os, "pwrite", write)
    monkeypatch.setattr("adapters.storage.folder.writer.MAX_FAULT_S", 0.1)
    for number in (1, BAD):
        writer = store.create(info(number))
        writer.append([ramp(4800)], SampleKind.RECEIVED)
        writer.append_silence(4800, SampleKind.SILENCE)
        completed = await writer.finish(EndReason.CLOSED, START)
        if number == BAD:
            assert "quota" in str(writer.failure)
            assert (completed.end_reason, completed.length) == ("storage failed", 4800)
        else:
            assert (completed.end_reason, completed.length) == ("closed", 9600)


def _raise(number: int) -> None:
    raise OSError(number, os.strerror(number))


def test_recovery_continues_after_a_fault_in_one_recording(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def leave() -> None:
        store = FolderStore(str(tmp_path))
        for number in (*GOOD, BAD):
            store.create(info(number)).append([ramp(14_400)], SampleKind.RECEIVED)
        store.close()

    asyncio.run(leave())
    with nothing_stays_open():
        with monkeypatch.context() as faulty:
            fail(faulty, "fsync", is_of_the_bad_one(".wav.part"))
            catalogue = FolderCatalogue(str(tmp_path), make_decoder)
            store = FolderStore(str(tmp_path), catalogue=catalogue)
            found = store.recover(resumable_since=LONG_AGO)
        assert [recording.info.id for recording in found.recovered] == [info(n).id for n in GOOD]
        assert len(found.failed) == 1
        found = store.recover(resumable_since=LONG_AGO)
        assert [recording.info.id for recording in found.recovered] == [info(BAD).id]
        store.close()
        catalogue.close()
    for path in tmp_path.glob("*.wav"):
        assert_sound(path)
