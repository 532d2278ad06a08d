"""Measures what those who watch a server cost its streams.

``python -m benchmarks.watched [STREAMS] [RECORDINGS]`` records streams, once alone and once beside
watchers of the events, taps, downloads and readers of the list of recordings. It prints the event
loop's lag, how long a page of the list takes, and whether each recording is whole.
"""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from benchmarks.performance import WARM_UP_S, are_whole, probed
from benchmarks.processes import Running, generating
from benchmarks.tables import heading, row

WATCHERS, TAPS, DOWNLOADS = 50, 10, 4
WINDOW_S = 20.0
PAGE_EVERY_S = 0.25
PERCENTILES = (("median", 0.5), ("99th percentile", 0.99))


@dataclass
class Seen:
    """What one run has measured."""

    lags_ms: list[float]
    pages_ms: list[float] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    cpu: float = 0.0
    whole: bool = False


def copy_recordings(folder: pathlib.Path, count: int) -> None:
    """Copy the one recording of a folder, under other names and ids."""
    (ledger,) = folder.glob("*.json")
    sound, name = ledger.with_suffix(".wav"), ledger.stem
    head, _, session = name.rpartition("-")
    stamp, dash, label = head.partition("-")
    document = ledger.read_text()
    for number in range(count):
        other = f"{number:08x}" + session[8:]
        at = f"{stamp[:4]}{1 + number % 12:02d}{1 + number // 12 % 28:02d}{stamp[8:]}"
        copy = folder / f"{at}{dash}{label}-{other}.json"
        copy.write_text(document.replace(name, copy.stem).replace(session, other))
        shutil.copyfile(sound, copy.with_suffix(".wav"))
    for path in (ledger, sound):
        path.unlink()


def names_of_ledgers(folder: pathlib.Path) -> set[str]:
    return {path.name for path in folder.glob("*.json")}


class Watching:
    """All who watch one server."""

    def __init__(self, http: aiohttp.ClientSession, url: str, seen: Seen) -> None:
        self._http, self._url, self._seen = http, url, seen

    async def events(self) -> None:
        """Read the events with all levels."""
        async with self._http.get(f"{self._url}/api/events?levels=true") as answer:
            assert answer.status == 200, await answer.text()
            async for line in answer.content:
                if line.startswith(b"event: "):
                    self._seen.counts[f"event {line[7:].decode().strip()}"] += 1

    async def tap(self, session: str) -> None:
        async with self._http.ws_connect(f"{self._url}/api/sessions/{session}/pcm") as socket:
            async for message in socket:
                if message.type is aiohttp.WSMsgType.BINARY:
                    self._seen.counts["tapped frames"] += 1
                elif "missed" in str(message.data):
                    self._seen.counts["tap missed"] += 1

    async def download(self, recording: str) -> None:
        """Download a live recording, and convert it, again and again."""
        while True:
            for query in ("", "?format=flac"):
                path = f"{self._url}/api/recordings/{recording}/audio{query}"
                async with self._http.get(path) as answer:
                    assert answer.status in (200, 503), await answer.text()
                    self._seen.counts[f"downloads {answer.status}"] += 1
                    async for chunk in answer.content.iter_any():
                        self._seen.counts["downloaded bytes"] += len(chunk)
            await asyncio.sleep(PAGE_EVERY_S)

    async def pages(self) -> None:
        """Read the list of recordings page by page, and from its beginning again."""
        before = ""
        while True:
            began = time.monotonic()
            async with self._http.get(f"{self._url}/api/recordings?limit=50{before}") as answer:
                page = await answer.json()
                assert answer.status == 200, page
            self._seen.pages_ms.append((time.monotonic() - began) * 1000)
            before = f"&before={page['next']}" if page["next"] else ""
            await asyncio.sleep(PAGE_EVERY_S)


@asynccontextmanager
async def watched(url: str, seen: Seen) -> AsyncIterator[None]:
    """Let all of them watch."""
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=None)
    ) as http:
        async with http.get(f"{url}/api/sessions") as answer:
            sessions = (await answer.json())["sessions"]
        watching = Watching(http, url, seen)
        live = [track["recording"] for item in sessions for track in item["tracks"]]
        work: list[Any] = [watching.events() for _ in range(WATCHERS)]
        work += [watching.tap(item["id"]) for item in sessions[:TAPS]]
        work += [watching.download(recording) for recording in live[:DOWNLOADS]]
        work.append(watching.pages())
        tasks = [asyncio.create_task(item) for item in work]
        try:
            yield
            for task in tasks:
                if task.done():
                    task.result()
        finally:
            for task in tasks:
                task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.gather(*tasks, return_exceptions=True)


async def fill(recorder: Running, url: str, folder: pathlib.Path, count: int) -> None:
    """Wait until the server lists all recordings."""
    with generating(url, 1, 0.1) as generator:
        generator.connect()
        generator.go()
        await asyncio.to_thread(generator.line, "ended")
    await asyncio.to_thread(copy_recordings, folder, count)


Watch = Callable[[str, Seen], AbstractAsyncContextManager[None]]
"""Watches the server at a URL, and notes what it has seen."""


async def run(streams: int, recordings: int, watch: Watch | None) -> Seen:
    seen = Seen([])
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        with probed(folder) as (recorder, url, _):
            await fill(recorder, url, folder, recordings)
        before = names_of_ledgers(folder)
        with (
            probed(folder) as (recorder, url, figures),
            generating(url, streams, 2 * WARM_UP_S + WINDOW_S) as generator,
        ):
            generator.connect()
            generator.go()
            await asyncio.sleep(WARM_UP_S)
            async with watch(url, seen) if watch else contextlib.nullcontext():
                await asyncio.sleep(WARM_UP_S / 2)
                began, used = time.monotonic(), sum(recorder.cpus_s)
                await asyncio.sleep(WINDOW_S)
                ended = time.monotonic()
                seen.cpu = (sum(recorder.cpus_s) - used) / (ended - began)
            packets = (await asyncio.to_thread(generator.read_json, "sent"))["sent"]
            await asyncio.to_thread(generator.line, "ended")
        seen.lags_ms = [lag * 1000 for at, lag in figures["lags"] if began <= at <= ended]
        for ledger in before:
            (folder / ledger).unlink()
        seen.whole = are_whole("Gapless", str(folder), streams, packets)
    return seen


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def main(streams: int = 100, recordings: int = 100_000) -> None:
    print(heading("", "alone", "watched"), end="")
    alone, beside = (asyncio.run(run(streams, recordings, watch)) for watch in (None, watched))
    both = (alone, beside)
    pages = beside.pages_ms or [0.0]
    rows: list[tuple[object, ...]] = [
        (f"lag, {text}, ms", *(f"{percentile(it.lags_ms, share):.1f}" for it in both))
        for text, share in PERCENTILES
    ]
    rows.append(("CPU of a core", *(f"{it.cpu:.0%}" for it in both)))
    rows.append(("all recordings are whole", *(it.whole for it in both)))
    rows += [
        (f"a page of the list, {text}, ms", "", f"{percentile(pages, share):.1f}")
        for text, share in PERCENTILES
    ]
    rows += [(what, "", number) for what, number in sorted(beside.counts.items())]
    for cells in rows:
        print(row(*cells), end="")


if __name__ == "__main__":
    main(*(int(text) for text in sys.argv[1:]))
