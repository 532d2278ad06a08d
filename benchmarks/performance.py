"""Measures streams per core and latency, compared with peers in the same run.

Each point has one server process and its generator processes; the server's CPU time is measured
while all streams run. The peers are aiortc's `MediaRecorder` and, if installed, Janus (Debian:
``apt install janus``). Writes docs/performance.md with its plots, and the figures as JSON.
"""

from __future__ import annotations

import json
import pathlib
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

from benchmarks import packet, plots
from benchmarks.figures import (
    CLIENT,
    CLIENT_PEER,
    CLIENT_REPETITIONS,
    GAPLESS,
    GAPLESS_PACKETS,
    IDLE,
    JANUS,
    MAX_UNWRITTEN_S,
    MEDIA_RECORDER,
    OURS,
    POINTS,
    REPETITIONS,
    STORM,
    STORM_S,
    TWO_WORKERS,
    Figures,
    Point,
    Probed,
    per_core,
)
from benchmarks.generator import BEGINNING_S, TICK_S
from benchmarks.peers import janus
from benchmarks.processes import ROOT, Running, generating, running, waiting_packets
from benchmarks.report import document, goal_table, server_table, summary
from domain.recording.ledger import SampleKind
from tests.rigs.processes import workers_of

DOCUMENT = ROOT / "docs" / "performance.md"
FIGURES = ROOT / "docs" / "performance.json"
CURVE = (25, 50, 100, 150, 200, 250, 300)
STARTS = 20
WINDOW_S = 8.0
WARM_UP_S = 8.0
"""Time until a load is steady: streams begin over two seconds, and a server that adapts to its
load averages over several more."""
MAX_LATE = 0.02
"""Largest growth of the unread backlog, as a share of what was sent. A server that exceeds it in
both halves of the window is overloaded. Complete recordings do not show that, because the kernel
buffers seconds of packets."""


@contextmanager
def serving(server: str, folder: str) -> Iterator[tuple[Running, str]]:
    serve = ("-m", "entrypoints", "serve", "--port", "0", "--recordings")
    commands = {
        GAPLESS: (*serve, folder),
        TWO_WORKERS: (*serve, folder, "--workers", "2"),
        GAPLESS_PACKETS: (*serve, folder, "--storage", "opus"),
        MEDIA_RECORDER: ("-m", "benchmarks.peers.media_recorder", folder),
        JANUS: ("-m", "benchmarks.peers.janus", folder),
    }
    # sessions that wait for the other streams to connect must not time out
    env = {"GAPLESS_INACTIVITY_TIMEOUT_S": "300", "GAPLESS_MAX_SESSIONS": "2000"}
    with running(*commands[server], env=env) as recorder:
        line = recorder.line("listening on")
        if "pid=" in line:
            recorder.pids = [int(line.partition("pid=")[2])]
        elif server == TWO_WORKERS:
            recorder.pids = workers_of(recorder.process.pid)
        yield recorder, line.partition("listening on ")[2].split()[0]


def cpu_over(process: Running, seconds: float) -> list[float]:
    """Return the share of a core that each process uses over `seconds`."""
    began, used = time.monotonic(), process.cpus_s
    time.sleep(seconds)
    passed = time.monotonic() - began
    return [(now - then) / passed for now, then in zip(process.cpus_s, used, strict=True)]


def measure(server: str, streams: int) -> Point:
    with tempfile.TemporaryDirectory() as folder, serving(server, folder) as (recorder, url):
        with generating(url, streams, WARM_UP_S + WINDOW_S + 1) as generator:
            generator.connect()
            generator.go()
            began = time.monotonic()
            time.sleep(WARM_UP_S)
            waiting, shares = [waiting_packets()], []
            for _ in range(2):
                shares.append(cpu_over(recorder, WINDOW_S / 2))
                waiting.append(waiting_packets())
            written, passed_s = sum(sizes_of_sound(folder)), time.monotonic() - began
            resident, threads = recorder.resident_mb, recorder.threads
            sent = generator.read_json("sent")
            generator.line("ended")
        pace, each_s = sent["pace"], sent["sent"] * TICK_S
        # streams begin one after another, on average after half of BEGINNING_S
        came_s = pace * passed_s - BEGINNING_S / 2
        unwritten_s = came_s - each_s * written / sum(sizes_of_sound(folder))
        # A server that starts to read in larger batches has a larger backlog once; an overloaded
        # server's backlog keeps growing.
        more = min(after - before for before, after in pairwise(waiting))
        kept_up = (
            more <= MAX_LATE * streams * WINDOW_S / 2 / TICK_S and unwritten_s <= MAX_UNWRITTEN_S
        )
        cpus = [statistics.mean(halves) for halves in zip(*shares, strict=True)]
        whole = are_whole(server, folder, streams, sent["sent"])
        return Point(
            server, streams, sum(cpus) / pace, max(cpus) / pace, resident, threads,
            sent["behind_s"], pace, unwritten_s, kept_up, whole,
        )  # fmt: skip


def sizes_of_sound(folder: str) -> list[int]:
    """Return the sizes (bytes) of a server's recordings, without their companion files."""
    beside = (".json", ".journal", ".nfo")
    return [
        path.stat().st_size
        for path in pathlib.Path(folder).iterdir()
        if path.is_file() and path.suffix not in beside
    ]


def are_whole(server: str, folder: str, streams: int, packets: int) -> bool:
    """Whether every recording has every packet."""
    if server in OURS:
        ledgers = [json.loads(path.read_text()) for path in pathlib.Path(folder).glob("*.json")]
        expected = [{"start": 0, "length": packets * 960, "kind": SampleKind.RECEIVED.value}]
        return len(ledgers) == streams and all(ledger["spans"] == expected for ledger in ledgers)
    # judge the others by the sizes of their files: 20 ms of PCM, or more than 80 bytes, per packet;
    # the last packets stay in MediaRecorder's jitter buffer
    each, missing = {MEDIA_RECORDER: (3840, 16), JANUS: (80, 0)}[server]
    sizes = sizes_of_sound(folder)
    return len(sizes) == streams and all(size >= (packets - missing) * each for size in sizes)


@contextmanager
def probed(folder: pathlib.Path) -> Iterator[tuple[Running, str, dict[str, Any]]]:
    """Run a server with probes; their measurements are complete when the block is left."""
    seen: dict[str, Any] = {}
    figures = folder / "figures"
    with running("-m", "benchmarks.instrumented", str(folder), str(figures)) as recorder:
        yield recorder, recorder.url(), seen
        recorder.terminate()
    seen |= json.loads(figures.read_text())


def probe(streams: int, *, coming_and_going: bool = False) -> Probed:
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        times = folder / "times"
        seconds = WARM_UP_S + WINDOW_S + 1
        with (
            probed(folder) as (recorder, url, seen),
            generating(url, streams, seconds, "0", str(times)) as generator,
            generating(url, 20, 1, "5") as other,
        ):
            generator.connect()
            generator.go()
            time.sleep(WARM_UP_S)
            began, used = time.monotonic(), sum(recorder.cpus_s)
            if coming_and_going:
                other.connect()
                other.go()
                other.line("ended")
            time.sleep(max(0.0, began + WINDOW_S - time.monotonic()))
            cpu = (sum(recorder.cpus_s) - used) / (time.monotonic() - began)
            generator.line("ended")
        sent = json.loads(times.read_text())
        # leave out connecting, and the start of the streams, when the first packets of each are
        # held back for reordering
        first = min(at for stream in sent.values() for at in stream["sent"]) + WARM_UP_S
        # an overloaded server has not stored every packet, hence not strict
        latency = [
            (stored - at) * 1000
            for session, stream in sent.items()
            for stored, at in zip(seen["stored"][session], stream["sent"], strict=False)
            if at >= first
        ]
        lags = [lag * 1000 for at, lag in seen["lags"] if at >= first]
        return Probed(streams, cpu, lags, latency)


def starts() -> list[float]:
    """Return the times (ms) from an offer to the first stored sample, one client at a time."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        sent: dict[str, Any] = {}
        with probed(folder) as (_, url, seen):
            for index in range(STARTS):
                times = folder / f"times{index}"
                with generating(url, 1, 0.5, "0", str(times)) as generator:
                    generator.connect()
                    generator.go()
                    generator.line("ended")
                sent |= json.loads(times.read_text())
        return [
            (seen["stored"][session][0] - stream["offered"]) * 1000
            for session, stream in sent.items()
        ]


def storm() -> tuple[float, bool]:
    """Connect many clients while many stream.

    Returns how long connecting took (s), and whether the recordings of the streams are whole.
    """
    with tempfile.TemporaryDirectory() as folder, serving(GAPLESS, folder) as (_, url):
        with (
            generating(url, STORM, WARM_UP_S + 6) as streaming,
            generating(url, STORM, 0, str(STORM_S)) as joining,
        ):
            streaming.connect()
            streaming.go()
            time.sleep(WARM_UP_S)
            took = float(joining.connect()["took_s"])
            joining.go()
            joining.line("ended")
            packets = streaming.read_json("sent")["sent"]
            streaming.line("ended")
        return took, are_whole(GAPLESS, folder, STORM, packets)


def memory_slope_kb(server: str) -> float:
    """Return the memory (kB) of a session without packets."""
    few, many = IDLE
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(server, folder) as (recorder, url),
        generating(url, few, 0) as first,
    ):
        first.connect()
        before = recorder.resident_mb
        with generating(url, many - few, 0) as others:
            others.connect()
            after = recorder.resident_mb
    return (after - before) / (many - few) * 1024


def client_cpus() -> dict[str, float]:
    """Return the CPU of two clients that stream a tone at the same time, as shares of a core."""
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(GAPLESS, folder) as (_, url),
        running("-m", "benchmarks.peers.aiortc_client", url) as peer,
        running("-m", "entrypoints", "stream", "--server", url, "--capture", "tone") as ours,
    ):
        clients = {CLIENT_PEER: peer, CLIENT: ours}
        for client in clients.values():
            client.line("connected")
        time.sleep(WARM_UP_S)
        began = time.monotonic()
        used_s = {name: sum(client.cpus_s) for name, client in clients.items()}
        time.sleep(WINDOW_S)
        passed_s = time.monotonic() - began
        return {
            name: (sum(client.cpus_s) - used_s[name]) / passed_s for name, client in clients.items()
        }


def run() -> Figures:
    figures = Figures(clients={CLIENT_PEER: [], CLIENT: []})
    servers = {
        name: loads for name, loads in POINTS.items() if name != JANUS or janus.is_installed()
    }
    if JANUS not in servers:
        print("  Janus is not installed (Debian: apt install janus)", file=sys.stderr)
    for repetition in range(REPETITIONS):
        for server, loads in servers.items():
            for streams in loads:
                print(f"  {repetition + 1}: {server}, {streams} streams", file=sys.stderr)
                figures.points.append(measure(server, streams))
    for repetition in range(CLIENT_REPETITIONS):
        print(f"  {repetition + 1}: clients", file=sys.stderr)
        for client, cpu in client_cpus().items():
            figures.clients[client].append(cpu)
    for streams in CURVE:
        print(f"  probes: {streams} streams", file=sys.stderr)
        figures.curve.append(probe(streams))
    half = round(per_core(figures.points, GAPLESS) / 2, -1)
    for repetition in range(REPETITIONS):
        print(f"  {repetition + 1}: probes: streams that come and go", file=sys.stderr)
        figures.busy.append(probe(int(half), coming_and_going=True))
    print("  starts", file=sys.stderr)
    figures.starts_ms = starts()
    print("  many that connect at once", file=sys.stderr)
    figures.storm_s, figures.storm_whole = storm()
    for server in (MEDIA_RECORDER, GAPLESS):
        print(f"  {server}: idle sessions", file=sys.stderr)
        figures.slopes_kb[server] = memory_slope_kb(server)
    print("  the steps of a packet", file=sys.stderr)
    figures.steps_us = packet.measure()
    return figures


def main() -> None:
    figures = run()
    DOCUMENT.write_text(document(figures))
    FIGURES.write_text(json.dumps(summary(figures), indent=1) + "\n")
    plots.draw(figures, DOCUMENT.parent)
    print(goal_table(figures) + "\n" + server_table(figures.points))
    ours = [point for point in figures.points if point.server in OURS]
    if not all(point.whole for point in ours):
        sys.exit("a recording is not whole, so the figures do not count")


if __name__ == "__main__":
    main()
