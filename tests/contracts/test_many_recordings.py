"""A folder of many recordings slows down neither a start nor a page."""

from __future__ import annotations

import asyncio
import os
import pathlib
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import soundfile

from adapters.storage.folder.index import INDEX
from domain.ports.catalogue import CatalogueQuery
from tests.rigs.recordings import (
    LIVE,
    LONG_AGO,
    SECOND,
    START,
    Rig,
    close,
    counting_listings,
    info,
    open_folder,
)


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / "recordings"


@pytest.fixture
def opened_folder(folder: pathlib.Path) -> Iterator[Rig]:
    rig = open_folder(folder)
    yield rig
    close(rig)


def make_many(folder: pathlib.Path, count: int) -> None:
    """Make tiny recordings, each as two hard links to the same two files; return their names."""
    folder.mkdir()
    for number in range(count):
        target = folder / info(number).name
        if number == 0:
            soundfile.write(f"{target}.wav", np.zeros(480, dtype="<i2"), 48_000)
            first = asyncio.run(a_ledger(folder.with_name("ledger")))
            pathlib.Path(f"{target}.json").write_bytes(first)
            wav, ledger = f"{target}.wav", f"{target}.json"
            continue
        if number % 30_000 == 0:  # some file systems limit the number of links to a file
            for ending in ("wav", "json"):
                pathlib.Path(f"{target}.{ending}").write_bytes(
                    pathlib.Path(wav if ending == "wav" else ledger).read_bytes()
                )
            wav, ledger = f"{target}.wav", f"{target}.json"
            continue
        os.link(wav, f"{target}.wav")
        os.link(ledger, f"{target}.json")


async def a_ledger(folder: pathlib.Path) -> bytes:
    rig = open_folder(folder)
    await rig.record(0)
    close(rig)
    return (folder / f"{info(0).name}.json").read_bytes()


def milliseconds_of(
    call: Callable[[], object], clock: Callable[[], float] = time.perf_counter
) -> float:
    began = clock()
    call()
    return (clock() - began) * 1000


def work_of(call: Callable[[], object]) -> float:
    """Return the CPU time (ms) of a call, in all threads: a busy machine cannot prolong it."""
    return milliseconds_of(call, time.process_time)


def start_of(folder: pathlib.Path) -> float:
    """Return the time (ms) that a store and a catalogue take to start and recover."""
    rig = open_folder(folder)
    took = milliseconds_of(lambda: rig.store.recover(resumable_since=LONG_AGO))
    close(rig)
    return took


@pytest.mark.parametrize(
    "count", [5_000, pytest.param(100_000, marks=[pytest.mark.soak, pytest.mark.timeout(600)])]
)
def test_many_recordings_make_neither_the_start_nor_a_page_slow(
    folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    make_many(folder, count)
    rig = open_folder(folder)
    filling = milliseconds_of(lambda: rig.catalogue.page(CatalogueQuery(limit=1)))
    close(rig)
    empty = folder.with_name("empty")
    rig = open_folder(empty)
    rig.catalogue.page(CatalogueQuery())
    close(rig)

    listings = counting_listings(monkeypatch)
    starts = {path: min(start_of(path) for _ in range(5)) for path in (folder, empty)}
    assert listings == []
    rig = open_folder(folder)
    queries = {
        "newest, not read before": CatalogueQuery(),
        "newest": CatalogueQuery(),
        "in the middle": CatalogueQuery(until=START + count // 2 * SECOND),
        "live": CatalogueQuery(states=frozenset({LIVE})),
        "of a name": CatalogueQuery(name="kitchen"),
        "of no name": CatalogueQuery(name="salon"),
    }
    pages = {what: work_of(lambda q=query: rig.catalogue.page(q))
             for what, query in queries.items()}  # fmt: skip
    middle = info(count // 3).id
    one = work_of(lambda: rig.catalogue.entry(middle))
    close(rig)
    size = (folder / INDEX).stat().st_size
    print(
        f"\n{count} recordings: index filled in {filling:.0f} ms, {size / 1e6:.1f} MB;"
        f" start {starts[folder]:.1f} ms, with none {starts[empty]:.1f} ms; one {one:.1f} ms"
    )
    print("\n".join(f"  page of 50, {what}: {took:.1f} ms" for what, took in pages.items()))
    assert starts[folder] < 5 * starts[empty] + 20
    assert max(pages.values()) < 50
    assert one < 50
