"""The contract of stores."""

from __future__ import annotations

import asyncio
import datetime
import errno
import hashlib
import json
import os
import pathlib
import stat
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import soundfile

from adapters.storage.folder.inspection import inspect_recording
from adapters.storage.folder.journal import Journal
from adapters.storage.folder.part import PartOptions
from adapters.storage.folder.store import FolderStore
from adapters.storage.memory import MemoryStore
from adapters.storage.ogg.opus import read_packets
from domain.errors import StorageFailed
from domain.ports.storage import RecordingStore, RecordingWriter
from domain.recording.completed import CompletedPart
from domain.recording.effects import EndReason
from domain.recording.ledger import Container, LedgerEvent, RecordingInfo, SampleKind
from domain.recording.naming import recording_id
from domain.recording.verification import Limits, verify
from domain.sound.conversion import convert, pack
from domain.sound.formats import AudioFormat, SampleFormat, Samples, silence
from domain.sound.pieces import EncodedSound, Sound

Read = Callable[[str], tuple[AudioFormat, Samples]]
ENDED = datetime.datetime(2026, 1, 3, tzinfo=datetime.UTC)
SHORT_FRAME = bytes([28 << 3])
"""The TOC byte of a frame of 2.5 ms, 120 samples (RFC 6716 § 3.1)."""
_DTYPES = {SampleFormat.U8: "int16", SampleFormat.S24: "int32"}


def info(name: str, audio_format: AudioFormat | None = None) -> RecordingInfo:
    return RecordingInfo(
        id=name,
        name=name,
        format=audio_format or AudioFormat(48_000, 1),
        codec="opus",
        started_at=datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC),
        session_id=name,
    )


async def finish(writer: RecordingWriter, reason: EndReason = EndReason.CLOSED) -> str:
    return (await writer.finish(reason, ENDED)).location


@dataclass(frozen=True)
class Opened:
    """A store, with functions that make sound for it and read its recordings."""

    store: RecordingStore
    read: Read
    container: Container = Container.WAV

    def create(self, name: str) -> RecordingWriter:
        return self.store.create(replace(info(name), container=self.container))

    def sound(self, samples: Samples) -> list[Sound]:
        """Make the pieces for a multiple of 120 samples."""
        if self.container is Container.WAV:
            return [samples]
        return [packet(samples[at : at + 120]) for at in range(0, len(samples), 120)]


def packet(samples: Samples) -> EncodedSound:
    """Make an Opus packet of 2.5 ms whose payload is its samples (not decodable)."""
    return EncodedSound(SHORT_FRAME + samples.tobytes(), len(samples))


def read_packets_of(location: str) -> tuple[AudioFormat, Samples]:
    """Read back the samples that `packet` put into packets; gaps are silent."""
    with pathlib.Path(location).open("rb") as file:
        pieces = [
            silence(AudioFormat(48_000, 1), item.samples) if item.is_gap
            else np.frombuffer(item.payload[1:], "<i2").reshape(-1, 1)
            for item in read_packets(file.fileno())
        ]  # fmt: skip
    return AudioFormat(48_000, 1), np.concatenate([np.zeros((0, 1), "<i2"), *pieces])


@pytest.fixture(params=["wav", "opus", "memory"])
def opened(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> Iterator[Opened]:
    store: RecordingStore
    if request.param == "memory":
        memory = store = MemoryStore()

        def read(location: str) -> tuple[AudioFormat, Samples]:
            kept = memory.recordings[location.removeprefix("memory:")]
            return kept.info.format, kept.samples

        opened = Opened(store, read)
    elif request.param == "opus":
        store = FolderStore(str(tmp_path / "recordings"))
        opened = Opened(store, read_packets_of, Container.OGG)
    else:
        store = FolderStore(str(tmp_path / "recordings"))
        opened = Opened(store, read_wav)
    store.check()
    yield opened
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


async def test_appended_samples_are_kept_in_order(opened: Opened) -> None:
    writer = opened.create("a")
    for start in range(0, 9600, 960):
        writer.append(opened.sound(ramp(960, start=start)), SampleKind.RECEIVED)
    audio_format, samples = opened.read(await finish(writer))
    assert audio_format == AudioFormat(48_000, 1)
    np.testing.assert_array_equal(samples, ramp(9600))


@pytest.mark.parametrize("length", [100_080, 120, 48_000])
async def test_silence_is_exactly_as_long_as_it_was(opened: Opened, length: int) -> None:
    writer = opened.create("a")
    writer.append(opened.sound(ramp(120)), SampleKind.RECEIVED)
    writer.append_silence(length, SampleKind.SILENCE)
    writer.append(opened.sound(ramp(120)), SampleKind.RECEIVED)
    _, samples = opened.read(await finish(writer))
    assert len(samples) == length + 240
    assert not samples[120:-120].any()
    np.testing.assert_array_equal(samples[-120:], ramp(120))


@pytest.mark.parametrize("length", [1, 119, 121, 100_001])
async def test_silence_does_not_change_the_length(opened: Opened, length: int) -> None:
    """In a file of packets the sound after silence may come up to 2.5 ms early."""
    writer = opened.create("a")
    writer.append(opened.sound(ramp(120)), SampleKind.RECEIVED)
    writer.append_silence(length, SampleKind.SILENCE)
    writer.append(opened.sound(ramp(120)), SampleKind.RECEIVED)
    location = await finish(writer)
    _, samples = opened.read(location)
    assert len(samples) == length + 240
    assert ledger_of(opened.store, location)["length_samples"] == length + 240
    early = length % 120 if opened.container is Container.OGG else 0
    at = 120 + length - early
    assert not samples[120:at].any()
    np.testing.assert_array_equal(samples[at : at + 120], ramp(120))


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("sample_format", list(SampleFormat))
@pytest.mark.parametrize("opened", ["wav", "memory"], indirect=True)
async def test_every_format_is_stored_unchanged(
    opened: Opened, sample_format: SampleFormat, channels: int
) -> None:
    audio_format = AudioFormat(16_000, channels, sample_format)
    values = convert(ramp(500, channels), SampleFormat.S16, sample_format)
    writer = opened.store.create(info("a", audio_format))
    writer.append([values], SampleKind.RECEIVED)
    writer.append_silence(10, SampleKind.SILENCE)
    kept_format, samples = opened.read(await finish(writer))
    assert kept_format == audio_format
    np.testing.assert_array_equal(samples[:500], values)
    assert (samples[500:] == (128 if sample_format is SampleFormat.U8 else 0)).all()


async def test_a_store_without_faults_has_nothing_to_tell(opened: Opened) -> None:
    writer = opened.create("a")
    writer.append(opened.sound(ramp(120)), SampleKind.RECEIVED)
    await finish(writer)
    assert list(opened.store.poll_events()) == []


async def test_recordings_side_by_side_do_not_mix(opened: Opened) -> None:
    writers = [opened.create(str(n)) for n in range(5)]
    for start in range(0, 1200, 120):
        for n, writer in enumerate(writers):
            writer.append(opened.sound(ramp(120, start=start) + n), SampleKind.RECEIVED)
    for n, writer in enumerate(writers):
        _, samples = opened.read(await finish(writer))
        np.testing.assert_array_equal(samples, ramp(1200) + n)


async def test_a_name_that_exists_is_never_overwritten(opened: Opened) -> None:
    first = opened.create("a")
    first.append(opened.sound(ramp(120)), SampleKind.RECEIVED)
    location = await finish(first)
    second = opened.create("a")
    second.append(opened.sound(ramp(240)), SampleKind.RECEIVED)
    with pytest.raises(StorageFailed):
        await finish(second)
    assert len(opened.read(location)[1]) == 120


async def test_two_recordings_of_one_name_do_not_share_a_file(opened: Opened) -> None:
    first, second = opened.create("a"), opened.create("a")
    first.append(opened.sound(ramp(120)), SampleKind.RECEIVED)
    second.append(opened.sound(ramp(240)), SampleKind.RECEIVED)
    location = await finish(first)
    with pytest.raises(StorageFailed):
        await finish(second)
    assert len(opened.read(location)[1]) == 120


async def test_a_completed_recording_states_its_parts_and_places(opened: Opened) -> None:
    writer = opened.create("a")
    seen: list[tuple[CompletedPart, bool]] = []
    writer.part_completed = lambda part, is_last: seen.append((part, is_last))
    writer.append(opened.sound(ramp(4800)), SampleKind.RECEIVED)
    writer.append_silence(4800, SampleKind.SILENCE)
    completed = await writer.finish(EndReason.INACTIVE, ENDED)
    assert completed.info == replace(info("a"), container=opened.container)
    assert (completed.length, completed.seconds) == (9600, 0.2)
    assert (completed.end_reason, completed.ended_at) == ("inactive", ENDED)
    assert completed.parts == (CompletedPart(1, completed.location, 0, 9600),)
    assert seen == [(completed.parts[0], True)]
    assert len(opened.read(completed.location)[1]) == 9600


async def test_a_finished_wav_is_private_and_alone(tmp_path: pathlib.Path) -> None:
    store = FolderStore(str(tmp_path))
    writer = store.create(info("a"))
    writer.append([ramp(10)], SampleKind.RECEIVED)
    location = pathlib.Path(await finish(writer))
    store.close()
    assert stat.S_IMODE(location.stat().st_mode) == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "a.wav"]


async def test_a_planted_link_is_not_followed(tmp_path: pathlib.Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "a.wav.part").symlink_to(victim)
    store = FolderStore(str(tmp_path))
    writer = store.create(info("a"))
    writer.append([ramp(10)], SampleKind.RECEIVED)
    with pytest.raises(StorageFailed):
        await finish(writer)
    store.close()
    assert victim.read_text() == "precious"


async def test_a_recording_that_cannot_be_begun_leaves_no_file(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_journal: Journal, _entry: object) -> None:
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    monkeypatch.setattr(Journal, "_write", refuse)
    monkeypatch.setattr("adapters.storage.folder.writer.MAX_FAULT_S", 0.1)
    store = FolderStore(str(tmp_path))
    writer = store.create(info("a"))
    with pytest.raises(StorageFailed, match="quota"):
        await finish(writer)
    store.close()
    assert list(tmp_path.iterdir()) == []


async def test_a_disk_that_is_full_at_the_close_does_not_affect_other_recordings(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    close = Journal.close

    def complain(journal: Journal) -> None:
        close(journal)
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    monkeypatch.setattr(Journal, "close", complain)
    store = FolderStore(str(tmp_path))
    writers = [store.create(info(name)) for name in "ab"]
    async with asyncio.timeout(10):
        for writer in writers:
            writer.append([np.ones((100, 1), dtype="<i2")], SampleKind.RECEIVED)
            assert verify(inspect_recording(await finish(writer)), Limits()).problems == []
    store.close()


def test_a_folder_that_cannot_be_written_is_reported_at_once(tmp_path: pathlib.Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageFailed, match="cannot write recordings to .*file"):
        FolderStore(str(tmp_path / "file")).check()


# -- ledgers ---------------------------------------------------------------------------------------


def ledger_of(store: RecordingStore, location: str) -> dict[str, Any]:
    if isinstance(store, MemoryStore):
        return store.recordings[location.removeprefix("memory:")].ledger
    ledger: dict[str, Any] = json.loads(pathlib.Path(location).with_suffix(".json").read_text())
    return ledger


async def test_the_ledger_states_the_kind_of_every_sample(opened: Opened) -> None:
    writer = opened.create("a")
    writer.append(opened.sound(ramp(120)), SampleKind.RECEIVED)
    writer.append(opened.sound(ramp(240)), SampleKind.RECEIVED)
    writer.append_silence(10, SampleKind.CONCEALED)
    writer.append_silence(1000, SampleKind.SILENCE)
    writer.note(LedgerEvent("discontinuity", 370, {"reason": "source"}))
    writer.append_silence(40, SampleKind.DTX)
    writer.append(opened.sound(ramp(120)), SampleKind.RECOVERED)
    location = await finish(writer, EndReason.INACTIVE)
    ledger = ledger_of(opened.store, location)
    assert [(s["start"], s["length"], s["kind"]) for s in ledger["spans"]] == [
        (0, 360, "received"),
        (360, 10, "concealed"),
        (370, 1000, "silence"),
        (1370, 40, "dtx"),
        (1410, 120, "recovered"),
    ]
    assert ledger["events"] == [{"type": "discontinuity", "position": 370, "reason": "source"}]
    assert ledger["length_samples"] == 1530
    assert ledger["end_reason"] == "inactive"
    assert (ledger["codec"], ledger["sample_format"]) == ("opus", "s16")
    if opened.container is Container.WAV:
        data = pack(opened.read(location)[1], SampleFormat.S16)
    else:
        data = pathlib.Path(location).read_bytes()
    assert ledger["sha256"] == hashlib.sha256(data).hexdigest()


async def test_a_recording_may_have_no_samples(opened: Opened) -> None:
    location = await finish(opened.create("a"))
    assert len(opened.read(location)[1]) == 0
    assert ledger_of(opened.store, location)["spans"] == []


async def test_the_ledger_names_session_and_track(opened: Opened) -> None:
    second = replace(
        info("a"), id=recording_id("8f3a", 2), session_id="8f3a", track=2,
        container=opened.container,
    )  # fmt: skip
    ledger = ledger_of(opened.store, await finish(opened.store.create(second)))
    assert (ledger["id"], ledger["track"]) == ("8f3a_2", 2)


async def test_memory_has_a_limit_for_each_recording() -> None:
    store = MemoryStore(limit_bytes_each=2000)
    writer = store.create(info("a"))
    for _ in range(5):
        writer.append([ramp(400)], SampleKind.RECEIVED)
    assert isinstance(writer.failure, StorageFailed)
    stored = store.recordings[(await finish(writer)).removeprefix("memory:")]
    assert len(stored.samples) == 800
    assert stored.ledger["end_reason"] == "storage failed"
    store.check_room()


# -- WAV files -------------------------------------------------------------------------------------


@pytest.mark.parametrize("sample_format", list(SampleFormat))
@pytest.mark.parametrize("channels", [1, 2])
async def test_written_recordings_pass_verification(
    tmp_path: pathlib.Path, sample_format: SampleFormat, channels: int
) -> None:
    store = FolderStore(str(tmp_path))
    audio_format = AudioFormat(16_000, channels, sample_format)
    writer = store.create(info("a", audio_format))
    values = convert(ramp(501, channels), SampleFormat.S16, sample_format)
    writer.append([values], SampleKind.RECEIVED)
    writer.append_silence(100, SampleKind.SILENCE)
    location = await finish(writer)
    store.close()
    verdict = verify(inspect_recording(location), Limits())
    assert verdict.problems == []
    assert verdict.length == 601


async def test_a_recording_too_long_for_a_file_continues_in_the_next_part(
    tmp_path: pathlib.Path,
) -> None:
    store = FolderStore(str(tmp_path), PartOptions(max_data_bytes=2000))
    writer = store.create(info("a"))
    for start in range(0, 2400, 96):
        writer.append([ramp(96, start=start)], SampleKind.RECEIVED)
    writer.append_silence(700, SampleKind.SILENCE)
    writer.note(LedgerEvent("late", 3100))
    first = await finish(writer)
    store.close()
    names = ["a", "a_part002", "a_part003", "a_part004"]
    assert first == str(tmp_path / "a.wav")
    assert sorted(path.stem for path in tmp_path.glob("*.wav")) == names
    parts = [read_wav(str(tmp_path / f"{name}.wav"))[1] for name in names]
    assert [len(part) for part in parts] == [1000, 1000, 1000, 100]
    whole = np.concatenate([ramp(2400), np.zeros((700, 1), dtype="<i2")])
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    ledgers = [json.loads((tmp_path / f"{name}.json").read_text()) for name in names]
    assert [ledger["end_reason"] for ledger in ledgers] == ["continued"] * 3 + ["closed"]
    assert ledgers[3]["events"][-1] == {"type": "late", "position": 100}
    assert ledgers[1]["started_at"] == ledgers[0]["ended_at"]
    assert all(
        verify(inspect_recording(str(tmp_path / f"{name}.wav")), Limits()).ok for name in names
    )


async def test_rotation_by_time_is_exact_to_the_sample(tmp_path: pathlib.Path) -> None:
    store = FolderStore(str(tmp_path), PartOptions(rotate_s=1.0))
    writer = store.create(info("a"))
    for start in range(0, 120_000, 960):
        writer.append([ramp(960, start=start)], SampleKind.RECEIVED)
    await finish(writer)
    store.close()
    parts = [read_wav(str(path))[1] for path in sorted(tmp_path.glob("*.wav"))]
    assert [len(part) for part in parts] == [48_000, 48_000, 24_000]
    np.testing.assert_array_equal(np.concatenate(parts), ramp(120_000))


@pytest.mark.parametrize("opened", ["wav", "opus"], indirect=True)
async def test_each_part_is_announced_when_it_is_complete(
    opened: Opened, tmp_path: pathlib.Path
) -> None:
    store = FolderStore(str(tmp_path), PartOptions(rotate_s=1.0))
    opened = replace(opened, store=store)
    writer = opened.create("a")
    seen: list[CompletedPart] = []
    is_seen = asyncio.Event()

    def completed(part: CompletedPart, is_last: bool) -> None:
        assert is_last == is_finishing
        assert len(opened.read(part.location)[1]) == part.length
        assert ledger_of(store, part.location)["end_reason"] == "continued" or is_finishing
        seen.append(part)
        is_seen.set()

    is_finishing = False
    writer.part_completed = completed
    async with asyncio.timeout(20):
        for count in (1, 2):
            is_seen.clear()
            writer.append(opened.sound(ramp(48_120)), SampleKind.RECEIVED)
            await is_seen.wait()
            assert [(p.number, p.start, p.length) for p in seen] == [
                (n, (n - 1) * 48_000, 48_000) for n in range(1, count + 1)
            ]
        is_finishing = True
        recording = await writer.finish(EndReason.CLOSED, ENDED)
    store.close()
    assert seen == list(recording.parts)
    assert (seen[2].start, seen[2].length, recording.length) == (96_000, 240, 96_240)
    assert recording.location == seen[0].location


async def test_rf64_is_a_plain_wav_while_it_is_small(tmp_path: pathlib.Path) -> None:
    store = FolderStore(str(tmp_path), PartOptions(rf64=True, max_data_bytes=100))
    writer = store.create(info("a"))
    writer.append([ramp(1000)], SampleKind.RECEIVED)
    location = await finish(writer)
    store.close()
    assert pathlib.Path(location).read_bytes()[:4] == b"RIFF"
    assert verify(inspect_recording(location), Limits()).ok


async def test_rf64_holds_more_than_a_wav_can(tmp_path: pathlib.Path) -> None:
    """Slightly more than 4 GiB in a sparse file: its silence takes no disk space."""
    options = PartOptions(rf64=True)
    store = FolderStore(str(tmp_path), options)
    audio_format = AudioFormat(384_000, 8, SampleFormat.F64)
    frames = (1 << 32) // audio_format.bytes_per_frame
    store.create(replace(info("a", audio_format), resume_digest="digest"))
    store.close()  # as a killed process leaves it; recovery finds that it is large
    (part,) = tmp_path.glob("*.wav.part")
    os.truncate(part, part.stat().st_size + (frames - 1) * audio_format.bytes_per_frame)
    store = FolderStore(str(tmp_path), options)
    (interrupted,) = store.recover(resumable_since=ENDED).interrupted
    assert interrupted.length == frames - 1
    interrupted.writer.append([np.ones((1, 8))], SampleKind.RECEIVED)
    location = await finish(interrupted.writer)
    store.close()
    with pathlib.Path(location).open("rb") as file:
        assert file.read(4) == b"RF64"
    assert soundfile.info(location).frames == frames
    facts_size = pathlib.Path(location).stat().st_size
    assert facts_size > 2**32
    pathlib.Path(location).unlink()


async def test_bext_and_info_state_time_and_name(tmp_path: pathlib.Path) -> None:
    store = FolderStore(str(tmp_path))
    started_at = datetime.datetime(2026, 1, 2, 3, 4, 5, 500_000, tzinfo=datetime.UTC)
    writer = store.create(replace(info("a"), started_at=started_at))
    writer.append([ramp(10)], SampleKind.RECEIVED)
    location = await finish(writer)
    store.close()
    data = pathlib.Path(location).read_bytes()
    bext = data.index(b"bext") + 8
    assert data[bext : bext + 1] == b"a"
    assert data[bext + 256 : bext + 263] == b"Gapless"
    assert data[bext + 320 : bext + 338] == b"2026-01-0203:04:05"
    samples = round(((3 * 60 + 4) * 60 + 5.5) * 48_000)
    assert int.from_bytes(data[bext + 338 : bext + 346], "little") == samples
    with soundfile.SoundFile(location) as file:
        assert file.title == "a"
        assert file.software.startswith("Gapless")
        assert file.date == "2026-01-02T03:04:05.500+00:00"


async def test_a_stalled_disk_delays_nothing_and_lost_samples_are_noted(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapters.storage.folder.writer.QUEUE_S", 0.1)
    store = FolderStore(str(tmp_path))
    writer = store.create(info("a"))
    stalled, go_on = threading.Event(), threading.Event()

    def stall() -> None:
        stalled.set()
        go_on.wait(30)

    store.disk.submit(stall, at_once=True)
    assert stalled.wait(10)
    began = time.monotonic()
    for start in range(0, 95_040, 960):
        writer.append([ramp(960, start=start)], SampleKind.RECEIVED)
    writer.append_silence(960, SampleKind.DTX)
    assert store.disk.waiting + writer.waiting < 20  # samples that do not fit take no memory
    assert time.monotonic() - began < 5
    go_on.set()
    location = await finish(writer)
    store.close()
    ledger = ledger_of(store, location)
    assert ledger["length_samples"] == 96_000
    assert [(s["start"], s["length"], s["kind"]) for s in ledger["spans"]] == [
        (0, 4800, "received"),
        (4800, 91_200, "silence"),
    ]
    assert ledger["events"] == [{"type": "overflow", "position": 4800, "length": 91_200}]
    assert verify(inspect_recording(location), Limits()).ok
