"""The index knows unfinished recordings, whatever other processes do in the folder."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pathlib
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from adapters.codec.decoders import make_decoder
from adapters.storage.folder.catalogue import FolderCatalogue
from adapters.storage.folder.index import INDEX
from adapters.storage.folder.recovery import FolderRecovery
from domain.errors import RecordingLive, StorageFailed
from domain.recording.effects import EndReason
from domain.recording.ledger import SampleKind
from tests.rigs.recordings import (
    COMPLETE,
    LIVE,
    LONG_AGO,
    START,
    Rig,
    close,
    counting_listings,
    info,
    open_folder,
    shows,
)


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / "recordings"


@pytest.fixture
def opened_folder(folder: pathlib.Path) -> Iterator[Rig]:
    rig = open_folder(folder)
    yield rig
    close(rig)


async def left_behind(folder: pathlib.Path, *numbers: int) -> None:
    """Leave recordings behind as a killed process does."""
    rig = open_folder(folder)
    rig.store.recover(resumable_since=LONG_AGO)
    for number in numbers:
        rig.create(number).append(rig.sound(), SampleKind.RECEIVED)
    close(rig)


async def test_recovery_finds_unfinished_recordings_in_the_index(
    folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await left_behind(folder, 1, 2)
    rig = open_folder(folder)
    listings = counting_listings(monkeypatch)
    found = rig.store.recover(resumable_since=LONG_AGO)
    assert listings == []
    assert [recording.info.id for recording in found.recovered] == [info(1).id, info(2).id]
    assert rig.ids(states={COMPLETE}) == [info(2).id, info(1).id]
    assert rig.catalogue.entry(info(1).id).end_reason == "recovered"
    close(rig)


async def test_a_scan_does_not_forget_a_part_whose_file_is_not_made_yet(
    opened_folder: Rig, folder: pathlib.Path
) -> None:
    await opened_folder.record(1)
    opened_folder.catalogue.announce(info(2), number=1, start=0)
    (folder / "talk").write_text("a change")
    catalogue = opened_folder.catalogue
    assert isinstance(catalogue, FolderCatalogue)
    catalogue.scan()
    assert opened_folder.ids() == [info(1).id]
    close(opened_folder)
    assert FolderCatalogue(str(folder), make_decoder).unfinished() == {info(2).name}


async def test_a_recording_killed_in_its_last_steps_is_recovered_by_the_index(
    folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sound has its final name and the ledger does not, so a scan finds nothing complete."""

    def end_here(_files: object) -> None:
        raise OSError("killed")

    rig = open_folder(folder)
    rig.store.recover(resumable_since=LONG_AGO)
    await rig.record(1)
    with monkeypatch.context() as killed:
        killed.setattr("adapters.storage.folder.files.publish_ledger", end_here)
        with pytest.raises(StorageFailed):
            await rig.record(2)
    assert (folder / f"{info(2).name}.wav").exists()
    assert isinstance(rig.catalogue, FolderCatalogue)
    rig.catalogue.scan()
    close(rig)
    rig = open_folder(folder)
    listings = counting_listings(monkeypatch)
    (recovered,) = rig.store.recover(resumable_since=LONG_AGO).recovered
    assert (recovered.info.id, listings) == (info(2).id, [])
    assert rig.catalogue.entry(info(2).id).state is COMPLETE
    close(rig)


async def test_gapless_recover_brings_the_index_up_to_date(folder: pathlib.Path) -> None:
    await left_behind(folder, 1, 2)
    assert len(FolderRecovery().recover(str(folder)).recovered) == 2
    rig = open_folder(folder)
    found = rig.store.recover(resumable_since=LONG_AGO)
    assert (found.recovered, found.failed, found.busy) == ([], [], [])
    assert rig.ids(states={LIVE}) == []
    assert rig.ids(states={COMPLETE}) == [info(2).id, info(1).id]
    close(rig)


async def test_gapless_recover_makes_no_index(folder: pathlib.Path) -> None:
    await left_behind(folder, 1)
    (folder / INDEX).unlink()
    assert len(FolderRecovery().recover(str(folder)).recovered) == 1
    assert not (folder / INDEX).exists()


async def test_recordings_left_before_there_was_an_index_are_recovered(
    folder: pathlib.Path,
) -> None:
    await left_behind(folder, 1)
    (folder / INDEX).unlink()
    rig = open_folder(folder)
    assert len(rig.store.recover(resumable_since=LONG_AGO).recovered) == 1
    assert rig.ids(states={COMPLETE}) == [info(1).id]
    close(rig)


async def test_an_unfinished_file_that_no_process_writes_is_logged_once_and_left_alone(
    folder: pathlib.Path, tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    rig = open_folder(folder)
    rig.store.recover(resumable_since=LONG_AGO)
    await rig.record(1)
    await left_behind(tmp_path / "other", 2)
    for path in (tmp_path / "other").glob("2*"):
        path.rename(folder / path.name)
    for number in (3, 4):
        await rig.record(number)
        expected = [info(n).id for n in (4, 3, 1) if n <= number]
        await shows(rig, expected)
    async with asyncio.timeout(20):
        while not any("gapless recover" in record.message for record in caplog.records):
            rig.ids()
            await asyncio.sleep(0.01)
    assert (folder / f"{info(2).name}.wav.part").exists()
    assert len([record for record in caplog.records if info(2).name in record.message]) == 1
    close(rig)


async def test_recordings_of_other_processes_are_live_until_they_are_complete(
    folder: pathlib.Path,
) -> None:
    writer, reader = open_folder(folder), open_folder(folder)
    assert reader.ids() == []
    live = writer.create(1)
    live.append(writer.sound(), SampleKind.RECEIVED)
    entry = await reader.until(lambda entry: entry.length == 9600, 1)
    assert entry.state is LIVE
    with pytest.raises(RecordingLive):
        reader.catalogue.remove(info(1).id)
    await live.finish(EndReason.CLOSED, START)
    assert reader.catalogue.entry(info(1).id).state is COMPLETE
    reader.catalogue.remove(info(1).id)
    assert writer.ids() == []
    for rig in (writer, reader):
        close(rig)


_PROCESS = """
import asyncio, pathlib, sys
sys.path.insert(0, sys.argv[1])
from tests.rigs.recordings import close, open_folder
async def main():
    rig = open_folder(pathlib.Path(sys.argv[2]))
    rig.store.recover(resumable_since=__import__("datetime").datetime.now().astimezone())
    for number in range(int(sys.argv[3]), int(sys.argv[4])):
        await rig.record(number)
    close(rig)
asyncio.run(main())
"""


async def test_processes_and_threads_share_a_folder(folder: pathlib.Path) -> None:
    """All begin at once, without an index. No page lists a recording twice."""
    folder.mkdir()
    root = str(pathlib.Path(__file__).parents[2])
    processes = [
        subprocess.Popen([sys.executable, "-c", _PROCESS, root, str(folder), str(n), str(n + 25)])
        for n in (100, 200, 300)
    ]
    rig = open_folder(folder)
    failures: list[BaseException] = []

    def look() -> None:
        try:
            for _ in range(40):
                found = rig.ids(limit=7)
                assert len(found) == len(set(found))
                time.sleep(0.01)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=look) for _ in range(3)]
    for thread in threads:
        thread.start()
    for number in range(25):
        await rig.record(number)
    for process in processes:
        assert await asyncio.to_thread(process.wait, 60) == 0
    for thread in threads:
        await asyncio.to_thread(thread.join)
    assert failures == []
    expected = [info(n + k).id for n in (300, 200, 100, 0) for k in reversed(range(25))]
    await shows(rig, expected)
    close(rig)


async def test_a_part_that_was_put_there_by_hand_is_recovered(folder: pathlib.Path) -> None:
    other = folder.with_name("other")
    await left_behind(other, 1)
    rig = open_folder(folder)
    await rig.record(2)
    close(rig)
    for path in other.glob("2*"):
        path.rename(folder / path.name)
    rig = open_folder(folder)
    (recovered,) = rig.store.recover(resumable_since=LONG_AGO).recovered
    assert recovered.info.id == info(1).id
    assert rig.ids(states={COMPLETE}) == [info(2).id, info(1).id]
    close(rig)


async def test_a_killed_server_leaves_nothing_behind_whatever_its_index_says(
    folder: pathlib.Path,
) -> None:
    rig = open_folder(folder)
    await rig.record(1)
    close(rig)
    rig = open_folder(folder)
    rig.create(2).append(rig.sound(), SampleKind.RECEIVED)
    rig.store.close()  # the process is killed: its index is not closed
    (folder / INDEX).write_bytes((folder / INDEX).read_bytes())  # an older state of it
    again = open_folder(folder)
    (recovered,) = again.store.recover(resumable_since=LONG_AGO).recovered
    assert recovered.info.id == info(2).id
    close(again)
    rig.catalogue.close()


async def test_another_process_that_ends_does_not_take_the_index_away(
    opened_folder: Rig, folder: pathlib.Path
) -> None:
    await opened_folder.record(1)
    command = [sys.executable, "-m", "entrypoints", "recover", str(folder)]
    subprocess.run(command, check=True, capture_output=True)
    await opened_folder.record(2)
    other = open_folder(folder)
    assert other.ids() == [info(2).id, info(1).id]
    close(other)


async def test_a_lock_on_the_folder_holds_up_no_recording(
    folder: pathlib.Path,
) -> None:
    folder.mkdir()
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        rig = open_folder(folder)
        async with asyncio.timeout(10):
            rig.store.recover(resumable_since=LONG_AGO)
            await rig.record(1)
    finally:
        os.close(descriptor)
    assert rig.ids() == [info(1).id]
    close(rig)


async def test_odd_names_hide_no_recording(opened_folder: Rig, folder: pathlib.Path) -> None:
    await opened_folder.record(1)
    (folder / os.fsdecode(b"caf\xe9.wav")).touch()
    (folder / "x_part99999999999999999999.wav").touch()
    (folder / "x_part20261128.wav.part").touch()
    assert isinstance(opened_folder.catalogue, FolderCatalogue)
    opened_folder.catalogue.scan()
    assert info(1).id in opened_folder.ids()
    close(opened_folder)
    rig = open_folder(folder)
    rig.store.recover(resumable_since=LONG_AGO)
    assert info(1).id in rig.ids()
    close(rig)
