"""A recording whose number of channels changes: its parts differ, and it is read as one."""

from __future__ import annotations

import datetime
import errno
import io
import json
import pathlib
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace

import numpy as np
import pytest
import soundfile

from adapters.codec.decoders import make_decoder
from adapters.storage.folder.inspection import inspect_recording
from adapters.storage.folder.part import PartOptions
from adapters.storage.folder.recovery import recover
from adapters.storage.folder.renderer import render_recording
from adapters.storage.folder.store import FolderStore
from adapters.storage.memory import MemoryStore
from adapters.storage.memory_catalogue import MemoryCatalogue
from domain.recording.completed import CompletedPart
from domain.recording.effects import EndReason
from domain.recording.ledger import Container, LedgerEvent, SampleKind
from domain.recording.verification import Limits, verify
from domain.sound.conversion import mix_channels
from domain.sound.formats import AudioFormat, SampleFormat, Samples
from domain.sound.pieces import EncodedSound, Sound
from tests.fakes.disk import FaultyDisk
from tests.rigs.recordings import COMPLETE, LIVE, LONG_AGO, MONO, Rig, close, info, open_folder
from tests.rigs.sound import encode, speech

STEREO = AudioFormat(48_000, 2)
ENDED = datetime.datetime(2026, 1, 3, tzinfo=datetime.UTC)
RECEIVED, SILENCE = SampleKind.RECEIVED, SampleKind.SILENCE
MONO_PACKETS = encode(speech(3))
STEREO_PACKETS = encode(np.hstack([speech(3), -speech(3) // 2]))


def ramp(length: int, channels: int, start: int = 0) -> Samples:
    values = np.arange(start * channels, (start + length) * channels) % 30_000
    return values.astype("<i2").reshape(length, channels)


@dataclass
class Made:
    """A rig, with functions that make sound for it and read its parts."""

    rig: Rig
    read: Callable[[CompletedPart], tuple[AudioFormat, Samples | list[bytes]]]

    def sound(self, length: int, channels: int, start: int = 0) -> list[Sound]:
        if self.rig.container is Container.WAV:
            return [ramp(length, channels, start)]
        packets = MONO_PACKETS if channels == 1 else STEREO_PACKETS
        first = start // 960
        return [EncodedSound(each, 960) for each in packets[first : first + length // 960]]


@pytest.fixture(params=["wav", "opus", "memory"])
def made(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> Iterator[Made]:
    if request.param == "memory":
        memory = MemoryStore()
        rig = Rig(memory, MemoryCatalogue(memory))

        def read_memory(part: CompletedPart) -> tuple[AudioFormat, Samples]:
            name = part.location.removeprefix("memory:").partition("_part")[0]
            samples = memory.recordings[name].part_samples(part.number)
            return AudioFormat(48_000, samples.shape[1]), samples

        yield Made(rig, read_memory)
    else:
        rig = open_folder(tmp_path / "recordings")
        rig.container = Container(request.param)
        yield Made(rig, read_file)
    close(rig)


def read_file(part: CompletedPart) -> tuple[AudioFormat, Samples | list[bytes]]:
    facts = inspect_recording(part.location)
    assert verify(facts, Limits()).problems == []
    assert facts.format is not None
    return facts.format, soundfile.read(part.location, dtype="int16", always_2d=True)[0]


def assert_like(part: Samples | list[bytes], sound: list[Sound]) -> None:
    if all(isinstance(piece, EncodedSound) for piece in sound):
        assert len(part) == sum(map(len, sound))
    else:
        np.testing.assert_array_equal(part, np.concatenate(sound))  # type: ignore[arg-type]


async def test_a_new_part_begins_at_the_sample_where_the_channels_change(made: Made) -> None:
    seen: list[tuple[CompletedPart, bool]] = []
    writer = made.rig.create(1)
    writer.part_completed = lambda part, is_last: seen.append((part, is_last))
    first, second = made.sound(9600, 1), made.sound(4800, 2)
    writer.append(first, RECEIVED)
    writer.append_silence(960, SILENCE)
    writer.change_format(STEREO)
    writer.note(LedgerEvent("channels", 10_560, {"channels": 2}))
    writer.append(second, RECEIVED)
    writer.append_silence(1920, SILENCE)
    recording = await writer.finish(EndReason.CLOSED, ENDED)
    assert [(part.number, part.start, part.length) for part in recording.parts] == [
        (1, 0, 10_560), (2, 10_560, 6720),
    ]  # fmt: skip
    assert recording.length == 17_280
    assert recording.info.format == STEREO
    assert seen == [(recording.parts[0], False), (recording.parts[1], True)]
    formats, sounds = zip(*map(made.read, recording.parts), strict=True)
    assert formats == (MONO, STEREO)
    assert_like(sounds[0][:9600], first)
    assert_like(sounds[1][:4800], second)
    assert [len(sound) for sound in sounds] == [10_560, 6720]


async def test_it_is_listed_and_read_as_one_with_the_channels_of_its_last_part(made: Made) -> None:
    writer = made.rig.create(1)
    first, second = made.sound(9600, 1), made.sound(4800, 2)
    writer.append(first, RECEIVED)
    writer.change_format(STEREO)
    writer.note(LedgerEvent("channels", 9600, {"channels": 2}))
    writer.append(second, RECEIVED)
    live = await made.rig.until(lambda entry: entry.length == 14_400, 1)
    assert (live.state, live.info.format) == (LIVE, STEREO)
    assert [part.start for part in live.parts] == [0, 9600]
    with closing(made.rig.catalogue.open(info(1).id)) as opened:
        while_live = opened.read_samples(0, 20_000)
    await writer.finish(EndReason.CLOSED, ENDED)
    entry = await made.rig.until(lambda entry: entry.state is COMPLETE, 1)
    assert (entry.info.format, entry.length) == (STEREO, 14_400)
    with closing(made.rig.catalogue.open(info(1).id)) as opened:
        whole = opened.read_samples(0, 20_000)
        assert whole.shape == (14_400, 2)
        np.testing.assert_array_equal(whole, while_live)
        if made.rig.container is Container.WAV:
            both = [mix_channels(first[0], SampleFormat.S16, 2), second[0]]  # type: ignore[arg-type]
            np.testing.assert_array_equal(whole, np.concatenate(both))
            data = opened.read_bytes(0, opened.size)
            samples, rate = soundfile.read(io.BytesIO(data), dtype="int16")
            assert rate == 48_000
            np.testing.assert_array_equal(samples, whole)
            for start, length in ((0, 10), (45, 7), (19_237, 1), (19_201, 40_001), (38_443, 11)):
                assert opened.read_bytes(start, length) == data[start : start + length]
        else:
            assert not np.array_equal(whole[9600:, 0], whole[9600:, 1])
            np.testing.assert_array_equal(whole[4000:9000, 0], whole[4000:9000, 1])
    ledger = made.rig.catalogue.ledger(info(1).id)
    assert (ledger["channels"], ledger["length_samples"], ledger["sha256"]) == (2, 14_400, None)
    assert ledger["spans"] == [{"start": 0, "length": 14_400, "kind": "received"}]
    assert {"type": "channels", "position": 9600, "channels": 2} in ledger["events"]
    assert [event["type"] for event in ledger["events"]] == ["continues", "channels"]


@pytest.mark.parametrize("made", ["wav", "opus"], indirect=True)
async def test_an_index_that_is_made_again_knows_the_channels(
    made: Made, tmp_path: pathlib.Path
) -> None:
    writer = made.rig.create(1)
    writer.append(made.sound(9600, 1), RECEIVED)
    writer.change_format(STEREO)
    writer.append(made.sound(9600, 2), RECEIVED)
    await writer.finish(EndReason.CLOSED, ENDED)
    close(made.rig)
    for path in (tmp_path / "recordings").glob(".catalogue*"):
        path.unlink()
    again = open_folder(tmp_path / "recordings")
    entry = again.catalogue.entry(info(1).id)
    assert (entry.info.format, entry.length) == (STEREO, 19_200)
    with closing(again.catalogue.open(info(1).id)) as opened:
        assert opened.read_samples(0, 19_200).shape == (19_200, 2)
    close(again)


@pytest.mark.parametrize("made", ["wav", "opus"], indirect=True)
async def test_a_killed_process_left_a_part_that_goes_on_with_its_channels(
    made: Made, tmp_path: pathlib.Path
) -> None:
    about = replace(info(1), container=made.rig.container, resume_digest="digest")
    writer = made.rig.store.create(about)
    writer.append(made.sound(9600, 1), RECEIVED)
    writer.change_format(STEREO)
    writer.append(made.sound(4800, 2), RECEIVED)
    close(made.rig)  # as a killed process leaves it
    again = open_folder(tmp_path / "recordings")
    (interrupted,) = again.store.recover(resumable_since=LONG_AGO).interrupted
    assert (interrupted.info.format, interrupted.length) == (STEREO, 14_400)
    assert interrupted.info.name == about.name
    interrupted.writer.append(made.sound(4800, 2, 4800), RECEIVED)
    recording = await interrupted.writer.finish(EndReason.CLOSED, ENDED)
    assert [(part.start, part.length) for part in recording.parts] == [(0, 9600), (9600, 9600)]
    formats, sounds = zip(*map(read_file, recording.parts), strict=True)
    assert formats == (MONO, STEREO)
    assert_like(sounds[1], made.sound(9600, 2))
    assert again.catalogue.entry(info(1).id).info.format == STEREO
    close(again)


@pytest.mark.parametrize("made", ["wav", "opus"], indirect=True)
async def test_recovery_completes_all_parts(made: Made, tmp_path: pathlib.Path) -> None:
    writer = made.rig.create(1)
    writer.append(made.sound(9600, 1), RECEIVED)
    writer.change_format(STEREO)
    writer.append(made.sound(4800, 2), RECEIVED)
    close(made.rig)
    (recording,) = recover(tmp_path / "recordings").recovered
    assert [(part.start, part.length) for part in recording.parts] == [(0, 9600), (9600, 4800)]
    assert [read_file(part)[0] for part in recording.parts] == [MONO, STEREO]
    assert recording.info.format == STEREO


async def test_a_change_waits_until_its_file_can_be_created(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = FaultyDisk(monkeypatch)
    store = FolderStore(str(tmp_path))
    writer = store.create(info(1))
    writer.append([ramp(4800, 1)], RECEIVED)
    disk.fail("open", errno.EIO, "_part002")
    writer.change_format(STEREO)
    writer.append([ramp(4800, 2)], RECEIVED)
    while not disk.failed:
        pass
    disk.repair()
    recording = await writer.finish(EndReason.CLOSED, ENDED)
    store.close()
    formats, sounds = zip(*map(read_file, recording.parts), strict=True)
    assert formats == (MONO, STEREO)
    assert_like(sounds[0], [ramp(4800, 1)])
    assert_like(sounds[1], [ramp(4800, 2)])


async def test_parts_of_limited_size_follow_the_change_of_channels(tmp_path: pathlib.Path) -> None:
    store = FolderStore(str(tmp_path), PartOptions(max_data_bytes=9600))
    writer = store.create(info(1))
    writer.append([ramp(6000, 1)], RECEIVED)
    writer.change_format(STEREO)
    writer.append([ramp(6000, 2)], RECEIVED)
    recording = await writer.finish(EndReason.CLOSED, ENDED)
    store.close()
    assert [part.length for part in recording.parts] == [4800, 1200, 2400, 2400, 1200]
    sounds = [read_file(part)[1] for part in recording.parts]
    assert_like(np.concatenate(sounds[:2]), [ramp(6000, 1)])  # type: ignore[arg-type]
    assert_like(np.concatenate(sounds[2:]), [ramp(6000, 2)])  # type: ignore[arg-type]
    starts = [
        json.loads(pathlib.Path(part.location).with_suffix(".json").read_text())["started_at"]
        for part in recording.parts
    ]
    assert starts == sorted(set(starts))


async def test_sound_that_was_left_out_stays_before_the_change(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapters.storage.folder.writer.QUEUE_S", 0.05)
    store = FolderStore(str(tmp_path))
    writer = store.create(info(1))
    writer.append([ramp(4800, 1)], RECEIVED)  # more than the queue takes
    writer.change_format(STEREO)
    writer.append([ramp(960, 2)], RECEIVED)
    recording = await writer.finish(EndReason.CLOSED, ENDED)
    store.close()
    assert [part.length for part in recording.parts] == [4800, 960]
    assert_like(read_file(recording.parts[1])[1], [ramp(960, 2)])


@pytest.mark.parametrize("made", ["opus"], indirect=True)
async def test_each_part_is_rendered_with_its_channels(made: Made) -> None:
    writer = made.rig.create(1)
    writer.append(made.sound(48_000, 1), RECEIVED)
    writer.change_format(STEREO)
    writer.append(made.sound(48_000, 2), RECEIVED)
    recording = await writer.finish(EndReason.CLOSED, ENDED)
    for part, channels in zip(recording.parts, (1, 2), strict=True):
        rendered = render_recording(pathlib.Path(part.location), None, make_decoder)
        found, samples = read_file(rendered.parts[0])
        assert (found.channels, len(samples)) == (channels, 48_000)


async def test_a_recording_in_memory_that_is_full_begins_no_part() -> None:
    store = MemoryStore(limit_bytes=1000)
    writer = store.create(info(1))
    writer.append([ramp(400, 1)], RECEIVED)
    writer.append([ramp(400, 1)], RECEIVED)  # does not fit
    writer.change_format(STEREO)
    writer.append([ramp(10, 2)], RECEIVED)
    recording = await writer.finish(EndReason.CLOSED, ENDED)
    assert [part.length for part in recording.parts] == [400]
    assert recording.info.format == MONO
    assert recording.end_reason == EndReason.STORAGE_FAILED.value
