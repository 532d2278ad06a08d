"""What is called complete is there, and is what its ledger says, whatever happens to the files."""

from __future__ import annotations

import asyncio
import errno
import os
import pathlib
import shutil
from collections.abc import Callable

import numpy as np
import pytest

from adapters.storage.folder.inspection import inspect_recording
from adapters.storage.folder.part import PartOptions
from adapters.storage.folder.recovery import FolderRecovery
from adapters.storage.folder.store import FolderStore
from domain.errors import StorageFailed
from domain.events.server import (
    RecordingRecovered,
)
from domain.ports.storage import Recovery
from domain.recording.ledger import Container
from domain.recording.verification import Limits, verify
from tests.contracts.test_a_fault_of_the_disk_passes import (
    NAME,
    Recorder,
    events_of,
    samples_of,
)
from tests.fakes.disk import FaultyDisk
from tests.rigs.recordings import LONG_AGO, ramp

Harm = Callable[[pathlib.Path], None]


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the store's intervals short."""
    monkeypatch.setattr("adapters.storage.folder.disk.WRITE_INTERVAL_S", 0.02)
    monkeypatch.setattr("adapters.storage.folder.disk.SYNC_INTERVAL_S", 0.05)
    monkeypatch.setattr("adapters.storage.folder.writer._RETRY_S", 0.05)
    monkeypatch.setattr("adapters.storage.folder.writer.MAX_ENDING_S", 0.5)
    monkeypatch.setattr("adapters.storage.folder.store._RETRY_S", 0.1)


@pytest.fixture(params=["wav", "opus"])
def container(request: pytest.FixtureRequest) -> Container:
    return Container(request.param)


async def recording(
    tmp_path: pathlib.Path, container: Container, options: PartOptions | None = None
) -> Recorder:
    recorder = Recorder(tmp_path / "recordings", container, options or PartOptions())
    recorder.append(10)
    await recorder.until_written()
    return recorder


def part_of(recorder: Recorder, name: str = NAME) -> pathlib.Path:
    return recorder.folder / f"{name}.{recorder.container.value}.part"


def move_away(part: pathlib.Path) -> None:
    part.rename(part.parent.parent / "elsewhere")


def replace_folder(part: pathlib.Path) -> None:
    part.parent.rename(part.parent.parent / "old recordings")
    part.parent.mkdir()


def delete_folder(part: pathlib.Path) -> None:
    shutil.rmtree(part.parent)
    part.parent.mkdir()


def replace_file(part: pathlib.Path) -> None:
    part.unlink()
    part.write_bytes(b"something else")


def delete_journal(part: pathlib.Path) -> None:
    (part.parent / f"{NAME}.journal").unlink()


def truncate_journal(part: pathlib.Path) -> None:
    os.truncate(part.parent / f"{NAME}.journal", 0)


HARMS = [
    pathlib.Path.unlink,
    move_away,
    replace_folder,
    delete_folder,
    replace_file,
    delete_journal,
    truncate_journal,
]


@pytest.mark.parametrize("harm", HARMS, ids=lambda harm: harm.__name__)
async def test_a_file_that_goes_missing_while_it_is_recorded_is_saved(
    tmp_path: pathlib.Path, container: Container, harm: Harm
) -> None:
    recorder = await recording(tmp_path, container)
    harm(part_of(recorder))
    recorder.append(10)
    completed = await recorder.finish()
    recorder.assert_exact(completed)
    assert recorder.writer.failure is None
    is_told = "file brought back" in [event["type"] for event in events_of(completed.location)]
    assert is_told == ("journal" not in harm.__name__)
    if harm is replace_file:
        assert part_of(recorder).read_bytes() == b"something else"
    recorder.store.close()


@pytest.mark.parametrize("harm", HARMS, ids=lambda harm: harm.__name__)
async def test_parts_that_go_missing_are_saved(
    tmp_path: pathlib.Path, container: Container, harm: Harm
) -> None:
    recorder = await recording(tmp_path, container, PartOptions(rotate_s=0.3))
    harm(part_of(recorder))
    recorder.append(30)
    completed = await recorder.finish()
    assert len(completed.parts) == 3
    recorder.assert_exact(completed)
    recorder.store.close()


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.99])
@pytest.mark.parametrize("is_followed", [False, True])
async def test_a_file_that_is_truncated_keeps_what_is_intact_and_is_no_success(
    tmp_path: pathlib.Path, container: Container, share: float, is_followed: bool
) -> None:
    recorder = await recording(tmp_path, container)
    part = part_of(recorder)
    for _ in range(5):  # several pages
        recorder.append(2)
        await recorder.until_written()
    whole = part.stat().st_size
    os.truncate(part, round(share * whole))
    if is_followed:
        recorder.append(10)
    try:
        completed = await recorder.finish()
    except StorageFailed:
        assert recorder.writer.failure is not None
        assert container is Container.OGG  # its header is gone
        assert share < 0.5
        recorder.store.close()
        return
    assert str(part) in str(recorder.writer.failure) or NAME in str(recorder.writer.failure)
    assert completed.end_reason == "storage failed"
    assert verify(inspect_recording(completed.location), Limits()).problems == []
    found = samples_of(completed.location) if completed.length else ramp(0)
    assert len(found) == completed.length < recorder.written
    assert completed.length >= (share * whole - 20_000) // 2
    np.testing.assert_array_equal(found, ramp(completed.length))
    recorder.store.close()


async def test_a_file_that_is_truncated_while_its_ending_waits_is_no_success(
    tmp_path: pathlib.Path, container: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = await recording(tmp_path, container)
    for _ in range(5):  # several pages
        recorder.append(2)
        await recorder.until_written()
    disk = FaultyDisk(monkeypatch)
    disk.fail("link", errno.EIO)
    finishing = asyncio.create_task(recorder.finish())
    await recorder.until(lambda: len(disk.failed) >= 2)
    part = part_of(recorder)
    os.truncate(part, part.stat().st_size * 3 // 4)
    disk.repair()
    completed = await finishing
    assert completed.end_reason == "storage failed"
    assert verify(inspect_recording(completed.location), Limits()).problems == []
    assert 0 < completed.length < recorder.written
    np.testing.assert_array_equal(samples_of(completed.location), ramp(completed.length))
    recorder.store.close()


async def test_a_folder_that_is_away_at_the_end_gets_the_recording_when_it_is_back(
    tmp_path: pathlib.Path, container: Container
) -> None:
    recorder = await recording(tmp_path, container)
    away = tmp_path / "away"
    recorder.folder.rename(away)
    recorder.append(10)
    with pytest.raises(StorageFailed, match="No such file or directory"):
        await recorder.finish()
    away.rename(recorder.folder)
    await recorder.until(
        lambda: any(isinstance(event, RecordingRecovered) for event in recorder.poll())
    )
    (event,) = [event for event in recorder.events if isinstance(event, RecordingRecovered)]
    recorder.assert_exact(event.recording)
    recorder.store.close()


async def test_a_folder_that_was_deleted_gets_the_recording_when_there_is_another(
    tmp_path: pathlib.Path, container: Container
) -> None:
    recorder = await recording(tmp_path, container)
    shutil.rmtree(recorder.folder)
    recorder.append(10)
    with pytest.raises(StorageFailed, match="No such file or directory"):
        await recorder.finish()
    recorder.folder.mkdir()
    await recorder.until(
        lambda: any(isinstance(event, RecordingRecovered) for event in recorder.poll())
    )
    (event,) = [event for event in recorder.events if isinstance(event, RecordingRecovered)]
    recorder.assert_exact(event.recording)
    recorder.store.close()


# -- recovery --------------------------------------------------------------------------------------


def by_command(folder: pathlib.Path) -> Recovery:
    return FolderRecovery().recover(str(folder))


def at_the_start(folder: pathlib.Path) -> Recovery:
    store = FolderStore(str(folder))
    try:
        return store.recover(resumable_since=LONG_AGO)
    finally:
        store.close()


RECOVERIES = pytest.mark.parametrize("recover", [by_command, at_the_start])


@RECOVERIES
async def test_recovery_reports_a_file_of_which_only_the_journal_is_left(
    tmp_path: pathlib.Path, container: Container, recover: Callable[[pathlib.Path], Recovery]
) -> None:
    recorder = await recording(tmp_path, container)
    recorder.store.close()
    part_of(recorder).unlink()
    found = recover(recorder.folder)
    assert found.recovered == []
    (failure,) = found.failed
    assert str(failure) == f"cannot recover {part_of(recorder)}: the file is missing"


@RECOVERIES
@pytest.mark.parametrize("is_cut", [True, False])
async def test_recovery_publishes_no_ledger_of_other_sound(
    tmp_path: pathlib.Path,
    container: Container,
    recover: Callable[[pathlib.Path], Recovery],
    is_cut: bool,
) -> None:
    """The process was killed before it gave the ledger its name, and then the file was harmed."""
    recorder = await recording(tmp_path, container)
    location = pathlib.Path((await recorder.finish()).location)
    recorder.store.close()
    ledger = location.with_suffix(".json")
    ledger.rename(f"{ledger}.part")
    if is_cut:
        os.truncate(location, location.stat().st_size - 3000)
    else:
        location.unlink()
    found = recover(recorder.folder)
    assert found.recovered == []
    assert len(found.failed) == 1
    assert not ledger.exists()


@RECOVERIES
async def test_recovery_counts_no_part_that_is_not_what_its_ledger_says(
    tmp_path: pathlib.Path, container: Container, recover: Callable[[pathlib.Path], Recovery]
) -> None:
    recorder = Recorder(tmp_path / "recordings", container, PartOptions(rotate_s=0.1))
    recorder.append(8)
    await recorder.until(lambda: (recorder.folder / f"{NAME}.json").exists())
    recorder.store.close()
    first = recorder.folder / f"{NAME}.{container.value}"
    os.truncate(first, first.stat().st_size - 3000)
    (recovered,) = recover(recorder.folder).recovered
    assert [part.number for part in recovered.parts] == [2]
