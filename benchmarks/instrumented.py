"""Runs `gapless serve` with probes for the event loop's lag and for when samples reach the store.

``python -m benchmarks.instrumented FOLDER FIGURES`` prints its address. At SIGTERM it completes
the recordings and writes the probes' measurements as JSON. Times are from the machine's monotonic
clock, so that other processes can compare them.
"""

from __future__ import annotations

import asyncio
import datetime
import json
import pathlib
import sys
import time
from collections.abc import Sequence
from typing import Any

from dependency_injector import providers

from domain.ports.storage import PartCompletedCall, RecordingStore, RecordingWriter
from domain.recording.completed import CompletedRecording
from domain.recording.effects import EndReason
from domain.recording.ledger import LedgerEvent, RecordingInfo, SampleKind
from domain.services.client.live_sound import FRAME_SAMPLES
from domain.sound.pieces import Sound
from entrypoints.container import ServerContainer
from entrypoints.serving import at_signals, serve_here
from entrypoints.settings import ServerSettings
from tests.fakes.events import SeenByServer

PROBE_S = 0.01


class TimedWriter:
    """A recording's writer that notes when it receives the samples of each packet."""

    def __init__(self, writer: RecordingWriter, times: list[float]) -> None:
        self._writer = writer
        self._times = times

    @property
    def part_completed(self) -> PartCompletedCall:
        return self._writer.part_completed

    @part_completed.setter
    def part_completed(self, call: PartCompletedCall) -> None:
        self._writer.part_completed = call

    @property
    def failure(self) -> Any:
        return self._writer.failure

    def append(self, pieces: Sequence[Sound], kind: SampleKind) -> None:
        packets = sum(map(len, pieces)) // FRAME_SAMPLES
        self._times += [time.monotonic()] * packets
        self._writer.append(pieces, kind)

    def append_silence(self, length: int, kind: SampleKind) -> None:
        self._writer.append_silence(length, kind)

    def note(self, event: LedgerEvent) -> None:
        self._writer.note(event)

    async def finish(self, reason: EndReason, ended_at: datetime.datetime) -> CompletedRecording:
        return await self._writer.finish(reason, ended_at)


class TimedStore:
    """The server's store, whose writers are wrapped in `TimedWriter`."""

    def __init__(self, store: RecordingStore) -> None:
        self._store = store
        self.times: dict[str, list[float]] = {}

    def create(self, info: RecordingInfo) -> RecordingWriter:
        return TimedWriter(self._store.create(info), self.times.setdefault(info.id, []))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


async def watch(lags: list[tuple[float, float]]) -> None:
    """Record again and again when a timer of the event loop was due, and how late it ran."""
    while True:
        due = time.monotonic() + PROBE_S
        await asyncio.sleep(PROBE_S)
        lags.append((due, time.monotonic() - due))


async def serve(folder: str) -> dict[str, Any]:
    """Serve until SIGTERM; return the probes' measurements."""
    settings = ServerSettings(port=0, recordings=folder)
    container = ServerContainer(settings=settings, events=SeenByServer())
    store = TimedStore(container.store())
    container.store.override(providers.Object(store))
    stop = asyncio.Event()
    at_signals(stop.set)
    lags: list[tuple[float, float]] = []
    watching = asyncio.create_task(watch(lags))
    await serve_here(
        container, listening=lambda url: print(f"listening on {url}", flush=True), stop=stop
    )
    watching.cancel()
    return {"lags": lags, "stored": store.times}


if __name__ == "__main__":
    seen = asyncio.run(serve(sys.argv[1]))
    pathlib.Path(sys.argv[2]).write_text(json.dumps(seen))
