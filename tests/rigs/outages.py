"""Measures how recordings survive the loss of the network, the server or the address."""

from __future__ import annotations

import asyncio
import itertools
import json
import pathlib
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from dependency_injector import providers

from adapters.storage.memory import MemoryRecording, MemoryStore
from domain.ports.capture import CaptureBackend
from domain.services.client.publisher import Publisher, StreamSummary
from entrypoints.client_settings import ClientSettings
from entrypoints.container import ClientContainer
from tests.fakes.events import SeenByClient
from tests.rigs.clients import Local, local_server
from tests.rigs.hosts import SERVER, hosts
from tests.rigs.network import Network, network_before
from tests.rigs.processes import gapless, read, serving

RATE = 48_000


class Client:
    """`gapless stream --capture tone` inside the test process, without a spool by default."""

    def __init__(self, url: str, *, capture: CaptureBackend | None = None, **settings: Any) -> None:
        self.seen = SeenByClient()
        settings = {"server": url, "capture": "tone", "spool": None} | settings
        container = ClientContainer(settings=ClientSettings(**settings), events=self.seen)
        if capture is not None:
            container.capture.override(providers.Object(capture))
        self.publisher: Publisher = container.publisher()
        self.running = asyncio.create_task(self.publisher.run())

    async def until(self, state: str) -> None:
        while state not in self.seen.states:
            assert not self.running.done(), self.running.exception()
            await asyncio.sleep(0.01)

    async def stop(self) -> StreamSummary:
        self.publisher.stop()
        return await self.running


@asynccontextmanager
async def recording(**settings: object) -> AsyncIterator[tuple[Local, Network, Client]]:
    """Run a client, recorded for a second already, over a network in front of the server."""
    settings = {"reorder_hold_s": 1.0} | settings  # time for retransmissions
    async with local_server(**settings) as server, network_before(server.url) as network:
        client = Client(network.url)
        try:
            await client.until("connected")
            await asyncio.sleep(1.0)  # a second of sound
            yield server, network, client
        finally:
            client.running.cancel()
            await asyncio.wait({client.running})


def only_recording(server: Local) -> MemoryRecording:
    store: MemoryStore = server.container.store()
    (stored,) = store.recordings.values()
    return stored


@dataclass(frozen=True)
class Outcome:
    """The recovery time and the errors of one recording."""

    recovery_s: float
    """Time from when a path exists again to the first packet that arrives over it."""
    length_error_ms: float
    """Error of the recording's length against what the client sent."""
    gap_error_ms: float
    """Error of where sound resumes, against the first packet that arrived; 0 without a gap."""
    kinds: tuple[str, ...]
    """The kinds of the spans longer than 200 ms."""


async def outage(seconds: float, *, http: bool = True, restarts: bool = True) -> Outcome:
    """Block everything for `seconds`; without `http`, block only media, and for good."""
    async with recording() as (server, network, client):
        network.lets_restarts_pass = restarts
        network.go_away(http=http)
        back_at = asyncio.get_running_loop().time()
        if http:
            await asyncio.sleep(seconds)
            network.come_back()
            back_at = asyncio.get_running_loop().time()
        if seconds > 3:
            await client.until("resumed")
        await asyncio.sleep(1.5)  # more sound
        summary = await client.stop()
        stored = only_recording(server)
        first = min(at for at in network.log.arrivals.values() if at >= back_at)
        return _outcome(stored, summary, network, first - back_at)


async def rebinding() -> Outcome:
    """Let a NAT give the client another port, three times."""
    async with recording() as (server, network, client):
        for _ in range(3):
            await network.rebind()
            await asyncio.sleep(0.5)
        summary = await client.stop()
        assert not network.log.dropped
        return _outcome(only_recording(server), summary, network, 0.0)


def killed(folder: pathlib.Path, *, down_s: float) -> Outcome:
    """Kill the server, and start another process on the same port after `down_s`."""
    with (
        serving(folder) as first,
        gapless("stream", "--server", first.url, "--capture", "tone") as client,
    ):
        first.process.wait_for("recording,")
        time.sleep(1.5)  # some sound
        first.process.process.kill()
        first.process.process.wait()
        time.sleep(down_s)
        port = first.url.rpartition(":")[2]
        with serving(folder, "--port", port) as second:
            back_at = time.monotonic()
            second.process.wait_for("the client is back")
            recovery = time.monotonic() - back_at
            return _ended(client, second.folder, recovery)


def moved(folder: pathlib.Path) -> Outcome:
    """Move the client's host to another network and address; the connection survives."""
    settings = ("--host", SERVER, "--allow-anyone")
    with hosts() as joined, serving(folder, *settings, host=joined.server) as server:
        command = ("stream", "--server", server.url, "--capture", "tone")
        with gapless(*command, host=joined.client) as client:
            server.process.wait_for("recording,")
            time.sleep(1.5)  # some sound
            joined.move_client()
            back_at = time.monotonic()
            server.process.wait_for("no packets come in")
            server.process.wait_for("packets are coming in")
            recovery = time.monotonic() - back_at
            assert not any("the client is back" in line for line in server.process.lines)
            return _ended(client, folder, recovery)


def _ended(client: Any, folder: pathlib.Path, recovery_s: float) -> Outcome:
    time.sleep(1.5)  # more sound
    client.process.send_signal(signal.SIGINT)
    assert client.end() == 0, client.errors
    (path,) = folder.glob("*.wav")
    recorded, rate = read(path)
    # the client prints its length rounded to tenths of a second
    streamed = float(client.lines[-1].split()[1].split(":")[-1])
    error = max(0.0, abs(len(recorded) / rate - streamed) * 1000 - 50)
    spans = json.loads(path.with_suffix(".json").read_text())["spans"]
    return Outcome(recovery_s, error, 0.0, _kinds(spans))


def _outcome(
    stored: MemoryRecording, summary: StreamSummary, network: Network, recovery_s: float
) -> Outcome:
    length_error = abs(len(stored.samples) - summary.seconds * RATE)
    spans = stored.ledger["spans"]
    return Outcome(
        recovery_s,
        length_error / RATE * 1000,
        _gap_error(spans, network) / RATE * 1000,
        _kinds(spans),
    )


def _gap_error(spans: list[dict[str, Any]], network: Network) -> float:
    """Compare the longest silence with the longest stretch of lost packets, in samples."""
    log = network.log
    silences = [span for span in spans if span["kind"] == "silence"]
    if not log.dropped and not silences:
        return 0.0
    origin = log.sent[0][1]
    times = [(log.sent[index][1] - origin) % 2**32 for index in log.delivered]
    length, after = max((later - earlier, earlier) for earlier, later in itertools.pairwise(times))
    silence = max(silences, key=lambda span: int(span["length"]))
    # up to 100 ms after the last packet are concealed, and FEC restores 20 ms before the next one
    begins = silence["start"] - (after + 960)
    ends = silence["start"] + silence["length"] - (after + length)
    return float(max(-begins, begins - 0.1 * RATE, ends, -ends - 960, 0))


def _kinds(spans: list[dict[str, Any]]) -> tuple[str, ...]:
    return tuple(span["kind"] for span in spans if span["length"] > 0.2 * RATE)
