"""Recordings get what was captured, in the format of the spool or in their own."""

from __future__ import annotations

import datetime
import json
import pathlib
import shutil
from dataclasses import replace

import numpy as np
import pytest

from adapters.codec.decoders import make_decoder
from adapters.codec.pyav import PyAvResampler
from adapters.storage.folder.disk import SyncThread
from adapters.storage.folder.inspection import inspect_recording
from adapters.storage.folder.journal import read_journal
from adapters.storage.folder.part import PartOptions
from adapters.storage.folder.parts import RecordingParts
from adapters.storage.folder.recovery import FolderRecovery
from adapters.storage.restoring.pieces import FolderPieces
from adapters.storage.restoring.rendering import RestoringRenderer
from adapters.storage.restoring.rewriting import FolderRewrite
from domain.errors import RecordingUnknown, StorageFailed
from domain.recording.ledger import (
    ANCHOR,
    MAX_EVENTS,
    LedgerEvent,
    RestoreMode,
    RestoreState,
    SampleKind,
)
from domain.recording.ranges import Range, RangeSet
from domain.recording.restoring import CROSSFADE, LOOK_AHEAD, PLACED, Segment, SpoolInfo, ticks_of
from domain.recording.verification import Limits, verify
from domain.sound.conversion import convert_frame
from domain.sound.formats import AudioFormat, AudioFrame, SampleFormat, Samples, silence
from domain.sound.pieces import EncodedSound
from tests.fakes.pieces import flac_of, random_sound
from tests.rigs.restoring import SESSION, START, Folder, Live, captured_of, noise
from tests.rigs.sound import encode, speech

MONO = AudioFormat(48_000, 1)
RECEIVED, RESTORED = SampleKind.RECEIVED, SampleKind.RESTORED
CONCEALED, SILENCE = SampleKind.CONCEALED, SampleKind.SILENCE
FORMATS = [
    AudioFormat(44_100, 1),
    AudioFormat(96_000, 2, SampleFormat.S24),
    AudioFormat(88_200, 1, SampleFormat.S24),
    AudioFormat(48_000, 2, SampleFormat.S24),
    AudioFormat(48_000, 8, SampleFormat.S24),
    AudioFormat(48_000, 1, SampleFormat.U8),
    AudioFormat(16_000, 1),
]


def live_of(pcm: Samples, pre_roll: int = 2000) -> Live:
    """Lose sound, time and the end."""
    live = Live(pcm)
    live.begin(pre_roll)
    live.run(9000, RECEIVED)
    live.run(3000, CONCEALED)
    live.run(6000, RECEIVED)
    live.stall(2500)
    live.run(7000, RECEIVED)
    live.jump(8000, 3000)
    live.run(6000, RECEIVED)
    return live


def resampled(pcm: Samples, source: AudioFormat, target: AudioFormat) -> Samples:
    """Bring a whole spool to another format at once."""
    if source.sample_rate_hz == target.sample_rate_hz:
        return convert_frame(AudioFrame(source, pcm), target).samples
    second = silence(source, source.sample_rate_hz)
    resampler = PyAvResampler(source, target)
    whole = np.concatenate([second, pcm, second])
    frames = [*resampler.push(AudioFrame(source, whole)), *resampler.flush()]
    joined = np.concatenate([frame.samples for frame in frames])
    begin = target.sample_rate_hz
    return joined[begin : begin + ticks_of(len(pcm), source.sample_rate_hz)]


def assert_valid(folder: Folder) -> None:
    paths = list(folder.path.glob("*.wav"))
    assert paths
    for path in paths:
        verdict = verify(inspect_recording(str(path)), Limits())
        assert verdict.ok, verdict.problems


@pytest.mark.parametrize("spool", FORMATS, ids=str)
def test_all_is_the_spool_bit_for_bit(tmp_path: pathlib.Path, spool: AudioFormat) -> None:
    pcm = noise(spool, spool.sample_rate_hz)
    folder = Folder(tmp_path, spool, RestoreMode.ALL)
    folder.record(live_of(noise(MONO, 48_000)))
    result = folder.restore(pcm)
    assert result.sha256 == captured_of(pcm, spool).sha256
    assert folder.catalogue.entry(SESSION).info.format == spool
    stall = round(2500 * spool.sample_rate_hz / 48_000)
    assert result.length == len(pcm) + stall
    found, kinds = folder.read(), np.array([kind is RESTORED for kind in folder.kinds()])
    assert (found[kinds] == pcm).all()
    assert (found[~kinds] == silence(spool, 1)).all()
    assert_valid(folder)
    folder.close()


@pytest.mark.parametrize("spool", FORMATS, ids=str)
def test_what_was_lost_is_the_spool_in_the_format_of_the_recording(
    tmp_path: pathlib.Path, spool: AudioFormat
) -> None:
    pcm = noise(spool, spool.sample_rate_hz)
    heard = resampled(pcm, spool, MONO)
    assert len(heard) == 48_000
    folder = Folder(tmp_path, spool)
    folder.record(live_of(heard))
    result = folder.restore(pcm)
    assert result.length == 48_000 + 2500
    found, kinds = folder.read(), np.array(folder.kinds())
    axis = np.concatenate([np.arange(19_688), np.full(2500, -1), np.arange(19_688, 48_000)])
    restored = kinds == RESTORED
    assert (found[restored] == heard[axis[restored]]).all()
    assert set(kinds) == {RECEIVED, RESTORED, SILENCE}
    assert (kinds == SILENCE).sum() == 2500
    received = kinds == RECEIVED
    differs = (found != ~heard[axis]).any(axis=1) & received
    assert 0 < differs.sum() <= 6 * CROSSFADE
    assert_valid(folder)
    folder.close()


@pytest.mark.parametrize("spool", [MONO, AudioFormat(96_000, 2, SampleFormat.S24)], ids=str)
@pytest.mark.parametrize("is_hole", [False, True])
def test_sound_that_only_the_server_has_is_kept(
    tmp_path: pathlib.Path, spool: AudioFormat, is_hole: bool
) -> None:
    """The client's disk was full from 12,000 on, or has lost what was there up to 24,000."""
    heard = noise(MONO, 48_000)
    live = Live(heard)
    live.begin(0)
    live.run(8000 + LOOK_AHEAD, RECEIVED)
    live.run(1000, CONCEALED)
    live.run(25_000, RECEIVED)
    folder = Folder(tmp_path, spool, RestoreMode.ALL)
    folder.record(live)
    ticks = spool.sample_rate_hz // 48_000
    pcm = noise(spool, 48_000 * ticks if is_hole else 12_000 * ticks)
    missing = [Range(12_000 * ticks, 12_000 * ticks)] if is_hole else []
    for item in missing:
        pcm[item.start : item.end] = 0
    held = RangeSet([Range(0, len(pcm))]).minus(RangeSet(missing))
    result = folder.restore(pcm, list(held), missing=missing)
    found, kinds = folder.read(), np.array(folder.kinds())
    assert (found[12_000:24_000] == ~heard[12_000:24_000]).all()
    assert set(kinds[12_000:24_000]) == {RECEIVED}
    assert set(kinds[:12_000]) == {RESTORED}
    brought = resampled(pcm, spool, MONO)
    assert (found[:11_000] == brought[:11_000]).all()
    assert result.length == (48_000 if is_hole else 34_000)
    ledger = folder.catalogue.ledger(SESSION)
    assert (ledger["restore"]["state"], result.sha256) == ("complete", ledger["sha256"])
    with folder.hold(pcm, list(held)) as reader:  # again: the process was killed meanwhile
        captured = captured_of(pcm, spool, missing)
        again = folder.rewrite(folder.key, captured, held, reader, RestoreState.COMPLETE)
    assert again == result
    assert_valid(folder)
    folder.close()


@pytest.mark.parametrize("mode", [RestoreMode.LOST, RestoreMode.ALL])
def test_a_client_may_lose_what_it_has_sent_already(
    tmp_path: pathlib.Path, mode: RestoreMode
) -> None:
    pcm = noise(MONO, 48_000)
    folder = Folder(tmp_path, MONO, mode)
    folder.record(live_of(pcm))
    left = pcm.copy()
    left[20_000:21_000] = 0
    captured = captured_of(left, MONO, [Range(20_000, 1000)])
    with folder.hold(pcm, [Range(0, 48_000)]) as reader:
        held = RangeSet([Range(0, 48_000)])
        result = folder.rewrite(folder.key, captured, held, reader, RestoreState.COMPLETE)
    assert folder.catalogue.ledger(SESSION)["restore"]["state"] == "complete"
    if mode is RestoreMode.ALL:
        assert result.sha256 == captured.sha256
    assert_valid(folder)
    folder.close()


def test_live_recordings_have_the_last_room_on_the_disk(tmp_path: pathlib.Path) -> None:
    pcm = noise(MONO, 48_000)
    folder = Folder(tmp_path, MONO)
    folder.record(live_of(pcm))
    before = folder.files()
    free = shutil.disk_usage(tmp_path).free
    folder.rewrite = FolderRewrite(
        str(tmp_path), folder.catalogue, PyAvResampler, PartOptions(min_free_bytes=2 * free)
    )
    with pytest.raises(OSError, match="No space"):
        folder.restore(pcm)
    assert folder.files() == before
    folder.close()


def test_seams_change_over_within_received_sound(tmp_path: pathlib.Path) -> None:
    folder = Folder(tmp_path, MONO)
    pcm = np.full((10_000, 1), 10_000, "<i2")
    live = Live(pcm)
    live.begin(0)
    live.run(5312, RECEIVED)
    live.run(1000, CONCEALED)
    live.run(4000, RECEIVED)
    folder.record(live)
    folder.restore(pcm)
    steps = np.abs(np.diff(folder.read()[:, 0].astype(int)))
    assert steps.max() < 2 * 20_001 / CROSSFADE
    folder.close()


@pytest.mark.parametrize(
    "options", [PartOptions(max_data_bytes=20_000), PartOptions(rotate_s=0.1, rf64=True),
                PartOptions(rf64=True)], ids=str,
)  # fmt: skip
@pytest.mark.parametrize("mode", [RestoreMode.LOST, RestoreMode.ALL])
def test_parts_end_where_they_should(
    tmp_path: pathlib.Path, options: PartOptions, mode: RestoreMode
) -> None:
    pcm = noise(MONO, 48_000)
    folder = Folder(tmp_path, MONO, mode, options)
    folder.record(live_of(pcm), PartOptions(rotate_s=0.07))
    folder.restore(pcm)
    limit = options.part_samples(folder.info) or 10**9
    entry = folder.catalogue.entry(SESSION)
    assert [part.length for part in entry.parts[:-1]] == [limit] * (len(entry.parts) - 1)
    assert len(list(tmp_path.glob("*.wav"))) == len(entry.parts) == -(-50_500 // limit)
    assert len(list(tmp_path.glob("*.json"))) == len(entry.parts)
    assert entry.length == 50_500
    assert_valid(folder)
    ledger = folder.catalogue.ledger(SESSION)
    assert ledger["restore"]["state"] == "complete"
    assert ledger["restore"]["restored"] == folder.kinds().count(RESTORED)
    folder.close()


@pytest.mark.parametrize("mode", [RestoreMode.LOST, RestoreMode.ALL])
def test_a_recording_of_mono_and_stereo_becomes_one_of_stereo(
    tmp_path: pathlib.Path, mode: RestoreMode
) -> None:
    stereo = AudioFormat(48_000, 2)
    pcm = noise(stereo, 20_000)
    folder = Folder(tmp_path, stereo, mode)
    sync = SyncThread(tmp_path)
    parts = RecordingParts(tmp_path, folder.info, PartOptions(), sync, folder.catalogue)
    parts.open()
    parts.note(LedgerEvent(PLACED, 0, {"gap": 0, "ticks": 0}))
    parts.write([~pcm[:6000, :1]], RECEIVED)
    parts.change_format(stereo)
    parts.write([~pcm[6000:10_000]], RECEIVED)
    parts.write([pcm[10_000:12_000]], CONCEALED)
    parts.write([~pcm[12_000:20_000]], RECEIVED)
    parts.finish("closed", START)
    sync.close()
    folder.restore(pcm)
    found, kinds = folder.read(), np.array(folder.kinds())
    restored = kinds == RESTORED
    assert (found[restored] == pcm[restored]).all()
    assert restored.sum() == (20_000 if mode is RestoreMode.ALL else 2000)
    if mode is RestoreMode.LOST:
        assert (found[:6000] == ~pcm[:6000, :1]).all()
    assert_valid(folder)
    folder.close()


@pytest.mark.parametrize("mode", [RestoreMode.LOST, RestoreMode.ALL])
@pytest.mark.parametrize("spool", [AudioFormat(96_000, 2, SampleFormat.S24), MONO], ids=str)
def test_a_recording_is_made_of_which_nothing_was_received(
    tmp_path: pathlib.Path, mode: RestoreMode, spool: AudioFormat
) -> None:
    folder = Folder(tmp_path, spool, mode)
    pcm = noise(spool, spool.sample_rate_hz)
    assert folder.rewrite.segments(folder.key, None) == []
    whole = [Segment(48_000, SILENCE, None, 0)]
    assert folder.rewrite.segments(folder.key, captured_of(pcm, spool)) == whole
    result = folder.restore(pcm)
    entry = folder.catalogue.entry(SESSION)
    assert set(folder.kinds()) == {RESTORED}
    if mode is RestoreMode.ALL:
        assert entry.info.format == spool
        assert result.sha256 == captured_of(pcm, spool).sha256
        assert (folder.read() == pcm).all()
    else:
        target = AudioFormat(48_000, spool.channels)
        assert entry.info.format == target
        assert (folder.read() == resampled(pcm, spool, target)).all()
    assert entry.info.started_at == START
    assert_valid(folder)
    assert folder.restore(pcm) == result
    assert len(list(tmp_path.glob("*.wav"))) == 1
    folder.close()


HOUR = datetime.timedelta(hours=1)


@pytest.mark.parametrize(
    ("said", "begins"),
    [(START - HOUR, START - HOUR), (START + HOUR, START), (START - 9000 * HOUR, START)],
)
def test_such_a_recording_begins_when_its_client_says_unless_its_clock_is_wrong(
    tmp_path: pathlib.Path, said: datetime.datetime, begins: datetime.datetime
) -> None:
    folder = Folder(tmp_path, MONO)
    pcm = noise(MONO, 1000)
    key = replace(folder.key, spool=SpoolInfo(0, MONO, RestoreMode.LOST, said))
    with folder.hold(pcm, whole := [Range(0, 1000)]) as reader:
        folder.rewrite(key, captured_of(pcm, MONO), RangeSet(whole), reader, RestoreState.COMPLETE)
    assert folder.catalogue.entry(SESSION).info.started_at == begins
    folder.close()


def test_nothing_is_made_of_nothing(tmp_path: pathlib.Path) -> None:
    folder = Folder(tmp_path, MONO)
    result = folder.restore(noise(MONO, 0), [], state=RestoreState.EXPIRED)
    assert result.length == 0
    with pytest.raises(RecordingUnknown):
        folder.catalogue.entry(SESSION)
    folder.close()


@pytest.mark.parametrize("mode", [RestoreMode.LOST, RestoreMode.ALL])
@pytest.mark.parametrize("is_told", [True, False])
def test_what_did_not_come_in_time_stays_as_it_was(
    tmp_path: pathlib.Path, mode: RestoreMode, is_told: bool
) -> None:
    spool = AudioFormat(44_100, 1)
    pcm = noise(spool, 44_100)
    heard = resampled(pcm, spool, MONO)
    folder = Folder(tmp_path, spool, mode)
    folder.record(live_of(heard))
    before = folder.read()
    held = [Range(9000, 2000), Range(11_500, 100)]
    folder.restore(pcm, held, state=RestoreState.EXPIRED, is_told=is_told)
    found, kinds = folder.read(), np.array(folder.kinds())
    assert folder.catalogue.entry(SESSION).info.format == MONO
    restored = np.flatnonzero(kinds == RESTORED)
    assert len(restored) > 100
    pre_roll = 1688 if is_told else 0  # nothing of it is known
    shift = 0 if is_told else 1688
    assert (found[restored] == heard[restored + shift]).all()
    at = np.flatnonzero(kinds == CONCEALED)
    assert len(at)
    assert (found[at] == before[at - pre_roll]).all()
    ledger = folder.catalogue.ledger(SESSION)
    assert ledger["restore"]["state"] == "expired"
    assert ledger["restore"]["wanted"] > 0
    assert_valid(folder)
    folder.close()


@pytest.mark.parametrize("mode", [RestoreMode.LOST, RestoreMode.ALL])
@pytest.mark.parametrize("spool", [MONO, AudioFormat(96_000, 1)], ids=str)
def test_anchors_and_the_beginning_stay_true(
    tmp_path: pathlib.Path, mode: RestoreMode, spool: AudioFormat
) -> None:
    pcm = noise(spool, spool.sample_rate_hz)
    live = live_of(noise(MONO, 48_000))

    def at(ticks: float) -> str:
        return (START + datetime.timedelta(seconds=ticks / 48_000)).isoformat()

    anchors = {0: 1688, 5000: 6688, 20_000: None, 24_000: 23_188, 32_000: 36_188}
    for position, tick in anchors.items():
        if tick is not None:
            details = {"rtp_timestamp": (2**32 - 5000 + tick) % 2**32, "ssrc": 1,
                       "at": at(position)}  # fmt: skip
            live.events.append(LedgerEvent(ANCHOR, position, details))
    live.events.append(LedgerEvent("outage", 26_000, {"length": 480}))
    live.events.sort(key=lambda event: event.position)
    folder = Folder(tmp_path, spool, mode)
    folder.record(live)
    folder.restore(pcm)
    entry = json.loads(next(tmp_path.glob("*.json")).read_text())
    rate = spool.sample_rate_hz if mode is RestoreMode.ALL else 48_000
    scale = rate / 48_000
    for event in entry["events"]:
        if event["type"] == ANCHOR:
            tick = (event["rtp_timestamp"] + 5000) % 2**32
            stall = 2500 if tick >= 19_688 else 0
            assert event["position"] == (tick + stall) * scale
        if event["type"] == "outage":
            assert event["length"] == 480 * scale
    assert sum(event["type"] == ANCHOR for event in entry["events"]) == 4
    begins = datetime.datetime.fromisoformat(entry["started_at"])
    assert abs((START - begins).total_seconds() - 1688 / 48_000) < 1e-5
    assert_valid(folder)
    assert folder.catalogue.entry(SESSION).info.started_at == begins
    folder.close()


@pytest.mark.parametrize("rotate_s", [None, 0.5])
@pytest.mark.parametrize("mode", [RestoreMode.LOST, RestoreMode.ALL])
def test_packets_stay_and_a_rendering_is_exact(
    tmp_path: pathlib.Path, mode: RestoreMode, rotate_s: float | None
) -> None:
    spool = AudioFormat(48_000, 1)
    pcm = speech(1.5)
    packets = [EncodedSound(payload, 960) for payload in encode(pcm)]
    folder = Folder(tmp_path, spool, mode, PartOptions(rotate_s=rotate_s))
    folder.record_packets(packets, 20, 30)
    before = {path: path.read_bytes() for path in tmp_path.glob("*.opus")}
    result = folder.restore(pcm)
    (tmp_path / f"{SESSION}.restore.pcm").unlink()
    assert {path: path.read_bytes() for path in tmp_path.glob("*.opus")} == before
    assert folder.catalogue.entry(SESSION).length == len(packets) * 960
    for path in before:
        entry = json.loads(path.with_suffix(".json").read_text())
        assert entry["restore"]["state"] == "complete"
        assert verify(inspect_recording(str(path)), Limits()).ok
    assert len(folder.catalogue._index.parts()) == len(before)
    folder.catalogue.scan()
    assert len(folder.catalogue._index.parts()) == len(before)
    renderer = RestoringRenderer(make_decoder, PyAvResampler)
    rendered = renderer.render(str(min(before)), None)
    path = pathlib.Path(rendered.location)
    facts = inspect_recording(str(path))
    assert verify(facts, Limits()).ok
    assert rendered.length == result.length
    entry = json.loads(path.with_suffix(".json").read_text())
    assert entry["restore"]["restored"] == result.restored
    if mode is RestoreMode.ALL:
        assert facts.sha256 == result.sha256 == captured_of(pcm, spool).sha256
    assert not list(tmp_path.glob(".rendering*"))
    folder.catalogue.remove(SESSION)
    left = {path.name for path in tmp_path.iterdir() if not path.name.startswith(".")}
    assert left == {path.name, path.with_suffix(".json").name}
    folder.close()


def test_a_recovered_recording_waits_to_be_restored(tmp_path: pathlib.Path) -> None:
    folder = Folder(tmp_path, MONO)
    sync = SyncThread(tmp_path)
    parts = RecordingParts(tmp_path, folder.info, PartOptions(), sync, folder.catalogue)
    parts.open()
    parts.write([noise(MONO, 960)], RECEIVED)
    parts.abandon()
    sync.close()
    found = read_journal(tmp_path / f"{folder.name}.journal").info
    assert found is not None
    assert found.restore is RestoreMode.LOST
    assert not FolderRecovery().recover(str(tmp_path)).failed
    entry = json.loads(next(tmp_path.glob("*.json")).read_text())
    assert entry["restore"]["state"] == "waiting"
    folder.close()


async def test_pieces_become_a_recording(tmp_path: pathlib.Path) -> None:
    spool = AudioFormat(44_100, 2, SampleFormat.S24)
    folder = Folder(tmp_path, spool, RestoreMode.ALL)
    (tmp_path / f"{SESSION}.restore").unlink()
    pcm = random_sound(44_100, spool)
    folder.record(live_of(noise(MONO, 48_000)))
    pieces = await FolderPieces(str(tmp_path), lambda _: True, folder.rewrite).begin(folder.key)
    captured = captured_of(pcm, spool)
    await pieces.note_captured(captured)
    restoration = await pieces.compare()
    assert restoration.first(1) == [Range(0, 44_100)]
    for start in range(0, 44_100, 10_000):
        wanted = restoration.within(start, 10_000)
        held = await pieces.put(start, flac_of(pcm[start : start + 10_000], spool), wanted)
        restoration.arrived(held)
    assert restoration.is_satisfied
    result = await pieces.restore(RestoreState.COMPLETE)
    assert result.sha256 == captured.sha256
    assert not (tmp_path / f"{SESSION}.restore.pcm").exists()
    found, kinds = folder.read(), np.array([kind is RESTORED for kind in folder.kinds()])
    assert (found[kinds] == pcm).all()
    folder.close()


async def test_pieces_of_a_removed_recording_make_no_other(tmp_path: pathlib.Path) -> None:
    folder = Folder(tmp_path, MONO)
    (tmp_path / f"{SESSION}.restore").unlink()
    pcm = noise(MONO, 48_000)
    folder.record(live_of(pcm))
    pieces = await FolderPieces(str(tmp_path), lambda _: True, folder.rewrite).begin(folder.key)
    await pieces.note_captured(captured_of(pcm, MONO))
    await pieces.put(0, flac_of(pcm[:20_000], MONO), [Range(0, 20_000)])
    folder.catalogue.remove(SESSION)
    for state in (RestoreState.COMPLETE, RestoreState.EXPIRED):
        with pytest.raises(StorageFailed):
            await pieces.restore(state)
        with pytest.raises(StorageFailed):
            await pieces.put(0, flac_of(pcm, MONO), [Range(0, 48_000)])
    await pieces.discard()
    assert not [path for path in tmp_path.iterdir() if not path.name.startswith(".")]
    folder.close()


def test_sound_whose_place_is_not_known_stays(tmp_path: pathlib.Path) -> None:
    """Beyond 10,000 events a ledger does not say any more where sound was captured."""
    pcm = noise(MONO, 48_000)
    live = live_of(pcm)
    live.events += [LedgerEvent("channels", live.length)] * MAX_EVENTS
    folder = Folder(tmp_path, MONO)
    folder.record(live)
    before = folder.read(), folder.kinds()
    folder.restore(pcm)
    assert (folder.read() == before[0]).all()
    assert folder.kinds() == before[1]
    assert folder.catalogue.ledger(SESSION)["restore"]["state"] == "off"
    assert_valid(folder)
    folder.close()
