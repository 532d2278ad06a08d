"""Waveforms of recordings: live, complete, killed, restored, removed, and with damaged peaks."""

from __future__ import annotations

import asyncio
import datetime
import os
import pathlib
from collections.abc import Iterator
from dataclasses import replace

import aiohttp
import jsonschema
import numpy as np
import pytest

from adapters.codec.decoders import make_decoder
from adapters.http.api.peaks import PEAKS, PeaksHandlers
from adapters.storage.folder import peaks as drawing
from adapters.storage.folder import peaks_file, peaks_maker
from adapters.storage.folder.catalogue import FolderCatalogue
from adapters.storage.folder.part import PartOptions
from adapters.storage.folder.peaks import FolderPeaks
from adapters.storage.folder.recovery import FolderRecovery
from adapters.storage.folder.store import FolderStore
from adapters.storage.memory import MemoryStore
from adapters.storage.memory_catalogue import MemoryCatalogue
from adapters.storage.memory_peaks import MemoryPeaks
from domain.errors import PeaksPending, PeaksUnavailable, QueryInvalid, RecordingUnknown
from domain.ports.peaks import DrawnRecording, Peaks
from domain.ports.storage import RecordingWriter
from domain.recording.effects import EndReason
from domain.recording.ledger import Container, RestoreMode, SampleKind
from domain.sound.formats import AudioFormat, Samples
from domain.sound.peaks import BASE, WaveformBuilder, check_range, entry_samples
from tests.fakes.http import FakeSessions, http_server
from tests.rigs.recordings import LONG_AGO, START, Rig, close, info
from tests.rigs.restoring import SESSION, Folder, Live, noise

MONO = AudioFormat(48_000, 1)
LENGTH = 1_400_000  # 29 s, less than may wait for the disk, and more than two blocks of the hash
ID = info(1).id


def sound(length: int = LENGTH, channels: int = 1, seed: int = 0) -> Samples:
    """Noise that is louder and louder, and then quiet again."""
    random = np.random.default_rng(seed)
    loudness = (np.arange(length) % 50_000)[:, None] * 0.6
    return (random.uniform(-1, 1, (length, channels)) * loudness).astype("<i2")


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / "recordings"


@pytest.fixture
def direct(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing but peaks be read of any but the shortest recordings."""
    monkeypatch.setattr(drawing, "_DIRECT_BYTES", 4 * BASE)


def opened(folder: pathlib.Path, **options: object) -> Rig:
    catalogue = FolderCatalogue(str(folder), make_decoder, rescan_s=0.0)
    with_peaks = PartOptions(keeps_peaks=True, **options)  # type: ignore[arg-type]
    store = FolderStore(str(folder), with_peaks, catalogue=catalogue)
    store.check()
    return Rig(store, catalogue)


@pytest.fixture
def rig(folder: pathlib.Path) -> Iterator[Rig]:
    rig = opened(folder)
    yield rig
    close(rig)


@pytest.fixture
def peaks(rig: Rig, folder: pathlib.Path) -> Iterator[FolderPeaks]:
    assert isinstance(rig.catalogue, FolderCatalogue)
    peaks = FolderPeaks(str(folder), rig.catalogue)
    yield peaks
    peaks.close()


def write(
    writer: RecordingWriter, samples: Samples, kind: SampleKind = SampleKind.RECEIVED
) -> None:
    for start in range(0, len(samples), 48_000):
        writer.append([samples[start : start + 48_000]], kind)


async def record(rig: Rig, samples: Samples, number: int = 1) -> None:
    writer = rig.create(number)
    write(writer, samples)
    await writer.finish(EndReason.CLOSED, START)


def file_of(folder: pathlib.Path, number: int = 1) -> pathlib.Path:
    return folder / f"{info(number).name}.peaks"


async def drawn(peaks: Peaks, recording_id: str = ID, points: int = 100) -> DrawnRecording:
    """Ask until the waveform is made."""
    async with asyncio.timeout(20):
        while True:
            try:
                return await asyncio.to_thread(
                    peaks.draw, recording_id, start=0, stop=None, points=points
                )
            except PeaksPending:
                await asyncio.sleep(0.01)


def assert_shows(found: DrawnRecording, samples: Samples) -> None:
    """Compare with brute force, where an edge may be off by half of the longest entry."""
    waveform = found.waveform
    assert (waveform.bounds[0], waveform.bounds[-1]) == (0, len(samples))
    points, channels = waveform.low.shape
    level = WaveformBuilder(start=0, stop=len(samples), points=points, channels=channels).level
    off = 0 if level is None else entry_samples(level) // 2
    for number in range(len(waveform.low)):
        begin, end = int(waveform.bounds[number]), int(waveform.bounds[number + 1])
        within = samples[begin + off : max(begin + off + 1, end - off)]
        around = samples[max(0, begin - off) : end + off]
        low, high = waveform.low[number], waveform.high[number]
        assert (low <= within.min(axis=0)).all() and (low >= around.min(axis=0)).all()
        assert (high >= within.max(axis=0)).all() and (high <= around.max(axis=0)).all()


@pytest.mark.parametrize("points", [1, 7, 100, 900])
async def test_a_complete_recording_is_drawn_from_its_peaks(
    rig: Rig, peaks: FolderPeaks, folder: pathlib.Path, direct: None, points: int
) -> None:
    samples = sound()
    await record(rig, samples)
    found = peaks.draw(ID, start=0, stop=None, points=points)  # at once: nothing has to be made
    assert_shows(found, samples)
    assert file_of(folder).stat().st_mode & 0o777 == 0o600
    assert file_of(folder).stat().st_blocks * 512 < 0.02 * samples.nbytes  # it has holes
    assert [path.suffix for path in folder.glob("[!.]*")].count(".peaks") == 1
    assert rig.ids() == [ID]


async def test_a_close_look_shows_single_samples(rig: Rig, peaks: FolderPeaks) -> None:
    samples = sound()
    await record(rig, samples)
    found = peaks.draw(ID, start=700_000, stop=700_100, points=4000).waveform
    np.testing.assert_array_equal(found.low, samples[700_000:700_100])
    np.testing.assert_array_equal(found.high, samples[700_000:700_100])
    np.testing.assert_array_equal(found.rms, abs(samples[700_000:700_100].astype(int)))


async def test_kinds_are_shown(rig: Rig, peaks: FolderPeaks) -> None:
    writer = rig.create(1)
    for kind in (SampleKind.RECEIVED, SampleKind.CONCEALED):
        write(writer, sound(48_000), kind)
    writer.append_silence(96_000, SampleKind.SILENCE)
    await rig.until(lambda entry: entry.length == 192_000, 1)
    for is_complete in (False, True):
        if is_complete:
            await writer.finish(EndReason.CLOSED, START)
        found = peaks.draw(ID, start=0, stop=None, points=8)
        assert {kind.value: list(shares) for kind, shares in found.shares.items()} == {
            "received": [1, 1, 0, 0, 0, 0, 0, 0],
            "concealed": [0, 0, 1, 1, 0, 0, 0, 0],
            "silence": [0, 0, 0, 0, 1, 1, 1, 1],
        }
    near = peaks.draw(ID, start=36_000, stop=60_000, points=1)
    assert {kind.value: list(shares) for kind, shares in near.shares.items()} == {
        "received": [0.5], "concealed": [0.5],
    }  # fmt: skip


async def test_a_live_recording_is_drawn_up_to_what_is_written(
    rig: Rig, peaks: FolderPeaks, folder: pathlib.Path
) -> None:
    samples = sound()
    writer = rig.create(1)
    for start in range(0, LENGTH, 700_000):
        end = start + 700_000
        write(writer, samples[start:end])
        await rig.until(lambda entry, end=end: entry.length == end, 1)  # type: ignore[misc]
        found = await drawn(peaks)
        assert_shows(found, samples[:end])
        assert set(found.shares) == {SampleKind.RECEIVED}
    growing = peaks_file.OpenedPeaks.open(file_of(folder))
    assert 0 < growing.length <= LENGTH
    assert growing.header.length is None
    growing.close()
    await writer.finish(EndReason.CLOSED, START)
    assert_shows(await drawn(peaks), samples)


async def test_parts_and_channels_are_drawn_as_one(folder: pathlib.Path, direct: None) -> None:
    rig = opened(folder, rotate_s=10.0)
    assert isinstance(rig.catalogue, FolderCatalogue)
    peaks = FolderPeaks(str(folder), rig.catalogue)
    mono, stereo = sound(600_000), sound(700_000, channels=2, seed=1)
    writer = rig.create(1)
    write(writer, mono)
    writer.change_format(replace(MONO, channels=2))
    write(writer, stereo)
    await writer.finish(EndReason.CLOSED, START)
    assert len(list(folder.glob("*.peaks"))) == 4
    found = peaks.draw(ID, start=0, stop=None, points=100)
    assert_shows(found, np.concatenate([np.repeat(mono, 2, axis=1), stereo]))
    rig.catalogue.remove(ID)
    assert not list(folder.glob("[!.]*"))
    peaks.close()
    close(rig)


# -- what was interrupted, restored or damaged -------------------------------------------------


async def killed(folder: pathlib.Path, samples: Samples, *, digest: str = "") -> None:
    """Leave a recording as a killed process does."""
    rig = opened(folder)
    writer = rig.store.create(replace(info(1), resume_digest=digest))
    write(writer, samples)
    await rig.until(lambda entry: entry.length == len(samples), 1)
    close(rig)
    assert file_of(folder).exists()


@pytest.mark.parametrize("is_by_hand", [True, False])
async def test_the_peaks_of_a_killed_recording_are_made_again(
    folder: pathlib.Path, direct: None, is_by_hand: bool
) -> None:
    samples = sound()
    await killed(folder, samples)
    if is_by_hand:
        FolderRecovery().recover(str(folder))
    rig = opened(folder)
    rig.store.recover(resumable_since=LONG_AGO)
    assert not file_of(folder).exists()
    assert isinstance(rig.catalogue, FolderCatalogue)
    peaks = FolderPeaks(str(folder), rig.catalogue)
    with pytest.raises(PeaksPending):
        peaks.draw(ID, start=0, stop=None, points=100)
    assert_shows(await drawn(peaks), samples)
    assert_shows(peaks.draw(ID, start=0, stop=None, points=10), samples)
    assert not list(folder.glob("*.new"))
    peaks.close()
    close(rig)


async def test_the_peaks_of_a_resumed_recording_go_on(folder: pathlib.Path) -> None:
    samples = sound(2 * LENGTH)
    await killed(folder, samples[:LENGTH], digest="ab")
    rig = opened(folder)
    (resumed,) = rig.store.recover(resumable_since=LONG_AGO).interrupted
    assert isinstance(rig.catalogue, FolderCatalogue)
    peaks = FolderPeaks(str(folder), rig.catalogue)
    write(resumed.writer, samples[LENGTH:])
    await rig.until(lambda entry: entry.length == 2 * LENGTH, 1)
    assert_shows(await drawn(peaks), samples)
    await resumed.writer.finish(EndReason.CLOSED, START)
    complete = peaks_file.OpenedPeaks.open(file_of(folder))
    assert complete.header.length == 2 * LENGTH
    complete.close()
    assert_shows(peaks.draw(ID, start=0, stop=None, points=100), samples)
    peaks.close()
    close(rig)


async def test_the_peaks_of_a_restored_recording_are_those_of_its_new_sound(
    tmp_path: pathlib.Path, direct: None
) -> None:
    whole = noise(MONO, 60_000)
    live = Live(whole)
    live.begin(0)
    live.run(30_000, SampleKind.RECEIVED)
    live.run(20_000, SampleKind.CONCEALED)
    live.run(10_000, SampleKind.RECEIVED)
    folder = Folder(tmp_path, MONO, RestoreMode.LOST)
    folder.record(live, PartOptions(keeps_peaks=True))
    path = tmp_path / f"{folder.name}.peaks"
    peaks = FolderPeaks(str(tmp_path), folder.catalogue)
    before = peaks.draw(SESSION, start=0, stop=None, points=50)
    assert path.exists()
    folder.restore(whole)
    assert not path.exists()
    after = await drawn(peaks, SESSION, points=50)
    assert path.exists()
    assert SampleKind.RESTORED in after.shares
    assert SampleKind.RESTORED not in before.shares
    restored = folder.catalogue.open(SESSION)
    samples = restored.read_samples(0, restored.entry.length)
    restored.close()
    for number in range(len(after.waveform.low)):
        begin, end = after.waveform.bounds[number : number + 2]
        assert after.waveform.low[number] >= samples[max(0, begin - BASE) : end + BASE].min()
    assert (after.waveform.low != before.waveform.low[: len(after.waveform.low)]).any()
    folder.catalogue.remove(SESSION)
    assert not list(tmp_path.glob("[!.]*"))
    peaks.close()
    folder.close()


def _truncate(path: pathlib.Path) -> None:
    os.truncate(path, path.stat().st_size - 7000)


def _overwrite(at: int) -> object:
    def change(path: pathlib.Path) -> None:
        data = bytearray(path.read_bytes())
        data[at] ^= 0xFF
        path.write_bytes(data)

    return change


def _replace_by_link(path: pathlib.Path) -> None:
    target = path.with_name("elsewhere")
    path.rename(target)
    path.symlink_to(target)


def _replace_by_pipe(path: pathlib.Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    "damage",
    [
        pathlib.Path.unlink, _truncate, _overwrite(0), _overwrite(9), _overwrite(12),
        _overwrite(24), _overwrite(30), _replace_by_link, _replace_by_pipe,
        lambda path: path.write_bytes(b""),
    ],
)  # fmt: skip
async def test_damaged_peaks_are_made_again(
    rig: Rig, peaks: FolderPeaks, folder: pathlib.Path, direct: None, damage: object
) -> None:
    samples = sound(200_000)
    await record(rig, samples)
    damage(file_of(folder))  # type: ignore[operator]
    with pytest.raises(PeaksPending):
        peaks.draw(ID, start=0, stop=None, points=100)
    assert_shows(await drawn(peaks), samples)
    assert file_of(folder).lstat().st_mode & 0o170777 == 0o100600
    assert_shows(peaks.draw(ID, start=0, stop=None, points=100), samples)


async def test_peaks_that_cannot_be_made_are_refused_for_a_while(
    rig: Rig,
    peaks: FolderPeaks,
    folder: pathlib.Path,
    direct: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await record(rig, sound(200_000))
    file_of(folder).unlink()
    monkeypatch.setattr(peaks_maker, "_LEAST_FREE_BYTES", 1 << 60)
    with pytest.raises(PeaksUnavailable, match="No space left"):
        await drawn(peaks)
    assert not list(folder.glob("*.peaks*"))
    monkeypatch.setattr(peaks_maker, "_TRY_AGAIN_S", 0.0)
    monkeypatch.setattr(peaks_maker, "_LEAST_FREE_BYTES", 0)
    await drawn(peaks)


async def test_peaks_of_a_recording_that_is_removed_meanwhile_are_not_left(
    rig: Rig,
    peaks: FolderPeaks,
    folder: pathlib.Path,
    direct: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await record(rig, sound(200_000))
    file_of(folder).unlink()
    made = asyncio.Event()
    loop = asyncio.get_running_loop()
    original = peaks_maker.write_entries

    def remove_first(descriptor: int, entries: list[object]) -> None:
        if list(folder.glob("*.wav")):
            rig.catalogue.remove(ID)
        original(descriptor, entries)  # type: ignore[arg-type]
        loop.call_soon_threadsafe(made.set)

    monkeypatch.setattr(peaks_maker, "write_entries", remove_first)
    with pytest.raises(PeaksPending):
        peaks.draw(ID, start=0, stop=None, points=100)
    async with asyncio.timeout(20):
        await made.wait()
        while peaks._maker._thread is not None:
            await asyncio.sleep(0.01)
    assert not list(folder.glob("[!.]*"))
    with pytest.raises(RecordingUnknown):
        peaks.draw(ID, start=0, stop=None, points=100)


async def test_a_recording_goes_on_without_peaks_if_they_cannot_be_written(
    rig: Rig, peaks: FolderPeaks, folder: pathlib.Path
) -> None:
    file_of(folder).mkdir(parents=True)
    (file_of(folder) / "x").touch()
    samples = sound()
    await record(rig, samples)
    reading = rig.catalogue.open(ID)
    np.testing.assert_array_equal(reading.read_samples(0, LENGTH), samples)
    reading.close()
    assert_shows(peaks.draw(ID, start=0, stop=None, points=100), samples)  # it is short enough


async def test_peaks_that_another_file_replaced_are_left_alone(
    rig: Rig, peaks: FolderPeaks, folder: pathlib.Path
) -> None:
    samples = sound()
    writer = rig.create(1)
    write(writer, samples[:1_000_000])
    await rig.until(lambda entry: entry.length == 1_000_000, 1)
    async with asyncio.timeout(20):
        while not file_of(folder).exists():
            await asyncio.sleep(0.01)
    file_of(folder).unlink()
    file_of(folder).write_bytes(b"mine")
    write(writer, samples[1_000_000:])
    await writer.finish(EndReason.CLOSED, START)
    assert file_of(folder).read_bytes() == b"mine"
    assert_shows(await drawn(peaks), samples)


# -- packets -----------------------------------------------------------------------------------


async def test_packets_are_decoded_when_somebody_asks(
    rig: Rig, peaks: FolderPeaks, folder: pathlib.Path
) -> None:
    rig.container = Container.OGG
    writer = rig.create(1)
    writer.append(rig.sound(96_000), SampleKind.RECEIVED)
    writer.append_silence(48_000, SampleKind.SILENCE)
    await writer.finish(EndReason.CLOSED, START)
    assert not list(folder.glob("*.peaks"))
    with pytest.raises(PeaksPending):
        peaks.draw(ID, start=0, stop=None, points=100)
    found = await drawn(peaks)
    reading = rig.catalogue.open(ID)
    samples = reading.read_samples(0, 144_000)
    reading.close()
    for number in range(100):
        begin, end = found.waveform.bounds[number : number + 2]
        around = samples[max(0, begin - BASE) : end + BASE]
        assert around.min() <= found.waveform.low[number] <= found.waveform.high[number]
        assert found.waveform.high[number] <= around.max()
    assert found.waveform.high.max() == samples[: 562 * BASE].max() > 1000
    assert found.shares[SampleKind.SILENCE][-30:].tolist() == [1.0] * 30
    close_look = peaks.draw(ID, start=10_000, stop=10_100, points=100)
    assert len(close_look.waveform.low) == 100
    rig.catalogue.remove(ID)
    assert not list(folder.glob("[!.]*"))


async def test_live_packets_are_decoded_now_and_then(rig: Rig, peaks: FolderPeaks) -> None:
    rig.container = Container.OGG
    writer = rig.create(1)
    writer.append(rig.sound(96_000), SampleKind.RECEIVED)
    await rig.until(lambda entry: entry.length == 96_000, 1)
    found = await drawn(peaks)
    assert found.waveform.bounds[-1] == 96_000 // BASE * BASE
    for _ in range(12):
        writer.append(rig.sound(96_000), SampleKind.RECEIVED)
    await rig.until(lambda entry: entry.length == 13 * 96_000, 1)
    with pytest.raises(PeaksPending):
        peaks.draw(ID, start=0, stop=None, points=100)
    assert (await drawn(peaks)).waveform.bounds[-1] == 13 * 96_000 // BASE * BASE
    await writer.finish(EndReason.CLOSED, START)
    assert (await drawn(peaks)).waveform.bounds[-1] == 13 * 96_000


async def test_peaks_that_are_replaced_while_a_waveform_is_drawn_do_not_shorten_it(
    rig: Rig, peaks: FolderPeaks, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.container = Container.OGG
    writer = rig.create(1)
    writer.append(rig.sound(96_000), SampleKind.RECEIVED)
    await rig.until(lambda entry: entry.length == 96_000, 1)
    await drawn(peaks)
    for _ in range(12):
        writer.append(rig.sound(96_000), SampleKind.RECEIVED)
    await rig.until(lambda entry: entry.length == 13 * 96_000, 1)

    def replaced(start: int, stop: int | None, length: int) -> tuple[int, int]:
        peaks._make(ID, lambda: False)
        return check_range(start, stop, length)

    with monkeypatch.context() as patched:
        patched.setattr(drawing, "check_range", replaced)
        with pytest.raises(PeaksPending):  # what it found first lacks too much
            peaks.draw(ID, start=0, stop=None, points=100)
    assert (await drawn(peaks)).waveform.bounds[-1] == 13 * 96_000 // BASE * BASE
    await writer.finish(EndReason.CLOSED, START)


# -- memory, and the API ---------------------------------------------------------------------------


@pytest.fixture
async def memory() -> MemoryPeaks:
    store = MemoryStore()
    writer = store.create(replace(info(1), started_at=datetime.datetime.now(datetime.UTC)))
    write(writer, sound(96_000))
    writer.append_silence(48_000, SampleKind.SILENCE)
    await writer.finish(EndReason.CLOSED, START)
    return MemoryPeaks(MemoryCatalogue(store))


async def test_recordings_in_memory_are_drawn(memory: MemoryPeaks) -> None:
    found = memory.draw(ID, start=0, stop=None, points=3)
    parts = sound(96_000).reshape(2, 48_000)
    assert found.waveform.low[:, 0].tolist() == [*parts.min(axis=1), 0]
    assert found.waveform.high[:, 0].tolist() == [*parts.max(axis=1), 0]
    assert {kind.value: list(shares) for kind, shares in found.shares.items()} == {
        "received": [1, 1, 0], "silence": [0, 0, 1],
    }  # fmt: skip
    with pytest.raises(QueryInvalid):
        memory.draw(ID, start=200_000, stop=None, points=3)


class Pending:
    def draw(self, *_: object, **__: object) -> DrawnRecording:
        raise PeaksPending("the waveform is being made")

    def close(self) -> None: ...


async def ask(peaks: Peaks, query: str, recording_id: str = ID) -> tuple[int, object, str | None]:
    server = http_server(FakeSessions(), more=[PeaksHandlers(peaks)])
    url = f"{await server.start()}/api/recordings/{recording_id}/peaks{query}"
    async with aiohttp.ClientSession() as http, http.get(url) as answer:
        found = answer.status, await answer.json(), answer.headers.get("Retry-After")
    await server.stop()
    return found


@pytest.mark.parametrize(
    ("query", "points", "span"),
    [
        ("", 1000, (0, 144_000)),
        ("?points=4000", 4000, (0, 144_000)),
        ("?from=96000&to=96010&points=4000", 10, (96_000, 96_010)),
        ("?from=144000", 0, (144_000, 144_000)),
        ("?to=9999999", 1000, (0, 144_000)),
    ],
)
async def test_the_api_draws(
    memory: MemoryPeaks, query: str, points: int, span: tuple[int, int]
) -> None:
    status, found, _ = await ask(memory, query)
    assert status == 200
    jsonschema.Draft202012Validator(PEAKS).validate(found)
    assert isinstance(found, dict)
    assert (found["points"], (found["from"], found["to"])) == (points, span)
    assert [len(found[name][0]) for name in ("min", "max", "rms")] == [points] * 3
    assert all(len(kind["shares"]) == points for kind in found["kinds"])


@pytest.mark.parametrize(
    "query",
    [
        "?points=0", "?points=4001", "?points=x", "?points=", "?points=1.5", "?from=-1",
        "?from=5&to=4", "?from=144001", "?to=99999999999999999999", "?points=%D9%A3",
    ],
)  # fmt: skip
async def test_a_query_that_cannot_be_drawn_is_refused(memory: MemoryPeaks, query: str) -> None:
    assert (await ask(memory, query))[0] == 400


async def test_what_is_not_there_is_unknown(memory: MemoryPeaks) -> None:
    assert (await ask(memory, "", "nobody"))[0] == 404


async def test_who_asks_too_early_is_told_to_ask_again() -> None:
    status, found, after = await ask(Pending(), "")
    assert (status, after) == (503, "5")
    assert isinstance(found, dict)
    assert found["detail"] == "the waveform is being made"
