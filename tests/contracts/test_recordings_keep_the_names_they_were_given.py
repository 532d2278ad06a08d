"""Recordings keep the names that clients gave, whatever alphabet they are in."""

from __future__ import annotations

import asyncio
import json
import pathlib

import pytest

from adapters.http.api.recordings import RecordingHandlers
from adapters.storage.folder.index import INDEX
from adapters.storage.memory import MemoryStore
from adapters.storage.memory_catalogue import MemoryCatalogue
from domain.recording.effects import EndReason
from domain.recording.ledger import Container, SampleKind
from domain.session.titles import MAX_TITLE_CHARACTERS
from tests.fakes.events import SeenByServer
from tests.rigs.api import api_of
from tests.rigs.recordings import LONG_AGO, START, Rig, close, info, open_folder

RIGHT_TO_LEFT = "مريم الحسيني"
NAMES = ("José", RIGHT_TO_LEFT, "👩\u200d🎤🎙️", "é🎙" * (MAX_TITLE_CHARACTERS // 2))


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / "recordings"


async def is_found(rig: Rig, name: str) -> None:
    """Wait until recording 1 is found: a thread reads the ledgers for a new index."""
    async with asyncio.timeout(20):
        while rig.ids(name=name) != [info(1).id]:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("kind", ["wav", "opus", "memory"])
async def test_a_name_is_kept_as_it_was_given_and_found(folder: pathlib.Path, kind: str) -> None:
    if kind == "memory":
        memory = MemoryStore()
        rig = Rig(memory, MemoryCatalogue(memory))
    else:
        rig = open_folder(folder)
        rig.container = Container(kind)
    for number, name in enumerate(NAMES):
        await rig.record(number, client=name)
    live = rig.create(9, client="100 % דוד")
    live.append(rig.sound(), SampleKind.RECEIVED)
    await rig.until(lambda entry: True, 9)
    for number, name in enumerate(NAMES):
        assert rig.catalogue.entry(info(number).id).info.title == name
        assert rig.catalogue.ledger(info(number).id)["title"] == name
    for text, numbers in {
        "الحسيني": [1], "JOSÉ": [0], "jose": [0], "e\u0301🎙": [3], "🎤": [2], "דוד": [9],
        "% ד": [9], "%": [9], "דוד 1": [], "m_r": [], "\u0301": [], "nobody": [],
    }.items():  # fmt: skip
        assert rig.ids(name=text) == [info(number).id for number in numbers], text
    assert rig.ids(name="é", limit=1) == [info(3).id, info(0).id]
    await live.finish(EndReason.CLOSED, START)
    assert rig.ids(name="דוד") == [info(9).id]
    close(rig)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("has_index", [True, False])
async def test_a_killed_process_leaves_the_name_behind(
    folder: pathlib.Path, name: str, has_index: bool
) -> None:
    rig = open_folder(folder)
    rig.store.recover(resumable_since=LONG_AGO)
    rig.create(1, client=name).append(rig.sound(), SampleKind.RECEIVED)
    close(rig)
    if not has_index:
        (folder / INDEX).unlink()
    rig = open_folder(folder)
    (recovered,) = rig.store.recover(resumable_since=LONG_AGO).recovered
    assert recovered.info.title == name
    await is_found(rig, name)
    assert rig.catalogue.ledger(info(1).id)["title"] == name
    close(rig)


async def test_names_are_found_when_the_index_has_been_made_again(folder: pathlib.Path) -> None:
    rig = open_folder(folder)
    await rig.record(1, client=RIGHT_TO_LEFT)
    close(rig)
    (folder / INDEX).unlink()
    rig = open_folder(folder)
    assert rig.ids() == [info(1).id]
    await is_found(rig, "مريم")
    close(rig)


@pytest.mark.parametrize(
    ("said", "title"),
    [("nothing", ""), (None, ""), ("", ""), ("a\x1b[2J\nb", "a [2J b"), ("x" * 300, "x" * 200)],
)
async def test_a_ledger_may_have_another_name_or_none(
    folder: pathlib.Path, said: str | None, title: str
) -> None:
    rig = open_folder(folder)
    await rig.record(1, client="José")
    close(rig)
    (path,) = folder.glob("*.json")
    ledger = json.loads(path.read_text())
    if said == "nothing":  # as in a ledger of an earlier version
        del ledger["title"]
    else:
        ledger["title"] = said
    path.write_text(json.dumps(ledger))
    (folder / INDEX).unlink()
    rig = open_folder(folder)
    async with api_of([RecordingHandlers(rig.catalogue, SeenByServer())]) as api:
        (found,) = (await api.get("/api/recordings?name=jose")).json["recordings"]
    assert (found["title"], found["client_name"]) == (title, "jose")
    close(rig)
