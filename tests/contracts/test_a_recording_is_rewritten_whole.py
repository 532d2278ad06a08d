"""A recording is the one before or the one after, whatever happens while it is rewritten."""

from __future__ import annotations

import errno
import json
import os
import pathlib
import shutil
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from adapters.codec.decoders import make_decoder
from adapters.storage.folder.catalogue import FolderCatalogue
from adapters.storage.folder.files import restoring_journal
from adapters.storage.folder.inspection import inspect_recording
from adapters.storage.folder.part import PartOptions
from adapters.storage.folder.recovery import FolderRecovery
from adapters.storage.folder.store import FolderStore
from adapters.storage.folder.swap import Swap
from domain.errors import CapturedInvalid, RecordingLive, RecordingUnknown, StorageFailed
from domain.ports.catalogue import CatalogueQuery
from domain.recording.ledger import RestoreMode, RestoreState, SampleKind
from domain.recording.ranges import Range, RangeSet
from domain.recording.restoring import Captured
from domain.recording.verification import Limits, verify
from domain.sound.formats import AudioFormat, Samples
from domain.sound.pieces import EncodedSound
from tests.rigs.recordings import LONG_AGO
from tests.rigs.restoring import SESSION, Folder, Live, captured_of, noise
from tests.rigs.sound import encode, speech

MONO = AudioFormat(48_000, 1)
STEPS = ("replace", "unlink", "fsync", "pwrite", "ftruncate", "open", "link")


PACKETS = [EncodedSound(payload, 960) for payload in encode(speech(1))]


class Killed(BaseException):
    """Stands for the end of the process: nothing that follows reaches the disk."""


class Kill:
    """Ends the process at a step, counted from 1."""

    def __init__(self, patch: pytest.MonkeyPatch, at: int) -> None:
        self.steps, self._at = 0, at
        for name in STEPS:
            patch.setattr(os, name, self._counted(getattr(os, name)))

    def _counted(self, call: Callable[..., object]) -> Callable[..., object]:
        def counted(*values: object, **named: object) -> object:
            self.steps += 1
            if self.steps >= self._at:
                raise Killed
            return call(*values, **named)

        return counted


def make(path: pathlib.Path, mode: RestoreMode) -> tuple[Folder, Samples]:
    """Record three parts, of which the second one was lost."""
    path.mkdir(exist_ok=True)
    sound = noise(MONO, 6000)
    live = Live(sound)
    live.begin(1000)
    live.run(1800, SampleKind.RECEIVED)
    live.run(1000, SampleKind.CONCEALED)
    live.run(1800, SampleKind.RECEIVED)
    folder = Folder(path, MONO, mode, PartOptions(rotate_s=0.05))
    folder.record(live, PartOptions(rotate_s=0.04))
    return folder, sound


@pytest.fixture(params=[RestoreMode.LOST, RestoreMode.ALL])
def recorded(
    tmp_path: pathlib.Path, request: pytest.FixtureRequest
) -> Iterator[tuple[Folder, Samples]]:
    folder, sound = make(tmp_path / "first", request.param)
    yield folder, sound
    folder.close()


def make_packets(path: pathlib.Path) -> tuple[Folder, Samples]:
    """Record packets in two parts, of which some were lost."""
    path.mkdir(exist_ok=True)
    folder = Folder(path, MONO, options=PartOptions(rotate_s=0.6))
    folder.record_packets(PACKETS, 20, 25)
    return folder, speech(1)


def states(folder: Folder, sound: Samples) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """Return the files before and after."""
    before = folder.files()
    copy = folder.path.with_name("after")
    shutil.copytree(folder.path, copy)
    other = Folder(copy, MONO, folder.mode, folder.options)
    other.restore(sound)
    other.close()
    return before, other.files()


def assert_valid(folder: Folder) -> None:
    for path in folder.path.glob("*.wav"):
        assert verify(inspect_recording(str(path)), Limits()).ok


def test_a_process_killed_at_any_step_leaves_one_of_both(
    recorded: tuple[Folder, Samples], tmp_path: pathlib.Path
) -> None:
    kill_at_each_step(*recorded, tmp_path)


def test_a_recording_of_packets_gets_all_or_nothing(tmp_path: pathlib.Path) -> None:
    folder, sound = make_packets(tmp_path / "first")
    kill_at_each_step(folder, sound, tmp_path)
    folder.close()


def kill_at_each_step(folder: Folder, sound: Samples, tmp_path: pathlib.Path) -> None:
    before, after = states(folder, sound)
    assert before != after
    folder.hold(sound, [])
    seen = set()
    for step in range(1, 1000):
        copy = tmp_path / f"killed-{step}"
        shutil.copytree(folder.path, copy)
        killed = Folder(copy, MONO, folder.mode, folder.options)
        killed.hold(sound, [])
        with pytest.MonkeyPatch.context() as patch:
            kill = Kill(patch, step)
            try:
                killed.restore(sound)
            except Killed:
                is_killed = True
            else:
                is_killed = False
        killed.close()
        shutil.copytree(copy, retried := tmp_path / f"retried-{step}")
        found = FolderRecovery().recover(str(copy))
        assert not (found.failed or found.busy)
        files = killed.files()
        assert files in (before, after), f"step {step} of {kill.steps}"
        seen.add(files == after)
        # without recovery, the next call does the same
        again = Folder(retried, MONO, folder.mode, folder.options)
        again.restore(sound)
        assert again.files() == after
        entry = again.catalogue.entry(SESSION)
        assert entry.length == len(again.kinds()) == len(again.read())
        again.close()
        shutil.rmtree(copy)
        shutil.rmtree(retried)
        if not is_killed:
            break
    assert seen == {False, True}
    assert step > 10


def test_a_server_finishes_a_swap_when_it_starts(
    recorded: tuple[Folder, Samples], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, sound = recorded
    _, after = states(folder, sound)
    assert folder.catalogue.entry(SESSION).length == 4600
    with monkeypatch.context() as patch:
        patch.setattr(pathlib.Path, "replace", fail)
        with pytest.raises(OSError, match="Input/output"):
            folder.restore(sound)
    catalogue = FolderCatalogue(str(folder.path), make_decoder)
    store = FolderStore(str(folder.path), folder.options, catalogue=catalogue)
    found = store.recover(resumable_since=LONG_AGO)
    assert not (found.recovered or found.failed or found.busy)
    assert folder.files() == after
    assert catalogue.entry(SESSION).length == 6000
    store.close()
    catalogue.close()


def fail(*_: object) -> None:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_a_removal_finishes_a_swap_first(
    recorded: tuple[Folder, Samples], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, sound = recorded
    with monkeypatch.context() as patch:
        patch.setattr(pathlib.Path, "replace", fail)
        with pytest.raises(OSError, match="Input/output"):
            folder.restore(sound)
    folder.catalogue.remove(SESSION)
    assert not [path for path in folder.path.iterdir() if not path.name.startswith(".")]


def test_the_catalogue_shows_the_new_recording(recorded: tuple[Folder, Samples]) -> None:
    folder, sound = recorded
    assert folder.catalogue.entry(SESSION).length == 4600
    folder.restore(sound)
    entry = folder.catalogue.entry(SESSION)
    assert entry.length == 6000
    assert [part.number for part in entry.parts] == [1, 2, 3]
    assert entry.size == sum(path.stat().st_size for path in folder.path.glob("*.wav"))
    assert (folder.read()[-700:] == sound[-700:]).all()
    assert_valid(folder)


def test_a_reader_keeps_what_it_has_opened(recorded: tuple[Folder, Samples]) -> None:
    folder, sound = recorded
    opened = folder.catalogue.open(SESSION)
    before = opened.read_samples(0, 4600)
    folder.restore(sound)
    assert (opened.read_samples(0, 4600) == before).all()
    opened.close()


def test_a_full_disk_leaves_the_old_recording(
    recorded: tuple[Folder, Samples], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, sound = recorded
    before = folder.files()
    real = os.pwrite

    def full(descriptor: int, data: bytes, offset: int) -> int:
        if len(data) > 2000:  # sound
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(descriptor, data, offset)

    whole = [Range(0, len(sound))]
    reader = folder.hold(sound, whole)
    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OSError, match="No space"):
        folder.rewrite(
            folder.key,
            captured_of(sound, MONO),
            RangeSet(whole),
            reader,
            RestoreState.COMPLETE,
        )
    assert folder.files() == before


def test_what_is_not_what_was_captured_changes_nothing(recorded: tuple[Folder, Samples]) -> None:
    folder, sound = recorded
    before = folder.files()
    with folder.hold(sound, whole := [Range(0, len(sound))]) as reader:
        wrong = Captured(len(sound), "0" * 64)
        with pytest.raises(CapturedInvalid):
            folder.rewrite(folder.key, wrong, RangeSet(whole), reader, RestoreState.COMPLETE)
    assert folder.files() == before


def noted_states(folder: Folder) -> set[str]:
    ledgers = [json.loads(path.read_text()) for path in folder.path.glob("*.json")]
    return {ledger["restore"]["state"] for ledger in ledgers}


def test_in_the_end_what_is_not_what_was_captured_is_left_out(
    recorded: tuple[Folder, Samples],
) -> None:
    folder, sound = recorded
    before, kinds = folder.read(), folder.kinds()
    with folder.hold(sound, whole := [Range(0, len(sound))]) as reader:
        wrong = Captured(len(sound), "0" * 64)
        restored = folder.rewrite(folder.key, wrong, RangeSet(whole), reader, RestoreState.EXPIRED)
    assert (restored.length, restored.restored) == (len(before), 0)
    assert noted_states(folder) == {"expired"}
    assert np.array_equal(folder.read(), before)
    assert folder.kinds() == kinds


def test_in_the_end_sound_that_contradicts_its_hash_is_better_than_none(
    tmp_path: pathlib.Path,
) -> None:
    sound = noise(MONO, 4800)
    folder = Folder(tmp_path, MONO, RestoreMode.ALL)
    restoring_journal(tmp_path, SESSION).touch()
    wrong, whole = Captured(len(sound), "0" * 64), RangeSet([Range(0, len(sound))])
    with folder.hold(sound, list(whole)) as reader:
        with pytest.raises(CapturedInvalid):
            folder.rewrite(folder.key, wrong, whole, reader, RestoreState.COMPLETE)
        assert not list(tmp_path.glob("*.wav"))
        folder.rewrite(folder.key, wrong, whole, reader, RestoreState.EXPIRED)
    assert noted_states(folder) == {"expired"}
    assert np.array_equal(folder.read(), sound)
    folder.close()


def test_a_removed_recording_stays_removed(recorded: tuple[Folder, Samples]) -> None:
    folder, sound = recorded
    folder.catalogue.remove(SESSION)
    assert not [path for path in folder.path.iterdir() if not path.name.startswith(".")]
    with pytest.raises(StorageFailed):
        folder.restore(sound)
    with pytest.raises(RecordingUnknown):
        folder.catalogue.entry(SESSION)


@pytest.mark.parametrize("was_live", [True, False])
def test_a_restored_recording_has_room_and_title_of_its_session(
    tmp_path: pathlib.Path, was_live: bool
) -> None:
    folder = Folder(tmp_path, MONO, room="friday", client="مريم\n🎙️")
    sound = noise(MONO, 6000)
    if was_live:
        live = Live(sound)
        live.begin(0)
        live.run(6000, SampleKind.CONCEALED)
        folder.record(live)
    folder.restore(sound)
    (entry,) = folder.catalogue.page(CatalogueQuery(room="Friday")).entries
    assert entry.info.room == "friday"
    ledger = folder.catalogue.ledger(SESSION)
    assert (ledger["room"], ledger["title"]) == ("friday", "مريم 🎙️")
    assert folder.catalogue.page(CatalogueQuery(name="مريم")).entries == (entry,)
    folder.close()


def test_a_recording_is_rewritten_or_removed_by_one_at_a_time(
    recorded: tuple[Folder, Samples],
) -> None:
    folder, sound = recorded
    before = folder.files()
    with Swap(folder.path, folder.name):
        with pytest.raises(RecordingLive):
            folder.catalogue.remove(SESSION)
        with pytest.raises(StorageFailed):
            folder.restore(sound)
        busy = FolderRecovery().recover(str(folder.path)).busy
        assert busy == [str(folder.path / f"{folder.name}.wav")]
    assert folder.files() == before
    folder.restore(sound)
    folder.catalogue.remove(SESSION)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\0" * 100,
        b"{",
        b'{"renames":["x.wav"],"removals":[]}',
        b'{"renames":["../x.wav"],"removals":[]}\n',
        b'{"renames":[],"removals":["/etc/passwd"]}\n',
        b"[]\n",
        b"\xff\n",
        b"my notes",
    ],
)
def test_a_swap_that_nobody_has_written_touches_no_other_file(
    tmp_path: pathlib.Path, text: bytes
) -> None:
    folder, _ = make(tmp_path / "first", RestoreMode.LOST)
    before = folder.files()
    (folder.path / f"{folder.name}.swap").write_bytes(text)
    found = FolderRecovery().recover(str(folder.path))
    swap = folder.path / f"{folder.name}.swap"
    assert swap.exists() == (text.endswith(b"\n") or text == b"my notes") == bool(found.failed)
    swap.unlink(missing_ok=True)
    assert folder.files() == before
    folder.close()


def test_nothing_to_restore_writes_only_the_ledger(tmp_path: pathlib.Path) -> None:
    folder = Folder(tmp_path, MONO)
    sound = noise(MONO, 4000)
    live = Live(sound)
    live.begin(0)
    live.run(4312, SampleKind.RECEIVED)
    folder.record(live)
    wav = next(tmp_path.glob("*.wav"))
    inode = wav.stat().st_ino
    result = folder.restore(sound, [])
    assert wav.stat().st_ino == inode
    entry = json.loads(wav.with_suffix(".json").read_text())
    assert entry["restore"] == {"state": "complete", "mode": "lost", "wanted": 0, "restored": 0}
    assert (result.length, result.restored, result.sha256) == (4312, 0, entry["sha256"])
    assert verify(inspect_recording(str(wav)), Limits()).ok
    folder.close()


def test_sound_that_only_the_server_has_stays(tmp_path: pathlib.Path) -> None:
    """A killed client may not have written its last second."""
    folder = Folder(tmp_path, MONO)
    sound = noise(MONO, 20_000)
    live = Live(sound)
    live.begin(0)
    live.run(3000, SampleKind.RECEIVED)
    live.run(1000, SampleKind.CONCEALED)
    live.run(16_000, SampleKind.RECEIVED)
    folder.record(live)
    folder.restore(sound[:8000])
    assert len(folder.read()) == 20_000 - 312
    assert set(folder.kinds()) == {SampleKind.RECEIVED, SampleKind.RESTORED}
    assert (folder.read()[8000:] == ~sound[8000 : 20_000 - 312]).all()
    assert np.count_nonzero(np.array([k is SampleKind.RESTORED for k in folder.kinds()])) == 1000
    folder.close()
