"""Measures what each kind of junk costs a server beside sessions that stream.

``python -m benchmarks.junk [--kinds NAME …] [--rate 100000] [--seconds 3] [--buffer-kb 208]``
prints for each kind and origin: how many datagrams a second the generator sent (it has a processor
of its own), the CPU time of the server in µs for each of them (without what the sessions cost), how
many the kernel dropped for lack of room, how long answers over HTTP took meanwhile (median, 99th
percentile), and at the end how much of the sessions' sound is missing.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import pathlib
import random
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import aiohttp

from tests.rigs.clients import Remote
from tests.rigs.flooding import SOURCES, cpu_s, dropped, flooding
from tests.rigs.junk import Live, kinds
from tests.rigs.processes import Server, gapless
from tests.rigs.rebinding import Streaming, connected, ended, expected, outcomes, streaming

SESSIONS = 50
REST_S = 4.0
ORIGINS = {"many": SOURCES, "one": 1, "sessions": 0}
"""From how many addresses junk comes; 0 stands for the addresses of the sessions' clients."""
MATTERS = (
    "SRTP", "SRTP, SSRC of a session", "STUN request, name of a session", "DTLS", "DTLS, an alert",
    "DTLS, 27 alerts",
)  # fmt: skip
"""Kinds for which the origin makes a difference."""


@contextmanager
def serving(folder: pathlib.Path, sessions: int, buffer_kb: int | None) -> Iterator[Server]:
    """Run a server, as on a system that limits receive buffers to `buffer_kb`."""
    env = {}
    if buffer_kb is not None:
        (folder / "sitecustomize.py").write_text(
            "import adapters.transport.sockets.datagrams as datagrams\n"
            f"datagrams.BUFFER_BYTES = {buffer_kb * 1024}\n"
        )
        env["PYTHONPATH"] = f"{folder}{os.pathsep}{pathlib.Path.cwd()}"
    recordings = folder / "recordings"
    command = ("serve", "--port", "0", "--recordings", str(recordings))
    with gapless(*command, "--max-sessions", str(sessions), env=env) as process:
        yield Server(process, recordings)
        for line in process.errors:
            print(line)


class Measurement:
    """A server with sessions that stream."""

    def __init__(self, server: Server, http: aiohttp.ClientSession, sessions: int) -> None:
        self.server, self._http = server, http
        self.clients = [Streaming(Remote(server.url, http)) for _ in range(sessions)]
        self._alone = 0.0  # what the sessions cost, as a share of a core

    async def begin(self) -> None:
        await connected(self.clients)
        await self._stream(REST_S)
        began, used_s = time.monotonic(), self._used_s
        await self._stream(REST_S)
        self._alone = (self._used_s - used_s) / (time.monotonic() - began)
        print(f"the sessions take {self._alone:.0%} of a core", flush=True)

    async def flood(self, kind: str, origin: str, *, rate: int, seconds: float) -> None:
        live = Live([client.ssrc for client in self.clients], [c.ice_name for c in self.clients])
        through = [c.port.socket for c in self.clients] if origin == "sessions" else []
        lost, used_s, began = -dropped(), -self._used_s, time.monotonic()
        took: list[float] = []
        asking = asyncio.create_task(self._ask(took))
        with flooding(
            self.clients[0].server_address, live, rate=rate, seconds=seconds, kinds=[kind],
            sources=ORIGINS[origin], through=through, on_cpu=max(os.sched_getaffinity(0)),
        ) as flood:  # fmt: skip
            while not flood.is_over:
                await self._stream(0.5)
            sent = flood.sent()
        await self._stream(0.5)
        asking.cancel()
        used_s += self._used_s - self._alone * (time.monotonic() - began)
        lost += dropped()
        took_ms = [1e3 * quantile for quantile in statistics.quantiles(took, n=100)]
        print(
            f"{kind:32} {origin:8} {sent / seconds:7.0f}/s {used_s / sent * 1e6:6.2f} µs "
            f"{lost:7} dropped, HTTP {took_ms[49]:.0f} ms, {took_ms[98]:.0f} ms",
            flush=True,
        )

    async def end(self, folder: pathlib.Path) -> None:
        await ended(self.clients, self.server)
        found, wanted = outcomes(folder), expected(self.clients)
        missing = sum(
            outcome.length - found[session].kinds.get("received", 0)
            for session, outcome in wanted.items()
        )
        whole = sum(outcome == found[session] for session, outcome in wanted.items())
        print(f"{whole} of {len(wanted)} recordings are whole, {missing / 48_000:.2f} s missing")

    @property
    def _used_s(self) -> float:
        return cpu_s(self.server.process.process.pid)

    async def _stream(self, seconds: float) -> None:
        async for _ in streaming(self.clients, seconds):
            pass

    async def _ask(self, took: list[float]) -> None:
        while True:
            began = time.monotonic()
            async with self._http.get(self.server.url + "/health") as response:
                await response.read()
            took.append(time.monotonic() - began)
            await asyncio.sleep(0.02)


async def run(given: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        with serving(folder, given.sessions, given.buffer_kb) as server:
            async with aiohttp.ClientSession() as http:
                measurement = Measurement(server, http, given.sessions)
                await measurement.begin()
                for kind in given.kinds:
                    origins: Sequence[str] = list(ORIGINS) if kind in MATTERS else ["many"]
                    for origin in given.origins or origins:
                        await measurement.flood(
                            kind, origin, rate=given.rate, seconds=given.seconds
                        )
                await measurement.end(folder / "recordings")


def main() -> None:
    names = list(kinds(Live(), random.Random()))
    parser = argparse.ArgumentParser()
    parser.add_argument("--kinds", nargs="*", choices=names, default=names, metavar="NAME")
    parser.add_argument("--origins", nargs="*", choices=list(ORIGINS))
    parser.add_argument("--rate", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--sessions", type=int, default=SESSIONS)
    parser.add_argument("--buffer-kb", type=int, help="the system's limit of a receive buffer")
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
