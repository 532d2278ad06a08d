"""The contract of catalogues."""

from __future__ import annotations

import io
import pathlib
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
import soundfile

from adapters.codec.decoders import make_decoder
from adapters.storage.cursors import write_cursor
from adapters.storage.folder.part import PartOptions
from adapters.storage.folder.renderer import render_recording
from adapters.storage.memory import MemoryStore
from adapters.storage.memory_catalogue import MemoryCatalogue
from domain.errors import QueryInvalid, RecordingLive, RecordingUnknown
from domain.ports.catalogue import CatalogueQuery
from domain.recording.effects import EndReason
from domain.recording.ledger import Container, LedgerEvent, SampleKind
from domain.sound.formats import Samples
from tests.rigs.recordings import (
    COMPLETE,
    LIVE,
    SECOND,
    START,
    Rig,
    info,
    open_folder,
    ramp,
)


@pytest.fixture(params=["wav", "opus", "memory"])
def rig(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> Iterator[Rig]:
    if request.param == "memory":
        memory = MemoryStore()
        rig = Rig(memory, MemoryCatalogue(memory))
    else:
        rig = open_folder(tmp_path / "recordings")
        rig.container = Container(request.param)
    yield rig
    rig.store.close()
    rig.catalogue.close()


# -- pages ------------------------------------------------------------------------------------


async def test_pages_show_every_recording_once_newest_first(rig: Rig) -> None:
    for number in (3, 1, 7, 5, 2):
        await rig.record(number)
    newest_first = [info(number).id for number in (7, 5, 3, 2, 1)]
    for limit in (1, 2, 3, 5, 50):
        assert rig.ids(limit=limit) == newest_first
    page = rig.catalogue.page(CatalogueQuery(limit=5))
    assert page.next is None
    assert len(rig.catalogue.page(CatalogueQuery(limit=2)).entries) == 2


def test_without_recordings_the_page_is_empty(rig: Rig) -> None:
    page = rig.catalogue.page(CatalogueQuery())
    assert (page.entries, page.next) == ((), None)


async def test_a_page_describes_recordings(rig: Rig) -> None:
    await rig.record(1)
    (entry,) = rig.catalogue.page(CatalogueQuery()).entries
    assert entry.info == replace(info(1), container=rig.container)
    assert (entry.state, entry.length, entry.seconds) == (COMPLETE, 9600, 0.2)
    assert (entry.end_reason, entry.ended_at) == ("closed", START + 2 * SECOND)
    assert [(part.number, part.start, part.length) for part in entry.parts] == [(1, 0, 9600)]
    assert entry.size > 0
    assert rig.catalogue.entry(info(1).id) == entry


async def test_cursors_stay_valid_while_recordings_are_added_and_removed(rig: Rig) -> None:
    for number in range(6):
        await rig.record(number)
    first = rig.catalogue.page(CatalogueQuery(limit=2))
    assert [entry.info.id for entry in first.entries] == [info(5).id, info(4).id]
    await rig.record(9)
    rig.catalogue.remove(info(4).id)
    rig.catalogue.remove(info(2).id)
    assert rig.ids(limit=2, before=first.next) == [info(n).id for n in (3, 1, 0)]


async def test_filters_choose_by_name_state_and_time(rig: Rig) -> None:
    await rig.record(1, client="Küche 2")
    await rig.record(2, client="Bad")
    live = rig.create(3, client="Küche 3")
    live.append(rig.sound(), SampleKind.RECEIVED)
    await rig.until(lambda entry: True, 3)
    assert rig.ids(name="Küche") == [info(3).id, info(1).id]
    assert rig.ids(name="kuche-2") == [info(1).id]
    assert rig.ids(name="BAD") == [info(2).id]
    assert rig.ids(name=info(2).id) == [info(2).id]
    assert rig.ids(name="salon") == []
    assert rig.ids(name="_") == rig.ids(name="%") == rig.ids(name="!") == []
    assert rig.ids(states={LIVE}) == [info(3).id]
    assert rig.ids(states={COMPLETE}) == [info(2).id, info(1).id]
    assert rig.ids(states=set()) == []
    assert rig.ids(since=START + 2 * SECOND) == [info(3).id, info(2).id]
    assert rig.ids(until=START + 2 * SECOND) == [info(1).id]
    assert rig.ids(since=START + 2 * SECOND, until=START + 3 * SECOND, limit=1) == [info(2).id]
    await live.finish(EndReason.CLOSED, START)
    assert rig.ids(states={LIVE}) == []


async def test_a_room_chooses_the_recordings_that_belong_together(rig: Rig) -> None:
    await rig.record(1, room="Friday")
    await rig.record(2)
    await rig.record(3, room="friday é")
    live = rig.create(4, room="FRIDAY")
    live.append(rig.sound(), SampleKind.RECEIVED)
    await rig.until(lambda entry: True, 4)
    assert rig.ids(room="friday") == [info(4).id, info(1).id]
    assert rig.ids(room="friday", limit=1) == [info(4).id, info(1).id]
    assert rig.ids(room="friday", states={COMPLETE}, name="kitchen") == [info(1).id]
    assert rig.ids(room="Friday e\u0301") == [info(3).id]
    assert rig.ids(room="fri") == rig.ids(room="%") == []
    assert len(rig.ids()) == 4
    found = [rig.catalogue.entry(info(number).id).info.room for number in (1, 2, 4)]
    assert found == ["Friday", "", "FRIDAY"]
    assert rig.catalogue.ledger(info(1).id)["room"] == "Friday"
    assert rig.catalogue.ledger(info(2).id)["room"] is None
    await live.finish(EndReason.CLOSED, START)
    assert rig.ids(room="friday") == [info(4).id, info(1).id]


@pytest.mark.parametrize(
    "cursor", ["", "x", "é", "bm8=", "MQ==", write_cursor(10**30, "x"), write_cursor(-(10**30), "")]
)
def test_an_invalid_cursor_is_refused(rig: Rig, cursor: str) -> None:
    with pytest.raises(QueryInvalid):
        rig.catalogue.page(CatalogueQuery(before=cursor))


def test_a_page_without_entries_is_refused(rig: Rig) -> None:
    with pytest.raises(QueryInvalid):
        rig.catalogue.page(CatalogueQuery(limit=0))


async def test_the_tracks_of_a_session_are_recordings_of_their_own(rig: Rig) -> None:
    for track in (1, 2):
        await rig.record(4, track=track)
    entries = {entry.info.id: entry for entry in rig.catalogue.page(CatalogueQuery()).entries}
    assert {(e.info.session_id, e.info.track) for e in entries.values()} == {
        (info(4).session_id, 1),
        (info(4).session_id, 2),
    }
    assert set(entries) == {info(4).id, f"{info(4).id}_2"}


# -- one recording ------------------------------------------------------------------------------


def test_a_missing_recording_is_unknown(rig: Rig) -> None:
    for call in (
        rig.catalogue.entry, rig.catalogue.ledger, rig.catalogue.open, rig.catalogue.remove,
    ):  # fmt: skip
        with pytest.raises(RecordingUnknown):
            call("8f3a9c0d12345678")


async def test_the_ledger_belongs_to_the_recording(rig: Rig) -> None:
    await rig.record(1)
    ledger = rig.catalogue.ledger(info(1).id)
    assert ledger["spans"] == [{"start": 0, "length": 9600, "kind": "received"}]
    assert (ledger["id"], ledger["end_reason"]) == (info(1).id, "closed")
    assert len(ledger["sha256"]) == 64


async def test_bytes_and_samples_are_read_from_anywhere(rig: Rig) -> None:
    await rig.record(1)
    with closing(rig.catalogue.open(info(1).id)) as opened:
        assert opened.entry.length == 9600
        content = opened.read_bytes(0, opened.size + 10)
        assert len(content) == opened.size
        assert opened.read_bytes(10, 20) == content[10:30]
        assert opened.read_bytes(opened.size - 3, 10) == content[-3:]
        assert opened.read_bytes(opened.size, 10) == b""
        samples = opened.read_samples(0, 20_000)
        assert samples.shape == (9600, 1)
        np.testing.assert_array_equal(opened.read_samples(100, 50), samples[100:150])
        assert len(opened.read_samples(9600, 10)) == 0
    assert soundfile.info(io.BytesIO(content)).frames == 9600
    if rig.container is Container.WAV:
        np.testing.assert_array_equal(samples, ramp(9600))


async def test_blocks_are_all_samples_in_order(rig: Rig) -> None:
    writer = rig.create(1)
    writer.append(rig.sound(), SampleKind.RECEIVED)
    writer.append_silence(14_400, SampleKind.SILENCE)
    writer.append(rig.sound(), SampleKind.RECEIVED)
    await writer.finish(EndReason.CLOSED, START)
    with closing(rig.catalogue.open(info(1).id)) as opened:
        for length in (500, 4096, 100_000):
            blocks = list(opened.blocks(length))
            assert max(map(len, blocks)) <= length
            np.testing.assert_array_equal(np.concatenate(blocks), opened.read_samples(0, 99_999))


async def test_the_version_changes_when_a_recording_does(rig: Rig) -> None:
    def version() -> str:
        with closing(rig.catalogue.open(info(1).id)) as opened:
            return opened.version

    writer = rig.create(1)
    writer.append(rig.sound(), SampleKind.RECEIVED)
    await rig.until(lambda entry: entry.length == 9600, 1)
    begun = version()
    writer.append(rig.sound(), SampleKind.RECEIVED)
    await rig.until(lambda entry: entry.length == 19_200, 1)
    grown = version()
    await writer.finish(EndReason.CLOSED, START)
    complete = version()
    assert len({begun, grown, complete}) == 3
    assert version() == complete
    assert complete.isascii() and complete.replace("-", "").isalnum()


async def test_a_live_recording_can_be_read_up_to_what_is_written(rig: Rig) -> None:
    writer = rig.create(1)
    writer.append(rig.sound(), SampleKind.RECEIVED)
    writer.append_silence(960, SampleKind.SILENCE)
    entry = await rig.until(lambda entry: entry.length == 10_560, 1)
    assert (entry.state, entry.end_reason, entry.ended_at) == (LIVE, None, None)
    ledger = rig.catalogue.ledger(info(1).id)
    assert [(span["start"], span["kind"]) for span in ledger["spans"]] == [
        (0, "received"),
        (9600, "silence"),
    ]
    assert (ledger["end_reason"], ledger["ended_at"], ledger["sha256"]) == (None, None, None)
    with closing(rig.catalogue.open(info(1).id)) as opened:
        writer.append(rig.sound(), SampleKind.RECEIVED)
        await rig.until(lambda entry: entry.length == 20_160, 1)
        content = opened.read_bytes(0, opened.size)
        assert opened.read_samples(0, 99_999).shape == (10_560, 1)
        assert sum(map(len, opened.blocks(1000))) == 10_560
        await writer.finish(EndReason.CLOSED, START)
        assert soundfile.info(io.BytesIO(content)).frames == 10_560
        assert opened.read_samples(9600, 99_999).shape == (960, 1)
    assert rig.catalogue.entry(info(1).id).length == 20_160


async def test_a_complete_recording_can_be_removed_and_a_live_one_cannot(rig: Rig) -> None:
    await rig.record(1)
    await rig.record(2)
    live = rig.create(3)
    live.append(rig.sound(), SampleKind.RECEIVED)
    await rig.until(lambda entry: True, 3)
    with pytest.raises(RecordingLive):
        rig.catalogue.remove(info(3).id)
    with closing(rig.catalogue.open(info(1).id)) as opened:
        rig.catalogue.remove(info(1).id)
        assert len(opened.read_samples(0, 10_000)) == 9600
    with pytest.raises(RecordingUnknown):
        rig.catalogue.remove(info(1).id)
    assert rig.ids() == [info(3).id, info(2).id]
    assert (await live.finish(EndReason.CLOSED, START)).length == 9600


# -- parts --------------------------------------------------------------------------------------


@pytest.fixture(params=["wav", "opus"])
async def parts(
    request: pytest.FixtureRequest, tmp_path: pathlib.Path
) -> AsyncIterator[tuple[Rig, Samples]]:
    """A recording of 2.5 s in three parts, with a gap, and its samples in one array."""
    rigs = [
        open_folder(tmp_path / "parts", PartOptions(rotate_s=0.96)),
        open_folder(tmp_path / "whole"),
    ]
    for rig in rigs:
        rig.container = Container(request.param)
        writer = rig.create(1)
        writer.append(rig.sound(60_480), SampleKind.RECEIVED)
        writer.note(LedgerEvent("anchor", 60_480, {"rtp_timestamp": 7, "ssrc": 1}))
        writer.append_silence(9600, SampleKind.SILENCE)
        writer.append(rig.sound(49_920), SampleKind.RECEIVED)
        await writer.finish(EndReason.CLOSED, START)
    with closing(rigs[1].catalogue.open(info(1).id)) as opened:
        whole = opened.read_samples(0, 120_000)
    yield rigs[0], whole
    for rig in rigs:
        rig.store.close()
        rig.catalogue.close()


async def test_parts_are_read_as_one(parts: tuple[Rig, Samples]) -> None:
    rig, whole = parts
    assert len(whole) == 120_000
    entry = rig.catalogue.entry(info(1).id)
    assert [(part.start, part.length) for part in entry.parts] == [
        (0, 46_080), (46_080, 46_080), (92_160, 27_840),
    ]  # fmt: skip
    assert rig.ids() == [info(1).id]
    with closing(rig.catalogue.open(info(1).id)) as opened:
        content = opened.read_bytes(0, opened.size)
        pieces = [opened.read_bytes(at, 10_001) for at in range(0, opened.size, 10_001)]
        assert b"".join(pieces) == content
        samples = opened.read_samples(0, 200_000)
        across = opened.read_samples(46_000, 50_000)
        np.testing.assert_array_equal(np.concatenate(list(opened.blocks(7000))), samples)
    assert soundfile.info(io.BytesIO(content)).frames in (
        120_000,
        46_080,
    )  # some players read only the first stream of a chain
    np.testing.assert_array_equal(across[5000:40_000], samples[51_000:86_000])
    if rig.container is Container.WAV:
        np.testing.assert_array_equal(samples, whole)
        np.testing.assert_array_equal(
            soundfile.read(io.BytesIO(content), dtype="int16", always_2d=True)[0], whole
        )
    else:  # a new decoder needs a moment to converge
        assert samples.shape == whole.shape
        settled = np.r_[0:46_080, 53_760:92_160, 99_840:120_000]
        difference = samples[settled].astype(float) - whole[settled]
        assert np.abs(difference).max() < 0.02 * np.abs(whole).max()


async def test_the_ledgers_of_parts_are_joined(parts: tuple[Rig, Samples]) -> None:
    rig, _ = parts
    ledger = rig.catalogue.ledger(info(1).id)
    assert [(s["start"], s["length"], s["kind"]) for s in ledger["spans"]] == [
        (0, 60_480, "received"), (60_480, 9600, "silence"), (70_080, 49_920, "received"),
    ]  # fmt: skip
    events = {event["type"]: event["position"] for event in ledger["events"]}
    assert events["anchor"] == 60_480
    assert (ledger["length_samples"], ledger["end_reason"]) == (120_000, "closed")
    assert ledger["sha256"] is None


async def test_a_missing_part_is_silent(parts: tuple[Rig, Samples]) -> None:
    rig, whole = parts
    pathlib.Path(rig.catalogue.entry(info(1).id).parts[1].location).unlink()
    with closing(rig.catalogue.open(info(1).id)) as opened:
        samples = opened.read_samples(0, 200_000)
        np.testing.assert_array_equal(np.concatenate(list(opened.blocks(7000))), samples)
    assert len(samples) == 120_000
    assert not samples[46_080:92_160].any()
    if rig.container is Container.WAV:
        np.testing.assert_array_equal(samples[:46_080], whole[:46_080])
        np.testing.assert_array_equal(samples[92_160:], whole[92_160:])
    spans = rig.catalogue.ledger(info(1).id)["spans"]
    assert {"start": 46_080, "length": 46_080, "kind": "silence"} in spans


async def test_all_parts_are_removed(parts: tuple[Rig, Samples]) -> None:
    rig, _ = parts
    folder = pathlib.Path(rig.catalogue.entry(info(1).id).parts[0].location).parent
    rig.catalogue.remove(info(1).id)
    assert [path.name for path in folder.iterdir() if not path.name.startswith(".")] == []


@pytest.mark.parametrize("start", [0, 1, 959, 19_200, 30_001, 100_000])
async def test_a_range_of_packets_decodes_as_in_the_whole_recording(
    tmp_path: pathlib.Path, start: int
) -> None:
    rig = open_folder(tmp_path)
    rig.container = Container.OGG
    writer = rig.create(1)
    writer.append(rig.sound(144_000), SampleKind.RECEIVED)
    location = (await writer.finish(EndReason.CLOSED, START)).location
    rendered = render_recording(pathlib.Path(location), None, make_decoder)
    expected = soundfile.read(rendered.location, dtype="int16", always_2d=True)[0]
    with closing(rig.catalogue.open(info(1).id)) as opened:
        samples = opened.read_samples(start, 10_000)
    difference = samples.astype(float) - expected[start : start + 10_000]
    assert np.abs(difference).max() <= (0 if start <= 19_200 else 100)
    rig.store.close()
    rig.catalogue.close()
