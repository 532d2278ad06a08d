"""Recovery makes a valid WAV with a matching ledger from whatever a killed process has left."""

from __future__ import annotations

import asyncio
import datetime
import hashlib
import importlib.resources
import json
import pathlib
import shutil
import tempfile
import wave
from dataclasses import replace

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapters.codec.decoders import make_decoder
from adapters.storage.folder.disk import SyncThread
from adapters.storage.folder.files import RecordingFiles
from adapters.storage.folder.inspection import inspect_recording
from adapters.storage.folder.journal import read_journal
from adapters.storage.folder.part import PartOptions
from adapters.storage.folder.parts import RecordingParts
from adapters.storage.folder.recovery import recover
from adapters.storage.folder.renderer import render_recording
from adapters.storage.folder.store import FolderStore
from adapters.storage.wav.header import read_header
from domain.recording.effects import EndReason
from domain.recording.ledger import Container, LedgerEvent, RecordingInfo, SampleKind
from domain.recording.verification import Limits, verify
from domain.sound.formats import AudioFormat, SampleFormat
from domain.sound.pieces import EncodedSound

ODD_WAVS = sorted(
    pathlib.Path(str(path))
    for path in (importlib.resources.files("scipy") / "io/tests/data").iterdir()
    if path.name.endswith(".wav")
)
MONO = AudioFormat(8_000, 1)
STARTED = datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)


def info(audio_format: AudioFormat) -> RecordingInfo:
    return RecordingInfo("id", "a", audio_format, "opus", STARTED, session_id="id")


def leave_unfinished(
    folder: pathlib.Path, audio_format: AudioFormat = MONO, *, rf64: bool = False
) -> None:
    """Leave a recording as a killed process does: 100 received, 50 silent, 100 concealed."""

    async def write() -> None:
        store = FolderStore(str(folder), PartOptions(rf64=rf64))
        writer = store.create(info(audio_format))
        samples = np.ones((100, audio_format.channels), dtype=audio_format.sample_format.dtype)
        writer.append([samples], SampleKind.RECEIVED)
        writer.append_silence(50, SampleKind.SILENCE)
        writer.note(LedgerEvent("discontinuity", 150))
        writer.append([samples], SampleKind.CONCEALED)
        store.close()

    asyncio.run(write())


def hashes(folder: pathlib.Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def assert_recovered(folder: pathlib.Path) -> None:
    """Check that there is one valid recording with its ledger, and that recovery is idempotent."""
    found = recover(folder)
    assert found.failed == []
    assert found.busy == []
    assert not list(folder.glob("*.part")) and not list(folder.glob("*.journal"))
    for path in folder.glob("*.wav"):
        verdict = verify(inspect_recording(str(path)), Limits())
        assert verdict.problems == []
        assert verdict.end_reason == "recovered"
        assert soundfile.info(path).frames == verdict.length
    before = hashes(folder)
    assert recover(folder).recovered == []
    assert hashes(folder) == before


@pytest.fixture(scope="module")
def unfinished(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("unfinished")
    leave_unfinished(folder)
    return folder


def test_everything_written_is_recovered_with_its_spans_and_events(
    unfinished: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(unfinished, folder)
    assert_recovered(folder)
    ledger = json.loads((folder / "a.json").read_text())
    assert [(s["start"], s["length"], s["kind"]) for s in ledger["spans"]] == [
        (0, 100, "received"),
        (100, 50, "silence"),
        (150, 100, "concealed"),
    ]
    assert ledger["events"] == [{"type": "discontinuity", "position": 150}]
    assert (ledger["id"], ledger["codec"]) == ("id", "opus")
    with wave.open(str(folder / "a.wav")) as file:
        assert (file.getnframes(), file.getframerate(), file.getnchannels()) == (250, 8_000, 1)


@pytest.mark.parametrize(
    ("old_id", "session_id", "track"), [("8f3a", "8f3a", 1), ("8f3a_3", "8f3a", 3)]
)
def test_an_older_journal_names_session_and_track_by_its_id(
    tmp_path: pathlib.Path, old_id: str, session_id: str, track: int
) -> None:
    leave_unfinished(tmp_path)
    path = tmp_path / "a.journal"
    first, *rest = path.read_text().splitlines(keepends=True)
    begin = json.loads(first) | {"id": old_id}
    del begin["session_id"], begin["track"]
    path.write_text("".join([json.dumps(begin) + "\n", *rest]))
    found = read_journal(path).info
    assert found is not None
    assert (found.id, found.session_id, found.track) == (old_id, session_id, track)
    (recovered,) = recover(tmp_path).recovered
    assert recovered.info == found
    assert json.loads((tmp_path / "a.json").read_text())["track"] == track


def test_the_journal_keeps_session_and_track(tmp_path: pathlib.Path) -> None:
    leave_unfinished(tmp_path)
    assert read_journal(tmp_path / "a.journal").info == info(MONO)


async def test_a_recovered_recording_has_all_its_parts(tmp_path: pathlib.Path) -> None:
    store = FolderStore(str(tmp_path), PartOptions(rotate_s=0.0125))
    writer = store.create(info(MONO))
    writer.append([np.ones((250, 1), dtype="<i2")], SampleKind.RECEIVED)
    store.close()
    (recovered,) = recover(tmp_path).recovered
    assert [(part.number, part.start, part.length) for part in recovered.parts] == [
        (1, 0, 100), (2, 100, 100), (3, 200, 50),
    ]  # fmt: skip
    assert (recovered.location, recovered.length) == (str(tmp_path / "a.wav"), 250)
    assert (recovered.info, recovered.end_reason) == (info(MONO), "recovered")


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_files_cut_off_anywhere_are_recovered(
    unfinished: pathlib.Path, data: st.DataObject
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name) / "copy"
        shutil.copytree(unfinished, folder)
        for path in (folder / "a.wav.part", folder / "a.journal"):
            content = path.read_bytes()
            cut = data.draw(st.none() | st.integers(0, len(content)), label=path.name)
            if cut is not None:
                path.write_bytes(content[:cut])
            elif path.suffix == ".journal" and data.draw(st.booleans(), label="no journal"):
                path.unlink()
        assert_recovered(folder)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    at=st.integers(0, 1200),
    damage=st.binary(min_size=1, max_size=60),
    journal=st.booleans(),
)
def test_a_damaged_header_is_rebuilt_and_the_sound_kept(
    unfinished: pathlib.Path, at: int, damage: bytes, journal: bool
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name) / "copy"
        shutil.copytree(unfinished, folder)
        part = folder / "a.wav.part"
        content = part.read_bytes()
        offset = json.loads((folder / "a.journal").read_text().splitlines()[0])["data_offset"]
        at = min(at, offset - len(damage))
        part.write_bytes(content[:at] + damage + content[at + len(damage) :])
        if journal:
            assert_recovered(folder)
            assert soundfile.info(folder / "a.wav").frames == 250
            assert (folder / "a.wav").read_bytes()[offset:] == content[offset:]
        else:
            (folder / "a.journal").unlink()
            recovered_or_left_alone(folder, part.read_bytes())


def recovered_or_left_alone(folder: pathlib.Path, content: bytes) -> bool:
    """Check a foreign file: recovered if it has a format of ours, else unchanged."""
    if not recover(folder).failed:
        assert_recovered(folder)
        return True
    (part,) = folder.glob("*.wav.part")
    assert part.read_bytes() == content
    assert soundfile.info(part).frames > 0
    return False


def test_a_damaged_time_loses_only_its_line(tmp_path: pathlib.Path) -> None:
    leave_unfinished(tmp_path)
    with (tmp_path / "a.journal").open("a") as file:
        anchor = {"type": "anchor", "position": 0, "at": "2024-0x-01T00:00:00+00:00"}
        file.write(json.dumps({"event": anchor}) + "\n")
    assert_recovered(tmp_path)


@pytest.mark.parametrize("odd", ODD_WAVS, ids=lambda path: path.name)
def test_odd_wavs_do_not_break_recovery(odd: pathlib.Path, tmp_path: pathlib.Path) -> None:
    shutil.copy(odd, tmp_path / "odd.wav.part")
    with odd.open("rb") as file:
        header = read_header(file.fileno())
    done = recovered_or_left_alone(tmp_path, odd.read_bytes())
    if done and header is not None and not header.trailing:
        kept = inspect_recording(str(tmp_path / "odd.wav"))
        assert kept.format == header.format


@settings(max_examples=100)
@given(odd=st.sampled_from(ODD_WAVS), share=st.floats(0, 1))
def test_odd_wavs_cut_off_anywhere_do_not_break_recovery(odd: pathlib.Path, share: float) -> None:
    with tempfile.TemporaryDirectory() as name:
        content = odd.read_bytes()
        content = content[: round(len(content) * share)]
        (pathlib.Path(name) / "odd.wav.part").write_bytes(content)
        recovered_or_left_alone(pathlib.Path(name), content)


@pytest.mark.parametrize("sample_format", [SampleFormat.S16, SampleFormat.S24, SampleFormat.U8])
def test_every_format_is_recovered(tmp_path: pathlib.Path, sample_format: SampleFormat) -> None:
    leave_unfinished(tmp_path, AudioFormat(16_000, 3, sample_format))
    assert_recovered(tmp_path)
    assert inspect_recording(str(tmp_path / "a.wav")).format == AudioFormat(
        16_000, 3, sample_format
    )


def test_an_rf64_is_recovered(tmp_path: pathlib.Path) -> None:
    leave_unfinished(tmp_path, rf64=True)
    assert_recovered(tmp_path)
    assert soundfile.info(tmp_path / "a.wav").frames == 250


def test_an_odd_byte_at_the_end_is_no_sample(tmp_path: pathlib.Path) -> None:
    leave_unfinished(tmp_path)
    with (tmp_path / "a.wav.part").open("ab") as file:
        file.write(b"\x01")
    assert_recovered(tmp_path)
    assert soundfile.info(tmp_path / "a.wav").frames == 250


def test_nothing_is_overwritten(tmp_path: pathlib.Path) -> None:
    leave_unfinished(tmp_path)
    (tmp_path / "a.wav").write_bytes(b"somebody else's")
    recover(tmp_path)
    assert (tmp_path / "a.wav").read_bytes() == b"somebody else's"
    assert soundfile.info(tmp_path / "a-2.wav").frames == 250


def test_a_name_that_is_taken_by_another_unfinished_recording_is_not_free(
    tmp_path: pathlib.Path,
) -> None:
    leave_unfinished(tmp_path)
    (tmp_path / "a.wav.part").rename(tmp_path / "a-2.wav.part")
    (tmp_path / "a.journal").rename(tmp_path / "a-2.journal")
    leave_unfinished(tmp_path)
    (tmp_path / "a.wav").write_bytes(b"somebody else's")
    assert len(recover(tmp_path).recovered) == 2
    assert {p.name for p in tmp_path.glob("*.wav")} == {"a.wav", "a-2.wav", "a-3.wav"}


def test_foreign_files_are_left_alone(tmp_path: pathlib.Path) -> None:
    telephone = np.zeros(8000)
    soundfile.write(tmp_path / "talk.wav", telephone, 8000, subtype="ULAW")
    (tmp_path / "talk.json").write_text('{"mine": true}')
    (tmp_path / "talk.journal").write_text("dear diary")
    (tmp_path / "note.journal").write_text("dear diary")
    soundfile.write(tmp_path / "draft.wav", telephone, 8000, subtype="ULAW")
    (tmp_path / "draft.wav").rename(tmp_path / "draft.wav.part")
    before = hashes(tmp_path)
    found = recover(tmp_path)
    assert (found.recovered, len(found.failed)) == ([], 1)
    assert hashes(tmp_path) == before


def test_a_badly_damaged_journal_affects_only_its_recording(
    tmp_path: pathlib.Path,
) -> None:
    leave_unfinished(tmp_path)
    with (tmp_path / "a.journal").open("a") as file:
        file.write("[" * 200_000 + '\n{"span": [1e999, "received"]}\n')
    assert_recovered(tmp_path)
    assert soundfile.info(tmp_path / "a.wav").frames == 250


@pytest.mark.parametrize("step", ["linked", "renamed", "ledger begun", "ledger written"])
def test_an_interrupted_recovery_can_be_repeated(tmp_path: pathlib.Path, step: str) -> None:
    leave_unfinished(tmp_path)
    shutil.copytree(tmp_path, whole := tmp_path.parent / f"whole {step}")
    recover(whole)
    part, wav = tmp_path / "a.wav.part", tmp_path / "a.wav"
    if step == "linked":
        wav.hardlink_to(part)
    elif step != "ledger begun":
        part.rename(wav)
    if step == "ledger begun":
        (tmp_path / "a.json.part").write_text('{"half')
    else:
        shutil.copy(whole / "a.json", tmp_path / "a.json.part")
    if step == "ledger written":
        (tmp_path / "a.json").hardlink_to(tmp_path / "a.json.part")
    recover(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"a.wav", "a.json"}
    assert wav.read_bytes() == (whole / "a.wav").read_bytes()


async def test_recordings_being_written_are_left_alone(tmp_path: pathlib.Path) -> None:
    store = FolderStore(str(tmp_path))
    writer = store.create(info(MONO))
    writer.append([np.ones((100, 1), dtype="<i2")], SampleKind.RECEIVED)
    opened = asyncio.Event()
    loop = asyncio.get_running_loop()
    store.disk.submit(lambda: void(loop.call_soon_threadsafe(opened.set)))
    await opened.wait()
    found = recover(tmp_path)
    assert found.busy == [str(tmp_path / "a.wav.part")]
    assert found.recovered == []
    await writer.finish(EndReason.CLOSED, STARTED)
    store.close()
    assert soundfile.info(tmp_path / "a.wav").frames == 100


async def test_recordings_being_completed_are_left_alone(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FolderStore(str(tmp_path))
    writer = store.create(info(MONO))
    writer.append([np.ones((100, 1), dtype="<i2")], SampleKind.RECEIVED)
    meanwhile = []

    def look_meanwhile(folder: pathlib.Path) -> None:
        assert not (folder / "a.wav.part").exists()
        meanwhile.append(recover(folder))

    monkeypatch.setattr("adapters.storage.folder.files.sync_folder", look_meanwhile)
    await writer.finish(EndReason.CLOSED, STARTED)
    store.close()
    assert meanwhile[0].busy == [str(tmp_path / "a.wav.part")]
    assert [found.recovered + found.failed for found in meanwhile] == [[]] * len(meanwhile)
    assert {path.name for path in tmp_path.iterdir()} == {"a.wav", "a.json"}


def void(_result: object) -> None:
    """Discard the result of a call."""


# -- packets that are kept as they came ---------------------------------------------------------

FRAME = bytes([31 << 3]) + bytes(20)
KEPT = replace(info(AudioFormat(48_000, 1)), container=Container.OGG)


def keep(parts: RecordingParts, pattern: list[int]) -> None:
    """Write packets of 20 ms by number; a negative number is a gap of that many samples."""
    for count in pattern:
        if count < 0:
            parts.write_silence(-count, SampleKind.SILENCE)
        else:
            parts.write([EncodedSound(FRAME, 960)] * count, SampleKind.RECEIVED)


patterns = st.lists(st.integers(1, 5) | st.integers(-3000, -1), max_size=8)
cuts = st.none() | st.floats(0, 1)


def cut_off(path: pathlib.Path, share: float | None, *, keep: int = 0) -> None:
    if share is not None:
        content = path.read_bytes()
        path.write_bytes(content[: keep + round((len(content) - keep) * share)])


@settings(max_examples=150, deadline=None)
@given(before=patterns, behind=patterns, cut=cuts, journal_cut=cuts, taken_up=st.booleans())
def test_a_killed_file_of_packets_is_rendered_whatever_its_gaps(
    before: list[int], behind: list[int], cut: float | None, journal_cut: float | None,
    taken_up: bool,
) -> None:  # fmt: skip
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        sync = SyncThread(folder)
        files = RecordingFiles(folder, "a", Container.OGG)
        parts = RecordingParts(folder, KEPT, PartOptions(), sync)
        parts.open()
        keep(parts, before)
        length = parts.length
        parts.abandon()
        ends_with_sound = cut is None and before[-1:] > [0]
        cut_off(files.part, cut, keep=read_journal(files.journal).data_offset or 0)
        if taken_up:
            parts = RecordingParts.reopen(files, read_journal(files.journal), PartOptions(), sync)
            if ends_with_sound:
                assert parts.length == length
            keep(parts, behind)
            parts.abandon()
        sync.close()
        cut_off(files.journal, journal_cut)
        assert recover(folder).failed == []
        verdict = verify(inspect_recording(str(files.recording)), Limits())
        assert verdict.problems == []
        if journal_cut is not None:
            return  # without a journal the gaps are not known
        if ends_with_sound and not taken_up:
            assert verdict.length == length
        rendered = render_recording(files.recording, None, make_decoder)
        assert verify(inspect_recording(rendered.location), Limits()).length == verdict.length
