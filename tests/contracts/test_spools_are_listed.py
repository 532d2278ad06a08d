"""A list of spools tells of each what is known, and leaves all of them alone."""

from __future__ import annotations

import fcntl
import os
import pathlib
from dataclasses import replace

import pytest

from adapters.storage.spool import journal
from adapters.storage.spool.folder import DiskSpoolFolder
from domain.errors import SpoolFailed
from domain.ports.spool import SpoolEntry
from tests.rigs.spooling import FORMAT, OPTIONS, SESSION, block_at, description

RATE = FORMAT.sample_rate_hz


def folder_at(path: pathlib.Path) -> DiskSpoolFolder:
    return DiskSpoolFolder(str(path), OPTIONS)


async def keep(path: pathlib.Path, spool_id: str, *, is_noted: bool = False) -> None:
    writer = await folder_at(path).create(description(spool_id))
    for position in range(0, RATE, RATE // 100):
        writer.write(block_at(position, RATE // 100, FORMAT))
    await writer.finish()
    if is_noted:
        await writer.spool.note_session(SESSION)
    await writer.spool.release()


async def test_there_are_none_without_a_folder(tmp_path: pathlib.Path) -> None:
    assert await folder_at(tmp_path / "none").entries() == []
    assert not (tmp_path / "none").exists()


async def test_each_is_told_with_its_length_size_and_session(tmp_path: pathlib.Path) -> None:
    await keep(tmp_path, "b", is_noted=True)
    await keep(tmp_path, "a")
    first, second = await folder_at(tmp_path).entries()
    sizes = [
        sum(path.stat().st_size for path in (tmp_path / spool_id).iterdir()) for spool_id in "ab"
    ]
    assert first == SpoolEntry(description("a"), None, RATE, sizes[0], is_in_use=False)
    assert second == SpoolEntry(description("b"), SESSION, RATE, sizes[1], is_in_use=False)
    assert (first.server, second.server) == (description().server, SESSION.server)


async def test_one_that_is_written_is_in_use(tmp_path: pathlib.Path) -> None:
    writer = await folder_at(tmp_path).create(description("a"))
    (entry,) = await folder_at(tmp_path).entries()
    assert entry == replace(entry, description=description("a"), session=None, is_in_use=True)
    await writer.spool.note_session(SESSION)
    (entry,) = await folder_at(tmp_path).entries()
    assert entry.session == SESSION
    await writer.finish()
    await writer.spool.release()


async def test_listing_keeps_nobody_from_using_them(tmp_path: pathlib.Path) -> None:
    await keep(tmp_path, "a")
    assert len(await folder_at(tmp_path).entries()) == 1
    (spool,) = await folder_at(tmp_path).owed()
    assert [entry.is_in_use for entry in await folder_at(tmp_path).entries()] == [True]
    await spool.release()


async def test_listing_at_the_same_moment_hides_none(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await keep(tmp_path, "a")
    listing = os.open(tmp_path / "a" / "journal", os.O_RDONLY)
    fcntl.flock(listing, fcntl.LOCK_SH)
    monkeypatch.setattr(journal.time, "sleep", lambda _: fcntl.flock(listing, fcntl.LOCK_UN))
    (spool,) = await folder_at(tmp_path).owed()
    await spool.release()
    os.close(listing)


async def test_what_is_no_spool_is_left_out(tmp_path: pathlib.Path) -> None:
    await keep(tmp_path, "a")
    (tmp_path / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "journal").write_bytes(b"\xff\n{}\n")
    (tmp_path / "strange").mkdir()
    (tmp_path / "strange" / "journal").mkdir()
    assert [entry.description.id for entry in await folder_at(tmp_path).entries()] == ["a"]


async def test_a_folder_that_cannot_be_read_is_an_error(tmp_path: pathlib.Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(SpoolFailed):
        await folder_at(tmp_path / "file").entries()
