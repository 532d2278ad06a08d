"""The contract of the pieces of a spool that a server keeps."""

from __future__ import annotations

import asyncio
import datetime
import errno
import hashlib
import logging
import os
import pathlib
import stat
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from adapters.storage.restoring import journal as journals
from adapters.storage.restoring.pieces import FolderPieces
from domain.errors import (
    CapturedInvalid,
    PieceInvalid,
    RecordingRemoved,
    StorageFailed,
    StorageFull,
)
from domain.ports.restoring import Pieces, Restored
from domain.ports.spool import MAX_PIECE_SAMPLES
from domain.recording.ledger import RestoreState
from domain.recording.ranges import Range, RangeSet
from domain.recording.restoring import Captured
from domain.session.placement import NodeId
from domain.sound.conversion import pack
from domain.sound.formats import AudioFormat, SampleFormat, Samples, silence
from tests.fakes.disk import FaultyDisk, path_of
from tests.fakes.pieces import FakeRewrite, flac_of, random_sound, restore_key

FORMAT = AudioFormat(48_000, 2)
ALL = [Range(0, 1 << 40)]
ENDED = datetime.datetime(2026, 1, 3, 1, 2, 3, 456789, tzinfo=datetime.UTC)
ID = "00c0ffee00c0ffee"


class Folder:
    """A folder of pieces, which each call of `store` opens as another process."""

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path
        self.rewrite = FakeRewrite()
        self.boot = "this boot"

    def store(self, owns: Callable[[str], bool] = lambda _id: True) -> FolderPieces:
        return FolderPieces(str(self.path), owns, self.rewrite, boot=self.boot)

    async def begin(self, audio_format: AudioFormat = FORMAT, session_id: str = ID) -> Pieces:
        return await self.store().begin(restore_key(session_id, audio_format))

    def again(self) -> Pieces:
        """Return the pieces as another process finds them."""
        (pieces,) = self.store().pending()
        return pieces

    @property
    def journal(self) -> pathlib.Path:
        return self.path / f"{ID}.restore"

    @property
    def pcm(self) -> pathlib.Path:
        return self.path / f"{ID}.restore.pcm"

    @property
    def names(self) -> list[str]:
        return sorted(path.name for path in self.path.iterdir())


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> Folder:
    return Folder(tmp_path)


async def put(
    pieces: Pieces, start: int, sound: Samples, wanted: Sequence[Range] = ALL
) -> Sequence[Range]:
    return await pieces.put(start, flac_of(sound, pieces.key.spool.format), wanted)


async def restored(pieces: Pieces, folder: Folder, length: int) -> Samples:
    """Return what a rewriter reads."""
    await pieces.note_captured(Captured(length, "00"))
    await pieces.restore(RestoreState.COMPLETE)
    assert folder.rewrite.samples is not None
    return folder.rewrite.samples


@pytest.mark.parametrize("sample_format", [SampleFormat.U8, SampleFormat.S16, SampleFormat.S24])
@pytest.mark.parametrize(("rate_hz", "channels"), [(44_100, 1), (48_000, 2), (96_000, 8)])
async def test_what_was_put_is_read_bit_for_bit(
    folder: Folder, sample_format: SampleFormat, rate_hz: int, channels: int
) -> None:
    audio_format = AudioFormat(rate_hz, channels, sample_format)
    pieces = await folder.begin(audio_format)
    sound = random_sound(5000, audio_format)
    assert await put(pieces, 700, sound) == [Range(700, 5000)]
    expected = np.concatenate([silence(audio_format, 700), sound, silence(audio_format, 100)])
    assert np.array_equal(await restored(pieces, folder, 5800), expected)
    outcome = Restored(
        hashlib.sha256(pack(expected, sample_format)).hexdigest(), 5800, 5000, rate_hz
    )
    assert pieces.outcome == outcome


async def test_only_what_is_wanted_and_not_there_is_kept(folder: Folder) -> None:
    pieces = await folder.begin()
    first, second = random_sound(1000, FORMAT, 1), random_sound(1000, FORMAT, 2)
    held = await put(pieces, 100, first, [Range(0, 200), Range(400, 10), Range(1099, 500)])
    assert held == [Range(100, 100), Range(400, 10), Range(1099, 1)]
    held = await put(pieces, 150, second, [Range(0, 10_000)])
    assert held == [Range(150, 1000)]
    assert pieces.held == [Range(100, 1050)]
    expected = np.concatenate([silence(FORMAT, 100), first[:50], second])
    expected[150:200], expected[400:410], expected[1099] = first[50:100], first[300:310], first[999]
    assert np.array_equal(await restored(pieces, folder, 1150), expected)


async def test_what_is_not_wanted_takes_no_room(folder: Folder) -> None:
    pieces = await folder.begin()
    assert await put(pieces, 0, random_sound(1000, FORMAT), []) == []
    assert folder.names == [folder.journal.name]


async def test_a_piece_far_behind_takes_only_its_room(folder: Folder) -> None:
    pieces = await folder.begin()
    await put(pieces, 1 << 32, random_sound(1000, FORMAT))
    assert folder.pcm.stat().st_blocks * 512 < 1 << 20


async def test_only_its_owner_can_read_what_was_captured(folder: Folder) -> None:
    await put(await folder.begin(), 0, random_sound(1000, FORMAT))
    for path in (folder.journal, folder.pcm):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_another_process_goes_on_with_everything(folder: Folder) -> None:
    pieces = await folder.begin()
    sound = random_sound(2000, FORMAT)
    await put(pieces, 0, sound, [Range(100, 50), Range(300, 100)])
    captured = Captured(2000, "12" * 32, (Range(7, 3), Range(1500, 2)))
    await pieces.note_captured(captured)
    await pieces.note_end(ENDED)
    again = folder.again()
    assert again.key == restore_key(ID, FORMAT)
    assert again.held == [Range(100, 50), Range(300, 100)]
    assert (again.captured, again.ended_at, again.outcome) == (captured, ENDED, None)
    await put(again, 1000, sound[1000:])
    assert folder.again().held == [Range(100, 50), Range(300, 100), Range(1000, 1000)]
    outcome = await again.restore(RestoreState.COMPLETE)
    held = RangeSet([Range(100, 50), Range(300, 100), Range(1000, 1000)])
    assert folder.rewrite.calls == [(captured, held, RestoreState.COMPLETE)]
    third = folder.again()
    assert third.outcome == outcome
    assert await third.restore(RestoreState.COMPLETE) == outcome
    assert len(folder.rewrite.calls) == 1


async def test_a_process_takes_only_its_own_sessions(folder: Folder) -> None:
    sessions = [f"{number:016x}" for number in range(20)]
    for session_id in sessions:
        await folder.begin(session_id=session_id)
    for node in (NodeId(0, 2, b"key"), NodeId(1, 2, b"key")):
        pending = folder.store(node.owns).pending()
        expected = [session_id for session_id in sessions if node.owns(session_id)]
        assert 0 < len(expected) < len(sessions)
        assert [pieces.key.session_id for pieces in pending] == expected


async def test_a_folder_that_is_not_there_has_nothing_pending(folder: Folder) -> None:
    folder.path /= "none"
    assert folder.store().pending() == []


async def test_two_sessions_cannot_have_one_journal(folder: Folder) -> None:
    await folder.begin()
    before = folder.journal.read_bytes()
    with pytest.raises(StorageFailed):
        await folder.begin()
    assert folder.journal.read_bytes() == before


@pytest.mark.parametrize("session_id", ["../x", "", "a/b", "a.b", "x" * 300, "a\n"])
async def test_an_id_that_is_no_file_name_is_refused(folder: Folder, session_id: str) -> None:
    with pytest.raises(StorageFailed):
        await folder.begin(session_id=session_id)
    assert folder.names == []


async def test_symbolic_links_are_not_followed(folder: Folder, tmp_path: pathlib.Path) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"kept")
    pieces = await folder.begin()
    folder.pcm.symlink_to(target)
    with pytest.raises(StorageFailed):
        await put(pieces, 0, random_sound(100, FORMAT))
    assert pieces.held == []
    folder.journal.unlink()
    folder.journal.symlink_to(target)
    with pytest.raises(StorageFailed):
        await pieces.note_end(ENDED)
    assert folder.store().pending() == []
    assert target.read_bytes() == b"kept"


# -- wrong pieces ------------------------------------------------------------------------------


def _with_length(flac: bytes, length: int) -> bytes:
    """Return the file with another length in its header (RFC 9639 § 8.2)."""
    bits = int.from_bytes(flac[21:26], "big") >> 36 << 36 | length
    return flac[:21] + bits.to_bytes(5, "big") + flac[26:]


def _wrong_pieces() -> dict[str, tuple[bytes, str]]:
    sound = random_sound(10_000, FORMAT)
    flac = flac_of(sound, FORMAT)
    middle = len(flac) // 2
    hidden = flac[:26] + bytes(16) + flac[42:]  # without a hash
    other = {
        "another rate": AudioFormat(44_100, 2),
        "other channels": AudioFormat(48_000, 1),
        "another depth": AudioFormat(48_000, 2, SampleFormat.S24),
    }
    long = silence(FORMAT, MAX_PIECE_SAMPLES + 1)
    return {
        "nothing": (b"", "not a FLAC file"),
        "text": (b"fLaC, they said, would be as long as a header at least", "not a FLAC file"),
        "WAV": (b"RIFF" + bytes(100), "not a FLAC file"),
        "only a header": (flac[:42], "after 0 of 10000"),
        "no sound": (_with_length(flac, 0), "does not tell its length"),
        "too long": (flac_of(long, FORMAT), "more than 480000"),
        "a bomb": (_with_length(flac, (1 << 36) - 1), "more than 480000"),
        "longer than its header": (_with_length(hidden, 9_999), "goes on"),
        "much longer than its header": (_with_length(hidden, 1), "goes on"),
        "shorter than its header": (_with_length(hidden, 10_001), "10000 of 10001"),
        "cut off": (flac[:-1], "damaged"),
        "cut off in the middle": (flac[:middle], "damaged"),
        "garbage behind": (flac + b"garbage", "damaged"),
        "silence behind": (flac + bytes(1000), "damaged"),
        "two files": (flac + flac, "damaged"),
        "a bit is wrong": (
            flac[:middle] + bytes([flac[middle] ^ 1]) + flac[middle + 1 :],
            "damaged",
        ),
        "a wrong hash": (flac[:26] + b"\1" * 16 + flac[42:], "MD5"),
        **{
            name: (flac_of(random_sound(100, another), another), "the spool is 48000 Hz, 16 bit")
            for name, another in other.items()
        },
    }


@pytest.mark.parametrize("name", _wrong_pieces())
async def test_a_wrong_piece_changes_nothing(folder: Folder, name: str) -> None:
    flac, reason = _wrong_pieces()[name]
    pieces = await folder.begin()
    await put(pieces, 50, random_sound(100, FORMAT))
    before = folder.journal.read_bytes(), folder.pcm.read_bytes()
    with pytest.raises(PieceInvalid, match=reason):
        await pieces.put(0, flac, ALL)
    assert (folder.journal.read_bytes(), folder.pcm.read_bytes()) == before
    assert pieces.held == [Range(50, 100)]


async def test_a_piece_may_come_without_a_hash(folder: Folder) -> None:
    flac = flac_of(random_sound(100, FORMAT), FORMAT)
    pieces = await folder.begin()
    assert await pieces.put(0, flac[:26] + bytes(16) + flac[42:], ALL) == [Range(0, 100)]


async def test_the_longest_piece_is_kept(folder: Folder) -> None:
    pieces = await folder.begin()
    await put(pieces, 0, random_sound(MAX_PIECE_SAMPLES, FORMAT))
    assert pieces.held == [Range(0, MAX_PIECE_SAMPLES)]


# -- faults of the disk ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "error"),
    [(errno.ENOSPC, StorageFull), (errno.EDQUOT, StorageFull), (errno.EIO, StorageFailed)],
)
@pytest.mark.parametrize("text", [".restore", ".pcm"])
async def test_a_write_that_fails_changes_nothing(
    folder: Folder,
    monkeypatch: pytest.MonkeyPatch,
    text: str,
    number: int,
    error: type[Exception],
) -> None:
    pieces = await folder.begin()
    sound = random_sound(1000, FORMAT)
    await put(pieces, 0, sound, [Range(0, 10)])
    disk = FaultyDisk(monkeypatch)
    disk.fail("pwrite", number, text)
    with pytest.raises(error):
        await put(pieces, 0, random_sound(1000, FORMAT, 2))
    if text == ".restore":
        with pytest.raises(error):
            await pieces.note_captured(Captured(1000, "00"))
        with pytest.raises(error):
            await pieces.note_end(ENDED)
        with pytest.raises(error):
            await folder.begin(session_id="another")
        assert folder.names == [folder.journal.name, folder.pcm.name]
    disk.repair()
    for found in (pieces, folder.again()):
        assert (found.held, found.captured, found.ended_at) == ([Range(0, 10)], None, None)
    await put(pieces, 0, sound)
    await pieces.note_end(ENDED)
    again = folder.again()
    assert (again.held, again.ended_at) == ([Range(0, 1000)], ENDED)
    assert np.array_equal(await restored(again, folder, 1000), sound)


async def test_a_session_fills_no_disk_with_what_it_sends(folder: Folder) -> None:
    limit = 250 * FORMAT.bytes_per_frame
    await folder.begin()
    limited = FolderPieces(
        str(folder.path), lambda _id: True, folder.rewrite, max_session_bytes=limit
    )
    (pieces,) = limited.pending()
    sound = random_sound(100, FORMAT)
    for start in (0, 100, 0):  # what is sent again takes no more room
        await put(pieces, start, sound)
    with pytest.raises(PieceInvalid, match="as this server allows"):
        await put(pieces, 200, sound)
    assert pieces.held == [Range(0, 200)]
    await put(pieces, 200, sound[:50])


async def test_the_last_space_of_a_disk_is_for_recordings(folder: Folder) -> None:
    pieces = await folder.begin()
    full = FolderPieces(str(folder.path), lambda _id: True, folder.rewrite, min_free_bytes=1 << 60)
    (same,) = full.pending()
    with pytest.raises(StorageFull):
        await put(same, 0, random_sound(100, FORMAT))
    with pytest.raises(StorageFull):
        await full.begin(restore_key("another", FORMAT))
    assert pieces.held == []
    assert folder.names == [folder.journal.name]


async def test_what_was_not_synced_is_not_believed_after_a_reboot(folder: Folder) -> None:
    pieces = await folder.begin()
    sound = random_sound(1000, FORMAT)
    await put(pieces, 0, sound[:500])
    await pieces.note_end(ENDED)
    folder.boot = "the next boot"
    after = folder.again()
    assert (after.held, after.ended_at) == ([], ENDED)
    await put(after, 400, sound[400:])
    assert folder.again().held == [Range(400, 600)]
    folder.boot = "this boot"
    assert folder.again().held == [Range(0, 500)]


async def test_what_is_restored_was_synced(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.rewrite = FakeRewrite(OSError(errno.EIO, "broken"))
    pieces = await folder.begin()
    await put(pieces, 0, random_sound(1000, FORMAT))
    synced: list[str] = []
    fsync = os.fsync

    def note(descriptor: int) -> None:
        synced.append(path_of(descriptor))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    with pytest.raises(StorageFailed):
        await pieces.restore(RestoreState.COMPLETE)
    assert str(folder.pcm) in synced
    folder.boot = "the next boot"
    assert folder.again().held == [Range(0, 1000)]


async def test_without_a_boot_only_what_was_synced_is_believed(folder: Folder) -> None:
    folder.boot = ""
    await put(await folder.begin(), 0, random_sound(1000, FORMAT))
    assert folder.again().held == []


async def test_what_could_not_be_synced_is_written_again(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    pieces = await folder.begin()
    sound = random_sound(1000, FORMAT)
    await put(pieces, 0, sound, [Range(0, 100), Range(500, 100)])
    file = folder.pcm.stat().st_ino
    disk = FaultyDisk(monkeypatch)
    disk.fail("fsync", errno.EIO, ".pcm")
    with pytest.raises(StorageFailed):
        await pieces.restore(RestoreState.COMPLETE)
    assert folder.rewrite.calls == []
    disk.repair()
    await put(pieces, 0, sound, [Range(700, 10)])
    unlinked: list[int] = []
    unlink = pathlib.Path.unlink

    def note(path: pathlib.Path, missing_ok: bool = False) -> None:
        if path == folder.pcm:
            unlinked.append(path.stat().st_ino)
        unlink(path, missing_ok)

    monkeypatch.setattr(pathlib.Path, "unlink", note)
    expected = silence(FORMAT, 1000)
    for item in (slice(0, 100), slice(500, 600), slice(700, 710)):
        expected[item] = sound[item]
    assert np.array_equal(await restored(pieces, folder, 1000), expected)
    assert unlinked
    assert file not in unlinked


async def test_a_file_that_was_cut_off_is_asked_for_again(folder: Folder) -> None:
    pieces = await folder.begin()
    await put(pieces, 0, random_sound(1000, FORMAT))
    os.truncate(folder.pcm, 600 * FORMAT.bytes_per_frame + 1)
    with pytest.raises(StorageFailed):
        await pieces.restore(RestoreState.COMPLETE)
    assert folder.again().held == [Range(0, 600)]
    folder.pcm.unlink()
    assert folder.again().held == []


# -- journals ----------------------------------------------------------------------------------


async def test_a_damaged_journal_is_left_alone(
    folder: Folder, caplog: pytest.LogCaptureFixture
) -> None:
    await put(await folder.begin(session_id="other"), 0, random_sound(10, FORMAT))
    await put(await folder.begin(), 0, random_sound(1000, FORMAT))
    for data in (b"", b"\0" * 100, b"[]\n", b'{"restore":2}\n', b"[" * 100_000 + b"\n",
                 (folder.path / "other.restore").read_bytes()):  # fmt: skip
        folder.journal.write_bytes(data)
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            pending = folder.store().pending()
        assert [pieces.key.session_id for pieces in pending] == ["other"]
        assert str(folder.journal) in caplog.text
        assert folder.journal.read_bytes() == data
        assert folder.pcm.exists()


async def test_a_line_that_was_cut_off_is_as_if_never_written(folder: Folder) -> None:
    pieces = await folder.begin()
    await put(pieces, 0, random_sound(1000, FORMAT), [Range(0, 100)])
    known = [folder.journal.stat().st_size]
    await put(pieces, 0, random_sound(1000, FORMAT), [Range(500, 100)])
    known.append(folder.journal.stat().st_size)
    await pieces.note_end(ENDED)
    whole = folder.journal.read_bytes()
    header = whole.index(b"\n") + 1
    for length in range(len(whole)):
        folder.journal.write_bytes(whole[:length])
        pending = folder.store().pending()
        assert len(pending) == (length >= header)
        for found in pending:
            expected = [Range(0, 100), Range(500, 100)][: sum(length >= size for size in known)]
            assert (found.held, found.ended_at) == (expected, None)
            captured = Captured(length, "00")
            await found.note_captured(captured)
            again = folder.again()
            assert (again.held, again.captured) == (expected, captured)


async def test_a_damaged_line_costs_only_itself(folder: Folder) -> None:
    pieces = await folder.begin()
    await put(pieces, 0, random_sound(1000, FORMAT))
    with folder.journal.open("ab") as file:
        file.write(b'\0\0\n{"held":[[5]],"boot":"this boot"}\n{"held":[[-5,9]],"synced":true}\n')
        file.write(b'{"captured":{"length":"x"}}\n{"restored":1}\n{"ended_at":"then"}\n3\n')
    again = folder.again()
    assert (again.held, again.captured, again.outcome) == ([Range(0, 1000)], None, None)
    await again.note_end(ENDED)
    assert folder.again().ended_at == ENDED


async def test_a_journal_stays_small(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journals, "COMPACTED_BYTES", 4000)
    pieces = await folder.begin()
    captured = Captured(100_000, "ab" * 32)
    await pieces.note_captured(captured)
    sound = random_sound(20_000, FORMAT)
    for start in range(0, 20_000, 100):
        await put(pieces, start, sound[start : start + 100])
        assert folder.journal.stat().st_size < 4200
    assert stat.S_IMODE(folder.journal.stat().st_mode) == 0o600
    again = folder.again()
    assert (again.held, again.captured) == ([Range(0, 20_000)], captured)
    assert folder.names == [folder.journal.name, folder.pcm.name]


async def test_a_client_that_changes_its_mind_fills_no_disk(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journals, "COMPACTED_BYTES", 4000)
    pieces = await folder.begin()
    for length in range(200):
        await pieces.note_captured(Captured(length, "ab" * 32, (Range(length, 1),)))
        assert folder.journal.stat().st_size < 4200
    assert folder.again().captured == pieces.captured


async def test_a_journal_of_many_ranges_is_seldom_written_anew(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journals, "COMPACTED_BYTES", 2000)
    pieces = await folder.begin()
    sound = random_sound(20_000, FORMAT)
    made = set()
    for start in range(0, 20_000, 100):
        await put(pieces, start, sound[start : start + 100], [Range(start, 50)])
        made.add(folder.journal.stat().st_ino)
    assert len(made) < 8
    assert len(folder.again().held) == 200


async def test_files_of_a_killed_process_are_removed(folder: Folder) -> None:
    await folder.begin()
    (folder.path / f"{ID}.restore.new").touch()
    (folder.path / "another.restore.new").touch()
    folder.store(lambda name: name == ID).pending()
    assert folder.names == [folder.journal.name, "another.restore.new"]


# -- restoring ---------------------------------------------------------------------------------


async def test_a_restored_recording_keeps_only_its_journal(folder: Folder) -> None:
    pieces = await folder.begin()
    sound = random_sound(1000, FORMAT)
    await put(pieces, 0, sound)
    outcome = await pieces.restore(RestoreState.COMPLETE)
    assert outcome == Restored(hashlib.sha256(sound.tobytes()).hexdigest(), 1000, 1000, 48_000)
    assert folder.names == [folder.journal.name]
    assert await pieces.restore(RestoreState.COMPLETE) == outcome
    assert folder.again().outcome == outcome
    assert await put(pieces, 500, random_sound(1000, FORMAT)) == [Range(500, 500)]
    assert folder.names == [folder.journal.name]
    await pieces.discard()
    assert folder.names == []
    await pieces.discard()


async def test_what_has_expired_is_kept_until_it_is_discarded(folder: Folder) -> None:
    pieces = await folder.begin()
    await put(pieces, 0, random_sound(1000, FORMAT))
    restored = await pieces.restore(RestoreState.EXPIRED)
    assert await put(pieces, 500, random_sound(1000, FORMAT)) == [Range(500, 500)]
    again = folder.again()
    assert (pieces.outcome, again.outcome, again.held) == (None, None, [Range(0, 1000)])
    assert await again.restore(RestoreState.EXPIRED) == restored
    await again.discard()
    assert folder.names == []


async def test_a_recording_that_needs_nothing_is_restored_with_nothing(folder: Folder) -> None:
    pieces = await folder.begin()
    assert await pieces.restore(RestoreState.COMPLETE) == Restored(
        hashlib.sha256().hexdigest(), 0, 0, 48_000
    )
    assert pieces.outcome is not None


async def test_sound_that_a_rewriter_has_taken_is_not_missed(folder: Folder) -> None:
    pieces = await folder.begin()
    await put(pieces, 0, random_sound(1000, FORMAT))
    folder.rewrite.may_go_on.clear()
    restoring = asyncio.create_task(pieces.restore(RestoreState.COMPLETE))
    await _until(lambda: folder.rewrite.running == 1)
    folder.pcm.rename(folder.path / "taken")
    folder.rewrite._errors.append(StorageFailed("before it was read"))
    folder.rewrite.may_go_on.set()
    with pytest.raises(StorageFailed):
        await restoring
    assert folder.again().held == []


async def test_sound_that_is_left_after_the_restoration_is_deleted(folder: Folder) -> None:
    pieces = await folder.begin()
    await pieces.restore(RestoreState.COMPLETE)
    folder.pcm.touch()
    assert folder.again().outcome is not None
    assert folder.names == [folder.journal.name]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (CapturedInvalid("another hash"), CapturedInvalid),
        (StorageFull("the disk is full"), StorageFull),
        (OSError(errno.ENOSPC, "full"), StorageFull),
        (OSError(errno.EIO, "broken"), StorageFailed),
    ],
)
async def test_a_restoration_that_failed_can_be_repeated(
    folder: Folder, error: Exception, expected: type[Exception]
) -> None:
    folder.rewrite = FakeRewrite(error)
    pieces = await folder.begin()
    sound = random_sound(1000, FORMAT)
    await put(pieces, 0, sound[:500])
    with pytest.raises(expected):
        await pieces.restore(RestoreState.COMPLETE)
    assert pieces.outcome is None
    await put(pieces, 500, sound[500:])
    assert np.array_equal(await restored(pieces, folder, 1000), sound)


async def test_pieces_that_come_during_a_restoration_are_not_kept(folder: Folder) -> None:
    pieces = await folder.begin()
    await put(pieces, 0, random_sound(1000, FORMAT))
    folder.rewrite.may_go_on.clear()
    restoring = asyncio.create_task(pieces.restore(RestoreState.COMPLETE))
    await _until(lambda: folder.rewrite.running == 1)
    assert await put(pieces, 500, random_sound(1000, FORMAT)) == [Range(500, 500)]
    with pytest.raises(PieceInvalid):
        await pieces.put(500, b"", ALL)
    await pieces.note_end(ENDED)
    folder.rewrite.may_go_on.set()
    outcome = await restoring
    again = folder.again()
    assert (again.held, again.ended_at, again.outcome) == ([Range(0, 1000)], ENDED, outcome)


async def test_recordings_are_restored_one_after_another(folder: Folder) -> None:
    store = folder.store()
    begun = [await store.begin(restore_key(f"{number:016x}", FORMAT)) for number in range(5)]
    await asyncio.gather(*(pieces.restore(RestoreState.COMPLETE) for pieces in begun))
    assert len(folder.rewrite.calls) == 5
    assert folder.rewrite.most_running == 1


async def test_one_restoration_serves_all_who_ask(folder: Folder) -> None:
    pieces = await folder.begin()
    first, second = await asyncio.gather(
        pieces.restore(RestoreState.COMPLETE), pieces.restore(RestoreState.COMPLETE)
    )
    assert first == second
    assert len(folder.rewrite.calls) == 1


async def test_a_cancelled_restoration_goes_on(folder: Folder) -> None:
    pieces = await folder.begin()
    await put(pieces, 0, random_sound(1000, FORMAT))
    folder.rewrite.may_go_on.clear()
    restoring = asyncio.create_task(pieces.restore(RestoreState.COMPLETE))
    await _until(lambda: folder.rewrite.running == 1)
    restoring.cancel()
    await asyncio.wait([restoring])
    discarding = asyncio.create_task(pieces.discard())
    again = asyncio.create_task(pieces.restore(RestoreState.COMPLETE))
    await _until(lambda: True)
    assert not discarding.done()
    folder.rewrite.may_go_on.set()
    assert await again == pieces.outcome
    await discarding
    assert len(folder.rewrite.calls) == 1
    assert folder.names == []


async def test_a_cancelled_piece_is_kept_or_not(folder: Folder) -> None:
    pieces = await folder.begin()
    sound = random_sound(20_000, FORMAT)
    for start in range(0, 20_000, 1000):
        flac = flac_of(sound[start : start + 1000], FORMAT)
        putting = asyncio.create_task(pieces.put(start, flac, ALL))
        for _ in range(start // 1000):
            await asyncio.sleep(0)
        putting.cancel()
        await asyncio.wait([putting])
    await put(pieces, 20_000, random_sound(10, FORMAT))
    assert folder.again().held == pieces.held
    expected = silence(FORMAT, 20_000)
    for item in pieces.held:
        assert item.start % 1000 == 0
        expected[item.start : item.end] = sound[item.start : item.end]
    assert np.array_equal(await restored(pieces, folder, 20_000), expected)


async def test_what_could_not_be_discarded_is_discarded_by_the_next_process(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    pieces = await folder.begin()
    await put(pieces, 0, random_sound(1000, FORMAT))
    disk = FaultyDisk(monkeypatch)
    disk.fail("unlink", errno.EROFS, ".pcm")
    with pytest.raises(StorageFailed):
        await pieces.discard()
    disk.repair()
    await folder.again().discard()
    assert folder.names == []


async def test_nothing_is_kept_after_it_was_discarded(folder: Folder) -> None:
    pieces = await folder.begin()
    await put(pieces, 0, random_sound(1000, FORMAT))
    await pieces.discard()
    await put(pieces, 1000, random_sound(1000, FORMAT))
    with pytest.raises(StorageFailed):
        await pieces.note_end(ENDED)
    assert folder.names == []


async def test_nothing_comes_back_of_a_recording_that_was_removed(folder: Folder) -> None:
    pieces = await folder.begin()
    await put(pieces, 0, random_sound(1000, FORMAT))
    for path in folder.path.iterdir():  # as the catalogue does it
        path.unlink()
    with pytest.raises(RecordingRemoved):
        await put(pieces, 1000, random_sound(1000, FORMAT))
    with pytest.raises(RecordingRemoved):
        await pieces.restore(RestoreState.EXPIRED)
    assert folder.names == []


async def test_what_is_wanted_is_what_the_recording_lacks_and_is_not_held(folder: Folder) -> None:
    folder.rewrite = FakeRewrite(OSError(errno.EIO, "broken"))
    pieces = await folder.begin()
    with pytest.raises(StorageFailed):
        await pieces.compare()
    await pieces.note_captured(Captured(77, "00"))
    await put(pieces, 0, random_sound(20, FORMAT))
    restoration = await pieces.compare()
    assert restoration.captured == Captured(77, "00")
    assert restoration.first(9) == [Range(20, 57)]


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        await asyncio.sleep(0.01)
        while not condition():
            await asyncio.sleep(0.01)
