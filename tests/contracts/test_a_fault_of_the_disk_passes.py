"""Recordings wait for the end of a fault of the disk, and go on exactly where they were."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import pathlib
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import soundfile

from adapters.storage.folder.inspection import inspect_recording
from adapters.storage.folder.part import PartOptions
from adapters.storage.folder.recovery import FolderRecovery
from adapters.storage.folder.store import FolderStore
from adapters.storage.ogg.opus import read_packets
from domain.errors import StorageFailed, StorageFull
from domain.events.server import (
    RecordingRecovered,
    ServerEvent,
    StorageDelayed,
    StorageWritable,
)
from domain.ports.storage import RecordingWriter
from domain.recording.completed import CompletedRecording
from domain.recording.effects import EndReason
from domain.recording.ledger import Container, SampleKind
from domain.recording.verification import Limits, verify
from domain.sound.pieces import EncodedSound, Sound
from tests.fakes.disk import PASSING, FaultyDisk, RemountedDisk, SlowDisk
from tests.rigs.recordings import LONG_AGO, START, info, ramp

NAME = info(1).name
FRAME = 120
BLOCK = 960


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the store's intervals short."""
    monkeypatch.setattr("adapters.storage.folder.disk.WRITE_INTERVAL_S", 0.02)
    monkeypatch.setattr("adapters.storage.folder.disk.SYNC_INTERVAL_S", 0.05)
    monkeypatch.setattr("adapters.storage.folder.writer._RETRY_S", 0.05)
    monkeypatch.setattr("adapters.storage.folder.store._RETRY_S", 0.1)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> FaultyDisk:
    return FaultyDisk(monkeypatch)


@dataclass
class Recorder:
    """Records numbered sound into a folder, and compares what was written with it."""

    folder: pathlib.Path
    container: Container
    options: PartOptions = field(default_factory=PartOptions)
    written: int = 0
    events: list[ServerEvent] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.store = FolderStore(str(self.folder), self.options)
        self.store.check()
        self.writer = self.create()

    def create(self, number: int = 1) -> RecordingWriter:
        return self.store.create(replace(info(number), container=self.container))

    def append(self, blocks: int = 1) -> None:
        for _ in range(blocks):
            self.writer.append(self._sound(self.written), SampleKind.RECEIVED)
            self.written += BLOCK

    def _sound(self, start: int) -> list[Sound]:
        samples = ramp(BLOCK, start)
        if self.container is Container.WAV:
            return [samples]
        toc = bytes([28 << 3])  # frames of 2.5 ms (RFC 6716 § 3.1)
        return [
            EncodedSound(toc + samples[at : at + FRAME].tobytes(), FRAME)
            for at in range(0, BLOCK, FRAME)
        ]

    async def finish(self) -> CompletedRecording:
        async with asyncio.timeout(30):
            return await self.writer.finish(EndReason.CLOSED, START)

    async def until(self, is_so: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not is_so():
                self.events += self.store.poll_events()
                await asyncio.sleep(0.01)

    async def until_written(self) -> None:
        await self.until(lambda: not getattr(self.writer, "waiting", 0))
        part = self.folder / f"{NAME}.{self.container.value}.part"
        await self.until(lambda: part.exists() and part.stat().st_size > self.written)

    def poll(self) -> list[ServerEvent]:
        self.events += self.store.poll_events()
        return self.events

    def assert_exact(self, recording: CompletedRecording) -> None:
        """Check that every part is what its ledger says, and that all sound is in its place."""
        assert recording.length == self.written
        pieces = []
        for part in recording.parts:
            assert verify(inspect_recording(part.location), Limits()).problems == []
            pieces.append(samples_of(part.location))
        np.testing.assert_array_equal(np.concatenate(pieces), ramp(self.written))


def samples_of(location: str) -> np.ndarray:
    if location.endswith(".wav"):
        samples: np.ndarray = soundfile.read(location, dtype="int16", always_2d=True)[0]
        return samples
    with pathlib.Path(location).open("rb") as file:
        packets = [item for item in read_packets(file.fileno()) if not item.is_gap]
    return np.concatenate([np.frombuffer(p.payload[1:], "<i2").reshape(-1, 1) for p in packets])


def events_of(location: str) -> list[dict[str, object]]:
    events: list[dict[str, object]] = json.loads(
        pathlib.Path(location).with_suffix(".json").read_text()
    )["events"]
    return events


@pytest.fixture(params=["wav", "opus"])
def container(request: pytest.FixtureRequest) -> Container:
    return Container(request.param)


@pytest.fixture
def recorder(tmp_path: pathlib.Path, container: Container) -> Iterator[Recorder]:
    recorder = Recorder(tmp_path / "recordings", container)
    yield recorder
    recorder.store.close()


@pytest.fixture
async def rotating(tmp_path: pathlib.Path, container: Container) -> AsyncIterator[Recorder]:
    recorder = Recorder(tmp_path / "recordings", container, PartOptions(rotate_s=0.1))
    yield recorder
    recorder.store.close()


# -- faults that pass ----------------------------------------------------------------------------


@pytest.mark.parametrize("number", PASSING)
async def test_sound_waits_until_it_can_be_written(
    recorder: Recorder, disk: FaultyDisk, number: int
) -> None:
    recorder.append(10)
    await recorder.until_written()
    disk.fail("pwrite", number, f".{recorder.container.value}.part")
    recorder.append(10)
    await recorder.until(lambda: len(disk.failed) >= 3)
    recorder.append(10)
    disk.repair()
    completed = await recorder.finish()
    assert (completed.end_reason, recorder.writer.failure) == ("closed", None)
    recorder.assert_exact(completed)
    (event,) = [event for event in events_of(completed.location) if event["type"] == "disk fault"]
    assert (event["reason"], event["position"]) == (os.strerror(number), recorder.written)
    delayed, writable = recorder.poll()
    assert isinstance(delayed, StorageDelayed)
    assert delayed.problem.endswith(
        f"{NAME}.{recorder.container.value}.part: {os.strerror(number)}"
    )
    assert isinstance(writable, StorageWritable)


@pytest.mark.parametrize("number", [errno.ESTALE, errno.EIO, errno.ENODEV])
async def test_a_recording_goes_on_when_its_disk_is_mounted_again(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    recorder.append(10)
    await recorder.until_written()
    RemountedDisk(monkeypatch, number, NAME)
    recorder.append(10)
    await recorder.until(lambda: not getattr(recorder.writer, "waiting", 0))
    recorder.append(10)
    completed = await recorder.finish()
    recorder.assert_exact(completed)
    assert recorder.writer.failure is None


@pytest.mark.parametrize("function", ["open", "pwrite"])
@pytest.mark.parametrize("text", [".part", ".journal"])
async def test_files_that_cannot_be_made_are_made_later(
    tmp_path: pathlib.Path, container: Container, disk: FaultyDisk, function: str, text: str
) -> None:
    disk.fail(function, errno.EROFS, text)
    recorder = Recorder(tmp_path, container)
    recorder.append(10)
    await recorder.until(lambda: len(disk.failed) >= 3)
    disk.repair()
    recorder.assert_exact(await recorder.finish())
    recorder.store.close()
    assert {path.name for path in tmp_path.iterdir()} == {
        f"{NAME}.{container.value}",
        f"{NAME}.json",
    }


async def test_files_that_could_not_be_deleted_again_are_no_obstacle(
    tmp_path: pathlib.Path, container: Container, disk: FaultyDisk
) -> None:
    disk.fail("pwrite", errno.EIO, ".journal")
    disk.fail("unlink", errno.EIO)
    recorder = Recorder(tmp_path, container)
    recorder.append(10)
    await recorder.until(lambda: len(disk.failed) >= 3)
    disk.repair()
    recorder.assert_exact(await recorder.finish())
    recorder.store.close()


async def test_a_journal_that_cannot_be_written_is_complete_later(
    recorder: Recorder, disk: FaultyDisk
) -> None:
    recorder.append(5)
    await recorder.until_written()
    disk.fail("pwrite", errno.EIO, ".journal")
    recorder.writer.append_silence(BLOCK, SampleKind.SILENCE)
    await recorder.until(lambda: len(disk.failed) >= 3)
    disk.repair()
    recorder.written += BLOCK
    await recorder.until(lambda: not getattr(recorder.writer, "waiting", 0))
    recorder.store.close()  # as a killed process leaves it
    (recovered,) = FolderRecovery().recover(str(recorder.folder)).recovered
    assert recovered.length == recorder.written
    ledger = json.loads(pathlib.Path(recovered.location).with_suffix(".json").read_text())
    assert [(span["length"], span["kind"]) for span in ledger["spans"]] == [
        (5 * BLOCK, "received"),
        (BLOCK, "silence"),
    ]


@pytest.mark.parametrize("number", PASSING)
async def test_a_part_goes_on_while_the_next_cannot_be_made(
    rotating: Recorder, disk: FaultyDisk, number: int
) -> None:
    """Its file is open, and can be written."""
    rotating.append(3)
    await rotating.until_written()
    disk.fail("open", number, "_part002")
    rotating.append(7)
    await rotating.until(lambda: len(disk.failed) >= 1)
    disk.repair()
    rotating.append(7)
    completed = await rotating.finish()
    rotating.assert_exact(completed)
    assert completed.parts[0].length > 4800
    assert len(completed.parts) > 1
    (event,) = [
        event for event in events_of(completed.location) if event["type"] == "next part delayed"
    ]
    assert event["reason"] == os.strerror(number)
    assert rotating.writer.failure is None


async def test_a_full_part_waits_until_the_next_can_be_made(
    tmp_path: pathlib.Path, disk: FaultyDisk
) -> None:
    recorder = Recorder(tmp_path, Container.WAV, PartOptions(max_data_bytes=9600))
    recorder.append(3)
    await recorder.until_written()
    disk.fail("open", errno.ENOENT, "_part002")
    recorder.append(7)
    await recorder.until(lambda: len(disk.failed) >= 3)
    disk.repair()
    completed = await recorder.finish()
    recorder.assert_exact(completed)
    assert [part.length for part in completed.parts] == [4800, 4800]
    recorder.store.close()


@pytest.mark.parametrize(
    ("function", "text"),
    [("open", ".json.part"), ("pwrite", ".json.part"), ("link", ""), ("unlink", ""), ("lstat", "")],
)
@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EACCES])
async def test_an_ending_waits_until_it_can_be_done(
    rotating: Recorder, disk: FaultyDisk, function: str, text: str, number: int
) -> None:
    rotating.append(3)
    await rotating.until_written()
    disk.fail(function, number, text)
    rotating.append(10)
    finishing = asyncio.create_task(rotating.finish())
    await rotating.until(lambda: len(disk.failed) >= 3)
    disk.repair()
    completed = await finishing
    rotating.assert_exact(completed)
    assert (completed.end_reason, rotating.writer.failure) == ("closed", None)
    names = {path.suffix for path in rotating.folder.iterdir()}
    assert names == {f".{rotating.container.value}", ".json"}


async def test_a_fault_that_lasts_ends_the_recording_with_its_own_reason(
    recorder: Recorder, disk: FaultyDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapters.storage.folder.writer.MAX_FAULT_S", 0.2)
    recorder.append(10)
    await recorder.until_written()
    disk.fail("pwrite", errno.ESTALE, f".{recorder.container.value}.part")
    recorder.append(10)
    await recorder.until(lambda: recorder.writer.failure is not None)
    disk.repair()
    recorder.written -= 10 * BLOCK
    completed = await recorder.finish()
    recorder.assert_exact(completed)
    part = recorder.folder / f"{NAME}.{recorder.container.value}.part"
    assert str(recorder.writer.failure) == f"{part}: {os.strerror(errno.ESTALE)}"
    assert completed.end_reason == "storage failed"
    assert events_of(completed.location)[-1]["reason"] == os.strerror(errno.ESTALE)


@pytest.mark.parametrize("is_finishing", [False, True])
async def test_a_store_closes_in_time_while_the_disk_cannot_be_written(
    recorder: Recorder, disk: FaultyDisk, is_finishing: bool
) -> None:
    recorder.append(10)
    await recorder.until_written()
    disk.fail("pwrite", errno.EIO)
    recorder.append(10)
    await recorder.until(lambda: len(disk.failed) >= 2)
    finishing = asyncio.create_task(recorder.finish()) if is_finishing else None
    await asyncio.sleep(0)
    began = time.monotonic()
    recorder.store.close()
    assert time.monotonic() - began < 3
    if finishing is not None:
        finishing.cancel()
    disk.repair()
    (recovered,) = FolderRecovery().recover(str(recorder.folder)).recovered
    # the half of a write that failed may be there, too
    assert 10 * BLOCK <= recovered.length <= 15 * BLOCK
    recorder.written = recovered.length
    recorder.assert_exact(recovered)


async def test_a_folder_that_cannot_be_measured_is_not_called_full(
    tmp_path: pathlib.Path, disk: FaultyDisk
) -> None:
    """From the beginning, and after it was nearly full."""
    disk.fail("statvfs", errno.ESTALE)
    recorder = Recorder(tmp_path, Container.WAV)
    recorder.append(10)
    with pytest.raises(StorageFull, match=f"{tmp_path}: {os.strerror(errno.ESTALE)}"):
        recorder.store.check_room()
    recorder.assert_exact(await recorder.finish())
    recorder.store.close()


async def test_one_event_tells_of_a_fault_that_many_recordings_meet(
    tmp_path: pathlib.Path, disk: FaultyDisk
) -> None:
    recorder = Recorder(tmp_path, Container.WAV)
    writers = [recorder.create(number) for number in range(2, 30)]
    disk.fail("pwrite", errno.EIO, ".wav.part")
    for writer in writers:
        writer.append([ramp(BLOCK)], SampleKind.RECEIVED)
    await recorder.until(lambda: len(disk.failed) >= 60)
    disk.repair()
    for writer in writers:
        assert (await writer.finish(EndReason.CLOSED, START)).end_reason == "closed"
    await recorder.finish()
    assert [type(event) for event in recorder.poll()] == [StorageDelayed, StorageWritable]
    recorder.store.close()


# -- what a fault has left -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "text"), [("fsync", ".part"), ("link", ""), ("open", ".json")]
)
async def test_what_a_fault_has_left_is_completed_when_the_disk_is_back(
    recorder: Recorder,
    disk: FaultyDisk,
    monkeypatch: pytest.MonkeyPatch,
    function: str,
    text: str,
) -> None:
    monkeypatch.setattr("adapters.storage.folder.writer.MAX_ENDING_S", 0.1)
    recorder.append(10)
    disk.fail(function, errno.EIO, text)
    with pytest.raises(StorageFailed, match=os.strerror(errno.EIO)):
        await recorder.finish()
    assert not (recorder.folder / f"{NAME}.{recorder.container.value}").exists()
    disk.repair()
    await recorder.until(
        lambda: any(isinstance(event, RecordingRecovered) for event in recorder.events)
    )
    (event,) = [event for event in recorder.events if isinstance(event, RecordingRecovered)]
    recorder.assert_exact(event.recording)
    assert len(list(recorder.folder.iterdir())) == 2


async def test_a_file_that_could_not_be_synced_is_written_again(
    recorder: Recorder, disk: FaultyDisk
) -> None:
    """The system reports once that it has lost data, and a second sync would succeed."""
    recorder.append(10)
    await recorder.until_written()
    container = recorder.container.value
    inode = (recorder.folder / f"{NAME}.{container}.part").stat().st_ino
    disk.fail("fsync", errno.EIO, f".{container}.part")
    with pytest.raises(StorageFailed):
        await recorder.finish()
    assert len(disk.failed) == 1
    disk.repair()
    path = recorder.folder / f"{NAME}.{container}"
    await recorder.until(path.with_suffix(".json").exists)
    assert path.stat().st_ino != inode
    np.testing.assert_array_equal(samples_of(str(path)), ramp(recorder.written))


async def test_what_could_not_be_recovered_at_the_start_is_recovered_when_the_disk_is_back(
    recorder: Recorder, disk: FaultyDisk
) -> None:
    recorder.append(10)
    await recorder.until_written()
    recorder.store.close()
    recorder.store = FolderStore(str(recorder.folder))
    disk.fail("fsync", errno.EIO, ".part")
    (failure,) = recorder.store.recover(resumable_since=LONG_AGO).failed
    assert os.strerror(errno.EIO) in str(failure)
    disk.repair()
    await recorder.until(lambda: bool(recorder.poll()))
    (event,) = recorder.events
    assert isinstance(event, RecordingRecovered)
    recorder.assert_exact(event.recording)


# -- hundreds of endings -------------------------------------------------------------------------


async def test_live_recordings_go_on_while_hundreds_end_on_a_slow_disk(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their syncs alone take 12 s; the queue of a live recording holds 2 s here."""
    monkeypatch.setattr("adapters.storage.folder.writer.QUEUE_S", 2.0)
    recorder = Recorder(tmp_path, Container.WAV)
    store = recorder.store
    ending = [recorder.create(number) for number in range(2, 302)]
    live = [store.create(info(number)) for number in range(1000, 1010)]
    for writer in ending:
        writer.append([ramp(BLOCK)], SampleKind.RECEIVED)
    await recorder.until(lambda: not any(getattr(writer, "waiting", 0) for writer in ending))
    slow = SlowDisk(monkeypatch, sync_s=0.01, write_s=0.001)
    finishing = [asyncio.create_task(writer.finish(EndReason.CLOSED, START)) for writer in ending]
    longest, blocks = 0, 0
    everything = asyncio.gather(*finishing)
    async with asyncio.timeout(50):
        while not everything.done():
            for writer in live:
                writer.append([ramp(4800, blocks * 4800)], SampleKind.RECEIVED)
                longest = max(longest, getattr(writer, "waiting_samples", 0))
            blocks += 1
            await asyncio.sleep(0.1)
    assert longest < 48_000  # half of the queue
    assert slow.most_syncing <= 4
    for completed in await everything:
        assert completed.end_reason == "closed"
        assert verify(inspect_recording(completed.location), Limits()).problems == []
    for writer in live:
        completed = await writer.finish(EndReason.CLOSED, START)
        assert completed.length == blocks * 4800
        assert verify(inspect_recording(completed.location), Limits(silence=0)).problems == []
    await recorder.finish()
    store.close()
