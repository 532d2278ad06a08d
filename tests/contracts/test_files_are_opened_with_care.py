"""Only regular files of bounded size are opened, and an index is one that Gapless has written."""

from __future__ import annotations

import os
import pathlib
import sqlite3

import pytest

from adapters.opening import (
    MAX_HOLES_BYTES,
    Refused,
    create_file,
    make_folder,
    open_found,
    open_own,
    open_sound,
    read_found,
)
from adapters.storage.folder.index import CLOSED, INDEX, STALE
from adapters.storage.restoring.journal import RestoreJournal
from adapters.storage.restoring.pieces import FolderPieces
from domain.recording.ranges import Range
from tests.fakes.pieces import restore_key
from tests.rigs import hostile
from tests.rigs.recordings import Rig, close, info, open_folder, shows
from tests.rigs.spooling import FORMAT

KINDS = {
    "pipe": hostile.pipe,
    "device": hostile.device,
    "socket": hostile.unix_socket,
    "folder": hostile.folder,
    "link": hostile.link(pathlib.Path("target")),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_WRONLY, os.O_RDWR])
def test_only_regular_files_are_opened(tmp_path: pathlib.Path, kind: str, flags: int) -> None:
    (tmp_path / "target").write_bytes(b"target")
    KINDS[kind](tmp_path / "file")
    for call in (open_found, open_own, open_sound):
        with pytest.raises(Refused, match="not a file"):
            call(tmp_path / "file", flags)
    with pytest.raises(FileExistsError):
        create_file(tmp_path / "file")
    assert (tmp_path / "target").read_bytes() == b"target"


def test_a_link_is_followed_where_a_user_has_named_it(tmp_path: pathlib.Path) -> None:
    (tmp_path / "target").write_bytes(b"target")
    (tmp_path / "file").symlink_to("target")
    assert read_found(tmp_path / "file", 6, follow=True) == b"target"
    with pytest.raises(Refused, match="a device"):
        read_found(pathlib.Path("/dev/zero"), 6, follow=True)


def test_no_more_than_the_limit_is_read(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"1234567890")
    assert read_found(file, 10) == b"1234567890"
    with pytest.raises(Refused, match="more than 9 bytes"):
        read_found(file, 9)
    pread, read = os.pread, 0

    def growing(descriptor: int, size: int, offset: int) -> bytes:
        nonlocal read
        with file.open("ab") as more:
            more.write(bytes(size))
        found = pread(descriptor, size, offset)
        read += len(found)
        return found

    monkeypatch.setattr(os, "pread", growing)
    with pytest.raises(Refused, match="more than 100 bytes"):
        read_found(file, 100)
    assert read == 101


def test_sound_that_is_mostly_holes_is_refused(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "file"
    with file.open("wb") as made:
        made.truncate(MAX_HOLES_BYTES)
    os.close(open_sound(file))
    with file.open("ab") as made:
        made.truncate(MAX_HOLES_BYTES + (1 << 20))
    with pytest.raises(Refused, match="on the disk"):
        open_sound(file)


def test_a_folder_is_made_with_those_around_it(tmp_path: pathlib.Path) -> None:
    tmp_path.chmod(0o755)
    before = os.umask(0)
    try:
        make_folder(tmp_path / "a" / "b")
    finally:
        os.umask(before)
    assert [path.stat().st_mode & 0o777 for path in (tmp_path / "a" / "b", tmp_path / "a")] == [
        0o700, 0o700,
    ]  # fmt: skip
    assert tmp_path.stat().st_mode & 0o777 == 0o755
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError):
        make_folder(tmp_path / "file")


# -- the index -------------------------------------------------------------------------------------


async def with_one(folder: pathlib.Path) -> None:
    rig = open_folder(folder)
    await rig.record(1)
    assert rig.ids() == [info(1).id]
    close(rig)


STATEMENTS = {
    "a name outside": "UPDATE recordings SET name = '../outside/a'",
    "an id outside": "UPDATE recordings SET id = '../outside/a'",
    "an id that is a number": "UPDATE recordings SET id = x'00'",
    "a name of bytes": "UPDATE recordings SET name = x'ff'",
    "another container": "UPDATE parts SET container = '../x'",
    "a number of text": "UPDATE parts SET number = 'many'",
    "a length of text": "UPDATE parts SET length = 'long'",
    "an endless length": "UPDATE parts SET length = 9000000000000000000",
    "an end nowhere": "UPDATE parts SET ended_at = 'never'",
    "a time of text": "UPDATE recordings SET started_ms = 'never'",
    "a fact of text": "UPDATE facts SET value = 'many'",
    "a trigger": "CREATE TRIGGER t AFTER INSERT ON recordings BEGIN DELETE FROM parts; END",
    "a view": "DROP TABLE parts; CREATE VIEW parts AS SELECT 1 AS recording",
    "no tables": "DROP TABLE facts",
}


@pytest.mark.parametrize("what", STATEMENTS)
async def test_an_index_that_gapless_has_not_written_is_replaced(
    tmp_path: pathlib.Path, what: str
) -> None:
    folder = tmp_path / "folder"
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "a.restore").touch()
    await with_one(folder)
    with sqlite3.connect(folder / INDEX) as connection:
        connection.executescript(STATEMENTS[what])
    connection.close()
    rig = open_folder(folder)
    await shows(rig, [info(1).id])
    rig.catalogue.remove(info(1).id)
    assert rig.ids() == []
    close(rig)
    assert (tmp_path / "outside" / "a.restore").exists()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", [INDEX, f"{INDEX}-wal", f"{INDEX}-shm", CLOSED, STALE])
async def test_no_file_of_the_index_leads_elsewhere(
    tmp_path: pathlib.Path, kind: str, name: str
) -> None:
    await with_one(tmp_path)
    (tmp_path / "target").write_bytes(b"target")
    KINDS[kind](tmp_path / name)
    rig = open_folder(tmp_path)
    await shows(rig, [info(1).id])
    await rig.record(2)
    await shows(rig, [info(2).id, info(1).id])
    close(rig)
    assert (tmp_path / "target").read_bytes() == b"target"


async def test_a_recording_may_claim_any_time_and_length(tmp_path: pathlib.Path) -> None:
    await with_one(tmp_path)
    for number, at in enumerate((-(10**9), 10**11)):
        path = tmp_path / f"odd{number}.wav"
        path.write_bytes((tmp_path / f"{info(1).name}.wav").read_bytes())
        os.utime(path, (at, at))
    rig: Rig = open_folder(tmp_path)
    await shows(rig, ["odd1", info(1).id, "odd0"])
    close(rig)


# -- pieces ----------------------------------------------------------------------------------------


def test_pieces_that_are_not_on_the_disk_are_not_believed(tmp_path: pathlib.Path) -> None:
    for name in ("a0", "b0"):
        journal = RestoreJournal.create(tmp_path / f"{name}.restore", restore_key(name, FORMAT))
        journal.note_held([Range(0, 100)], boot="b")
    (tmp_path / "a0.restore.pcm").write_bytes(bytes(600))
    journal.note_held([Range(0, 1 << 40)], boot="b")
    with (tmp_path / "b0.restore.pcm").open("wb") as file:
        file.truncate((1 << 40) * 6)
    hostile.pipe(tmp_path / "c0.restore")
    rewrite = None
    store = FolderPieces(str(tmp_path), lambda _: True, rewrite, boot="b")  # type: ignore[arg-type]
    found = store.pending()
    assert [pieces.key.session_id for pieces in found] == ["a0"]
    assert list(found[0].held) == [Range(0, 100)]
