"""How many streams a core carries, beside aiortc's `MediaRecorder` in the same run.

A server process and a generator process for each point; the server's CPU time over the time in
which all streams run. Writes docs/performance.md and its figures as JSON.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import queue
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from domain.ledger import SampleKind
from tests.rigs.processes import environment

ROOT = pathlib.Path(__file__).parents[1]
DOCUMENT = ROOT / "docs" / "performance.md"
FIGURES = ROOT / "docs" / "performance.json"
WINDOW_S = 8.0
SETTLE_S = 2.0
REPETITIONS = 3
POINTS = {"MediaRecorder": (10, 25), "Gapless": (25, 100)}
_WAIT_S = 120.0
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Point:
    """One server under one load."""

    server: str
    streams: int
    cpu: float
    """Of a core."""
    resident_mb: float
    threads: int
    behind_s: float
    """How late the generator was at worst: it must not be the limit."""
    whole: bool
    """Whether every recording has all that was sent."""

    @property
    def per_core(self) -> float:
        return self.streams / self.cpu


class Running:
    """A process that says what it does, a line at a time."""

    def __init__(self, *command: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, *command], cwd=ROOT, env=environment(), stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def line(self, text: str) -> str:
        """The next line that has `text` in it."""
        deadline = time.monotonic() + _WAIT_S
        while text not in (line := self._lines.get(timeout=deadline - time.monotonic())):
            pass
        return line

    @property
    def cpu_s(self) -> float:
        fields = self._proc("stat").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    @property
    def resident_mb(self) -> float:
        return int(self._proc("statm").split()[1]) * _PAGE / 2**20

    @property
    def threads(self) -> int:
        return int(self._proc("stat").rpartition(")")[2].split()[17])

    def _proc(self, name: str) -> str:
        return pathlib.Path(f"/proc/{self.process.pid}/{name}").read_text()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line)


@contextlib.contextmanager
def running(*command: str) -> Iterator[Running]:
    process = Running(*command)
    try:
        yield process
    finally:
        process.process.kill()
        process.process.wait()


def measure(server: str, streams: int) -> Point:
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        commands = {
            "Gapless": ("-m", "entrypoints", "serve", "--port", "0", "--recordings", name),
            "MediaRecorder": ("-m", "benchmarks.peers.media_recorder", name),
        }
        with running(*commands[server]) as recorder:
            url = recorder.line("listening on").partition("listening on ")[2].split()[0]
            seconds = str(SETTLE_S + WINDOW_S + 1)
            with running("-m", "benchmarks.generator", url, str(streams), seconds) as generator:
                generator.line("connected")
                time.sleep(SETTLE_S)
                began, used = time.monotonic(), recorder.cpu_s
                time.sleep(WINDOW_S)
                cpu = (recorder.cpu_s - used) / (time.monotonic() - began)
                resident, threads = recorder.resident_mb, recorder.threads
                sent = json.loads(generator.line("sent"))
                generator.line("ended")
        whole = server != "Gapless" or are_whole(folder, streams, sent["sent"])
        return Point(server, streams, cpu, resident, threads, sent["behind_s"], whole)


def client_cpu(client: str) -> float:
    """CPU of one client that streams a tone, as a share of a core."""
    with tempfile.TemporaryDirectory() as name:
        serve = ("-m", "entrypoints", "serve", "--port", "0", "--recordings", name)
        with running(*serve) as server:
            url = server.line("listening on").partition("listening on ")[2].split()[0]
            commands = {
                "`gapless stream`": ("-m", "entrypoints", "stream", "--server", url,
                                     "--capture", "tone"),
                "aiortc's encoder": ("-m", "benchmarks.peers.aiortc_client", url),
            }  # fmt: skip
            with running(*commands[client]) as streaming:
                streaming.line("connected")
                time.sleep(SETTLE_S)
                began, used = time.monotonic(), streaming.cpu_s
                time.sleep(WINDOW_S)
                return (streaming.cpu_s - used) / (time.monotonic() - began)


def client_table(measured: dict[str, list[float]]) -> str:
    peer = statistics.median(measured["aiortc's encoder"])
    lines = ["| client | CPU of one stream | against aiortc's encoder |", "|---|---|---|"]
    for client, cpus in measured.items():
        cpu = statistics.median(cpus)
        lines.append(f"| {client} | {cpu:.2%} | {cpu / peer:.2f}× |")
    return "\n".join(lines) + "\n"


def are_whole(folder: pathlib.Path, streams: int, packets: int) -> bool:
    """Every recording has every packet."""
    ledgers = [json.loads(path.read_text()) for path in folder.glob("*.json")]
    expected = [{"start": 0, "length": packets * 960, "kind": SampleKind.RECEIVED.value}]
    return len(ledgers) == streams and all(ledger["spans"] == expected for ledger in ledgers)


HEADER = """# Performance

How many streams a core carries: 32 kbit/s mono speech, 20 ms packets with in-band FEC, steady
state; CPU time of the server process over streams and time, medians of {repetitions} interleaved
runs. Both servers decode and write WAV; Gapless writes ledgers, too, and every run checks that all
its recordings have every packet. Made by

```sh
make bench
```

"""
CLIENTS = """
One client that streams a tone in mono at 48 kbit/s, with capture, Opus and sending; aiortc's own
sender encodes at 96 kbit/s in stereo, and cannot do otherwise.

"""
COLUMNS = ("server", "streams", "CPU", "streams per core", "against `MediaRecorder`", "memory",
           "threads", "whole")  # fmt: skip


def table(points: list[Point]) -> str:
    by_point: dict[tuple[str, int], list[Point]] = {}
    for point in points:
        by_point.setdefault((point.server, point.streams), []).append(point)
    peer = max(
        statistics.median(point.per_core for point in found)
        for (server, _), found in by_point.items()
        if server == "MediaRecorder"
    )
    lines = ["| " + " | ".join(COLUMNS) + " |", "|---" * len(COLUMNS) + "|"]
    for (server, streams), found in by_point.items():
        per_core = statistics.median(point.per_core for point in found)
        cells = (
            server, str(streams), f"{statistics.median(point.cpu for point in found):.0%}",
            f"{per_core:.0f}", f"{per_core / peer:.1f}×",
            f"{statistics.median(point.resident_mb for point in found):.0f} MB",
            f"{max(point.threads for point in found)}",
            "yes" if all(point.whole for point in found) else "**no**",
        )  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    points = []
    clients: dict[str, list[float]] = {"aiortc's encoder": [], "`gapless stream`": []}
    for repetition in range(REPETITIONS):
        for server, loads in POINTS.items():
            for streams in loads:
                print(f"  {repetition + 1}: {server}, {streams} streams", file=sys.stderr)
                points.append(measure(server, streams))
        for client, cpus in clients.items():
            print(f"  {repetition + 1}: {client}", file=sys.stderr)
            cpus.append(client_cpu(client))
    text = table(points) + CLIENTS + client_table(clients)
    DOCUMENT.write_text(HEADER.format(repetitions=REPETITIONS) + text)
    figures = {"servers": [asdict(point) for point in points], "clients": clients}
    FIGURES.write_text(json.dumps(figures, indent=1) + "\n")
    print(text)
    if not all(point.whole for point in points):
        sys.exit("a recording is not whole: that is no score")


if __name__ == "__main__":
    main()
