"""The index of a folder is lost, damaged or read-only, and files are added and removed by hand."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import pathlib
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing

import numpy as np
import pytest
import soundfile

from adapters.codec.decoders import make_decoder
from adapters.storage.folder.catalogue import FolderCatalogue
from adapters.storage.folder.index import CLOSED, INDEX
from adapters.storage.folder.index_tables import RowQuery
from adapters.storage.folder.part import PartOptions
from adapters.storage.folder.renderer import render_recording
from domain.errors import InputUnreadable, RecordingUnknown
from domain.ports.catalogue import CatalogueQuery
from domain.recording.effects import EndReason
from domain.recording.ledger import Container, SampleKind
from domain.sound.formats import AudioFormat
from tests.rigs.recordings import (
    COMPLETE,
    LONG_AGO,
    START,
    Rig,
    close,
    info,
    open_folder,
    shows,
)


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / "recordings"


@pytest.fixture
def opened_folder(folder: pathlib.Path) -> Iterator[Rig]:
    rig = open_folder(folder)
    yield rig
    close(rig)


async def test_the_index_is_hidden_and_private(opened_folder: Rig, folder: pathlib.Path) -> None:
    await opened_folder.record(1)
    hidden = [path for path in folder.iterdir() if path.name.startswith(".")]
    assert {path.name for path in hidden} >= {INDEX}
    assert all(path.stat().st_mode & 0o077 == 0 for path in hidden)
    close(opened_folder)
    name = info(1).name
    assert {path.name for path in folder.iterdir()} == {
        INDEX,
        CLOSED,
        f"{name}.wav",
        f"{name}.json",
    }


async def test_the_index_is_rebuilt_from_the_files(folder: pathlib.Path) -> None:
    rig = open_folder(folder, PartOptions(rotate_s=0.1))
    for number in range(5):
        await rig.record(number)
    before = rig.catalogue.page(CatalogueQuery()).entries
    assert len(before[0].parts) == 2
    close(rig)
    (folder / INDEX).unlink()
    rig = open_folder(folder)
    assert rig.catalogue.page(CatalogueQuery()).entries == before
    assert rig.catalogue.entry(info(3).id) in before
    close(rig)


def damage_header(path: pathlib.Path) -> None:
    path.write_bytes(b"no database at all" * 1000)


def damage_pages(path: pathlib.Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:100] + os.urandom(len(content) - 100))


def cut_off(path: pathlib.Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def of_another_version(path: pathlib.Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 999")


@pytest.mark.parametrize("damage", [damage_header, damage_pages, cut_off, of_another_version])
async def test_a_damaged_index_is_rebuilt(
    folder: pathlib.Path, damage: Callable[[pathlib.Path], None]
) -> None:
    rig = open_folder(folder)
    for number in range(3):
        await rig.record(number)
    close(rig)
    damage(folder / INDEX)
    for _ in range(2):
        rig = open_folder(folder)
        assert rig.store.recover(resumable_since=LONG_AGO).failed == []
        assert rig.ids() == [info(n).id for n in (2, 1, 0)]
        close(rig)


@pytest.mark.parametrize("version", [1, 2, None])
async def test_an_index_made_again_finds_recordings_by_their_room(
    folder: pathlib.Path, version: int | None
) -> None:
    rig = open_folder(folder)
    for number in range(1, 4):
        await rig.record(number, room="friday" if number % 2 else "")
    close(rig)
    if version is not None:  # tables had no titles, and at first no rooms
        with closing(sqlite3.connect(folder / INDEX)) as connection:
            connection.execute("DROP INDEX by_time")
            connection.execute("ALTER TABLE recordings DROP COLUMN title")
            if version == 1:
                connection.execute("DROP INDEX by_room")
                connection.execute("ALTER TABLE recordings DROP COLUMN room")
            connection.execute(f"PRAGMA user_version = {version}")
    else:
        (folder / INDEX).unlink()
    again = open_folder(folder)
    assert again.ids(room="Friday") == [info(3).id, info(1).id]
    assert again.ids(room="monday") == []
    close(again)


async def test_rooms_are_read_before_anybody_asks(folder: pathlib.Path) -> None:
    rig = open_folder(folder)
    for number in range(1, 4):
        await rig.record(number, room="friday")
    close(rig)
    (folder / INDEX).unlink()
    again = open_folder(folder)
    assert isinstance(again.catalogue, FolderCatalogue)
    again.catalogue.fill()
    async with asyncio.timeout(20):
        while not again.catalogue._index.is_complete or again.catalogue._index.undescribed(
            after="", limit=1
        ):
            await asyncio.sleep(0.01)
    for path in folder.glob("*.json"):
        path.write_bytes(path.read_bytes())  # the same, at another time: nobody needs to read it
    found = again.catalogue._index.page(RowQuery(limit=9, room="friday"))
    assert [row.id for row in found] == [info(3).id, info(2).id, info(1).id]
    close(again)


async def test_an_index_damaged_while_in_use_loses_nothing(
    opened_folder: Rig, folder: pathlib.Path
) -> None:
    rig = opened_folder
    live = rig.create(5)
    live.append(rig.sound(), SampleKind.RECEIVED)
    await rig.until(lambda entry: entry.length == 9600, 5)
    damage_header(folder / INDEX)
    for suffix in ("-wal", "-shm"):
        (folder / f"{INDEX}{suffix}").write_bytes(b"nothing")
    await rig.record(1)
    assert rig.ids() == [info(5).id, info(1).id]
    live.append(rig.sound(), SampleKind.RECEIVED)
    assert (await live.finish(EndReason.CLOSED, START)).length == 19_200
    assert rig.catalogue.entry(info(5).id).state is COMPLETE


async def test_an_index_that_was_deleted_is_made_again(
    opened_folder: Rig, folder: pathlib.Path
) -> None:
    await opened_folder.record(1)
    for path in folder.glob(f"{INDEX}*"):
        path.unlink()
    await opened_folder.record(2)
    assert opened_folder.ids() == [info(2).id, info(1).id]
    assert (folder / INDEX).exists()


async def test_without_an_index_recordings_continue_with_one_warning(
    folder: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / INDEX).mkdir(parents=True)
    with caplog.at_level(logging.WARNING):
        rig = open_folder(folder)
        rig.store.recover(resumable_since=LONG_AGO)
        for number in range(3):
            await rig.record(number)
        live = rig.create(5)
        live.append(rig.sound(), SampleKind.RECEIVED)
        await rig.until(lambda entry: entry.length == 9600, 5)
        assert rig.ids() == [info(n).id for n in (5, 2, 1, 0)]
        rig.catalogue.remove(info(1).id)
        assert rig.ids() == [info(n).id for n in (5, 2, 0)]
    assert len([r for r in caplog.records if r.levelno >= logging.WARNING]) == 1
    close(rig)


async def test_an_index_that_cannot_be_written_for_a_while_loses_no_recording(
    folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rig = open_folder(folder)
    rig.store.recover(resumable_since=LONG_AGO)
    await rig.record(1)
    close(rig)
    monkeypatch.setattr("adapters.storage.folder.index._BUSY_S", 0.05)
    rig = open_folder(folder)
    with closing(sqlite3.connect(folder / INDEX)) as connection:
        connection.execute("BEGIN EXCLUSIVE")  # another process holds it
        await rig.record(2)
    assert rig.ids() == [info(2).id, info(1).id]
    close(rig)
    assert any("misses a change" in record.message for record in caplog.records)
    # the next server knows that the index on the disk is incomplete
    rig = open_folder(folder)
    rig.store.recover(resumable_since=LONG_AGO)
    assert rig.ids() == [info(2).id, info(1).id]
    close(rig)


async def test_files_added_by_hand_are_listed(
    opened_folder: Rig, folder: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    await opened_folder.record(1)
    other = open_folder(tmp_path / "other")
    await other.record(2)
    close(other)
    for path in (tmp_path / "other").glob("2*"):
        path.rename(folder / path.name)
    soundfile.write(folder / "talk.wav", np.zeros(800), 8000)
    os.utime(folder / "talk.wav", (0, 0))
    (folder / "noise.wav").write_bytes(b"no recording")
    await shows(opened_folder, [info(2).id, info(1).id, "talk"])
    talk = opened_folder.catalogue.entry("talk")
    assert (talk.info.format, talk.length, talk.end_reason) == (AudioFormat(8000, 1), 800, None)
    with closing(opened_folder.catalogue.open("talk")) as opened:
        assert opened.read_samples(0, 1000).shape == (800, 1)
    with pytest.raises(RecordingUnknown):
        opened_folder.catalogue.ledger("talk")
    opened_folder.catalogue.remove("talk")
    assert not (folder / "talk.wav").exists()


async def test_packets_without_a_ledger_are_listed_and_served_but_not_decoded(
    opened_folder: Rig, folder: pathlib.Path
) -> None:
    opened_folder.container = Container.OGG
    await opened_folder.record(1)
    (folder / f"{info(1).name}.json").unlink()
    entry = opened_folder.catalogue.entry(info(1).id)
    assert (entry.length, entry.seconds) == (9600, 0.2)
    with closing(opened_folder.catalogue.open(info(1).id)) as opened:
        assert opened.read_bytes(0, 4) == b"OggS"
        with pytest.raises(InputUnreadable):
            opened.read_samples(0, 100)


async def test_files_removed_by_hand_are_no_longer_listed(
    opened_folder: Rig, folder: pathlib.Path
) -> None:
    for number in range(6):
        await opened_folder.record(number)
    for number in (1, 3, 5):
        (folder / f"{info(number).name}.wav").unlink()
    page = opened_folder.catalogue.page(CatalogueQuery(limit=2))
    assert [entry.info.id for entry in page.entries] == [info(4).id, info(2).id]
    assert opened_folder.ids(limit=2, before=page.next) == [info(0).id]
    with pytest.raises(RecordingUnknown):
        opened_folder.catalogue.entry(info(3).id)


async def test_a_changed_ledger_is_read_again(opened_folder: Rig, folder: pathlib.Path) -> None:
    await opened_folder.record(1)
    path = folder / f"{info(1).name}.json"
    ledger = json.loads(path.read_text())
    ledger["end_reason"] = "shutdown"
    path.write_text(json.dumps(ledger))
    assert opened_folder.catalogue.entry(info(1).id).end_reason == "shutdown"


async def test_a_rendering_is_a_recording_of_its_own(
    opened_folder: Rig, folder: pathlib.Path
) -> None:
    opened_folder.container = Container.OGG
    await opened_folder.record(1)
    render_recording(folder / f"{info(1).name}.opus", None, make_decoder)
    name = f"{info(1).name}-rendered"
    async with asyncio.timeout(20):
        while name not in opened_folder.ids():
            await asyncio.sleep(0.01)
    assert opened_folder.catalogue.entry(name).info.container is Container.WAV
    assert opened_folder.catalogue.entry(info(1).id).info.container is Container.OGG
