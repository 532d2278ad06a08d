"""What a core carries and how fast it is, beside peers in the same run.

A server process and generator processes for each point; CPU time of the server over the time in
which all streams run. Peers are aiortc's `MediaRecorder`, and Janus where it is installed (Debian:
``apt install janus``). Writes docs/performance.md with its plots, and the figures as JSON.
"""

from __future__ import annotations

import json
import math
import pathlib
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

from benchmarks import packet, plots
from benchmarks.generator import BEGINNING_S, TICK_S
from benchmarks.peers import janus
from benchmarks.processes import ROOT, Running, generating, running, waiting_packets
from domain.ledger import SampleKind
from tests.rigs.processes import workers_of

DOCUMENT = ROOT / "docs" / "performance.md"
FIGURES = ROOT / "docs" / "performance.json"
WINDOW_S = 8.0
SETTLE_S = 8.0
"""Until a load is steady: streams begin over two seconds, and a server that adapts to what there is
to do averages over some."""
REPETITIONS = 3
CLIENT_REPETITIONS = 5
"""Fifty times a second a client is woken up for half a millisecond: what that takes depends on what
the processor has done meanwhile, so that it differs by a tenth from one process to the next."""
LATE = 0.02
"""Of what was sent; a server that leaves more to be read later, in each half of the window, has
more than it can carry: the kernel keeps seconds of it, and recordings are whole all the same."""
UNWRITTEN_S = 1.5
"""Nor has one scored that puts off writing what it was sent, by more than that."""
MEDIA_RECORDER, JANUS = "MediaRecorder", "Janus (stores packets)"
GAPLESS, TWO_WORKERS = "Gapless", "Gapless, 2 workers"
KEEPING = "Gapless (stores packets)"
OURS = (GAPLESS, TWO_WORKERS, KEEPING)
POINTS = {
    MEDIA_RECORDER: (25, 50), JANUS: (200, 400), GAPLESS: (150, 220, 290, 360, 430),
    KEEPING: (500, 1000), TWO_WORKERS: (300,),
}  # fmt: skip
CURVE = (25, 50, 100, 150, 200, 250, 300)
IDLE = (50, 400)
STARTS = 20
STORM, STORM_S = 100, 2.0


@dataclass(frozen=True)
class Point:
    """One server under one load."""

    server: str
    streams: int
    cpu: float
    """Of a core, at the pace that was wanted of the generator."""
    busiest: float
    """The same of the process that takes most."""
    resident_mb: float
    threads: int
    behind_s: float
    """How late the generator was at worst."""
    pace: float
    """How fast it sent, as a share of what it was to send."""
    unwritten_s: float
    """Sound that had been sent by the end of the window and was in no file, of a stream on
    average."""
    kept_up: bool
    """Whether the packets that waited for the server were not ever more, and little was
    unwritten."""
    whole: bool
    """Whether every recording has all that was sent."""

    @property
    def per_core(self) -> float:
        return self.streams / self.cpu


@dataclass(frozen=True)
class Probed:
    """What the probes inside a server have seen, in milliseconds."""

    streams: int
    cpu: float
    lag_ms: list[float]
    latency_ms: list[float]
    """From a packet's departure to its samples in the store's hands."""


@dataclass
class Figures:
    """All that was measured."""

    points: list[Point] = field(default_factory=list)
    curve: list[Probed] = field(default_factory=list)
    busy: list[Probed] = field(default_factory=list)
    """At half of capacity, with recordings that start and end."""
    clients: dict[str, list[float]] = field(default_factory=dict)
    slopes_kb: dict[str, float] = field(default_factory=dict)
    starts_ms: list[float] = field(default_factory=list)
    steps_us: dict[str, float] = field(default_factory=dict)
    storm_s: float = 0.0
    storm_whole: bool = False


@contextmanager
def serving(server: str, folder: str) -> Iterator[tuple[Running, str]]:
    serve = ("-m", "entrypoints", "serve", "--port", "0", "--recordings")
    commands = {
        GAPLESS: (*serve, folder),
        TWO_WORKERS: (*serve, folder, "--workers", "2"),
        KEEPING: (*serve, folder, "--storage", "opus"),
        MEDIA_RECORDER: ("-m", "benchmarks.peers.media_recorder", folder),
        JANUS: ("-m", "benchmarks.peers.janus", folder),
    }
    # a session that waits for others must not end by that
    env = {"GAPLESS_INACTIVITY_TIMEOUT_S": "300", "GAPLESS_MAX_SESSIONS": "2000"}
    with running(*commands[server], env=env) as recorder:
        line = recorder.line("listening on")
        if "pid=" in line:
            recorder.pids = [int(line.partition("pid=")[2])]
        elif server == TWO_WORKERS:
            recorder.pids = workers_of(recorder.process.pid)
        yield recorder, line.partition("listening on ")[2].split()[0]


def cpu_over(process: Running, seconds: float) -> list[float]:
    """The share of a core that each process takes."""
    began, used = time.monotonic(), process.cpus_s
    time.sleep(seconds)
    passed = time.monotonic() - began
    return [(now - then) / passed for now, then in zip(process.cpus_s, used, strict=True)]


def measure(server: str, streams: int) -> Point:
    with tempfile.TemporaryDirectory() as folder, serving(server, folder) as (recorder, url):
        with generating(url, streams, SETTLE_S + WINDOW_S + 1) as generator:
            generator.connect()
            generator.go()
            began = time.monotonic()
            time.sleep(SETTLE_S)
            waiting, shares = [waiting_packets()], []
            for _ in range(2):
                shares.append(cpu_over(recorder, WINDOW_S / 2))
                waiting.append(waiting_packets())
            written, passed_s = sum(sizes_of_sound(folder)), time.monotonic() - began
            resident, threads = recorder.resident_mb, recorder.threads
            sent = generator.told("sent")
            generator.line("ended")
        pace, each_s = sent["pace"], sent["sent"] * TICK_S
        # streams begin one after the other
        came_s = pace * passed_s - BEGINNING_S / 2
        unwritten_s = came_s - each_s * written / sum(sizes_of_sound(folder))
        # one that begins to wait for more packets at a time has more of them once, not ever more
        more = min(after - before for before, after in pairwise(waiting))
        kept_up = more <= LATE * streams * WINDOW_S / 2 / TICK_S and unwritten_s <= UNWRITTEN_S
        cpus = [statistics.mean(halves) for halves in zip(*shares, strict=True)]
        whole = are_whole(server, folder, streams, sent["sent"])
        return Point(
            server, streams, sum(cpus) / pace, max(cpus) / pace, resident, threads,
            sent["behind_s"], pace, unwritten_s, kept_up, whole,
        )  # fmt: skip


def sizes_of_sound(folder: str) -> list[int]:
    """Of a server's recordings (bytes), without what is kept beside them."""
    beside = (".json", ".journal", ".nfo")
    return [
        path.stat().st_size
        for path in pathlib.Path(folder).iterdir()
        if path.is_file() and path.suffix not in beside
    ]


def are_whole(server: str, folder: str, streams: int, packets: int) -> bool:
    """Every recording has every packet."""
    if server in OURS:
        ledgers = [json.loads(path.read_text()) for path in pathlib.Path(folder).glob("*.json")]
        expected = [{"start": 0, "length": packets * 960, "kind": SampleKind.RECEIVED.value}]
        return len(ledgers) == streams and all(ledger["spans"] == expected for ledger in ledgers)
    # the others tell by their files' sizes: 20 ms of PCM, or more than 80 bytes, for each packet;
    # MediaRecorder keeps some in its jitter buffer for itself
    each, missing = {MEDIA_RECORDER: (3840, 16), JANUS: (80, 0)}[server]
    sizes = sizes_of_sound(folder)
    return len(sizes) == streams and all(size >= (packets - missing) * each for size in sizes)


@contextmanager
def probed(folder: pathlib.Path) -> Iterator[tuple[Running, str, dict[str, Any]]]:
    """A server with probes; what they have seen is there when the block is left."""
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
        seconds = SETTLE_S + WINDOW_S + 1
        with (
            probed(folder) as (recorder, url, seen),
            generating(url, streams, seconds, "0", str(times)) as generator,
            generating(url, 20, 1, "5") as other,
        ):
            generator.connect()
            generator.go()
            time.sleep(SETTLE_S)
            began, used = time.monotonic(), sum(recorder.cpus_s)
            if coming_and_going:
                other.connect()
                other.go()
                other.line("ended")
            time.sleep(max(0.0, began + WINDOW_S - time.monotonic()))
            cpu = (sum(recorder.cpus_s) - used) / (time.monotonic() - began)
            generator.line("ended")
        sent = json.loads(times.read_text())
        # connecting all of them is another measurement, and so is what follows, when all begin and
        # the first packets of each are held for others that may have been overtaken
        first = min(at for told in sent.values() for at in told["sent"]) + SETTLE_S
        # a server that is overloaded has not stored all of them
        latency = [
            (stored - at) * 1000
            for session, told in sent.items()
            for stored, at in zip(seen["stored"][session], told["sent"], strict=False)
            if at >= first
        ]
        lags = [lag * 1000 for at, lag in seen["lags"] if at >= first]
        return Probed(streams, cpu, lags, latency)


def starts() -> list[float]:
    """From an offer to the first sample in the store's hands (ms), one client after the other."""
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
            (seen["stored"][session][0] - told["offered"]) * 1000 for session, told in sent.items()
        ]


def storm() -> tuple[float, bool]:
    """Many connect while many stream: until all are connected (s), and are the streams whole?"""
    with tempfile.TemporaryDirectory() as folder, serving(GAPLESS, folder) as (_, url):
        with (
            generating(url, STORM, SETTLE_S + 6) as streaming,
            generating(url, STORM, 0, str(STORM_S)) as joining,
        ):
            streaming.connect()
            streaming.go()
            time.sleep(SETTLE_S)
            took = float(joining.connect()["took_s"])
            joining.go()
            joining.line("ended")
            packets = streaming.told("sent")["sent"]
            streaming.line("ended")
        return took, are_whole(GAPLESS, folder, STORM, packets)


def memory_slope_kb(server: str) -> float:
    """What a session without packets takes."""
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


def client_cpu(client: str) -> float:
    """CPU of one client that streams a tone, as a share of a core."""
    with tempfile.TemporaryDirectory() as folder, serving(GAPLESS, folder) as (_, url):
        commands = {
            "`gapless stream`": ("-m", "entrypoints", "stream", "--server", url,
                                 "--capture", "tone"),
            "aiortc's encoder": ("-m", "benchmarks.peers.aiortc_client", url),
        }  # fmt: skip
        with running(*commands[client]) as streaming:
            streaming.line("connected")
            time.sleep(SETTLE_S)
            return sum(cpu_over(streaming, WINDOW_S))


def run() -> Figures:
    figures = Figures(clients={"aiortc's encoder": [], "`gapless stream`": []})
    servers = {name: loads for name, loads in POINTS.items() if name != JANUS or janus.is_there()}
    if JANUS not in servers:
        print("  Janus is not installed (Debian: apt install janus)", file=sys.stderr)
    for repetition in range(REPETITIONS):
        for server, loads in servers.items():
            for streams in loads:
                print(f"  {repetition + 1}: {server}, {streams} streams", file=sys.stderr)
                figures.points.append(measure(server, streams))
    for repetition in range(CLIENT_REPETITIONS):
        for client, cpus in figures.clients.items():
            print(f"  {repetition + 1}: {client}", file=sys.stderr)
            cpus.append(client_cpu(client))
    for streams in CURVE:
        print(f"  probes: {streams} streams", file=sys.stderr)
        figures.curve.append(probe(streams))
    half = round(per_core(figures.points, GAPLESS) / 2, -1)  # of what a core carries
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


HEADER = """# Performance

How many streams a core carries: 32 kbit/s mono speech, 20 ms packets with in-band FEC, streams out
of step, steady state; CPU time of the server process over streams and time (where the load's own
process was late, over what it has sent), medians of {repetitions} interleaved runs. `MediaRecorder`
and Gapless decode and write WAV, Gapless with ledgers and levels; Janus, and Gapless with
`--storage opus`, write the packets as they come. Every run checks that the recordings are whole
(all packets in Gapless's ledgers, the others by the sizes of their files), and that the server
keeps up: a load at which ever more packets wait for it, or more than {unwritten} s of sound are in
no file, counts for nothing. Made by

```sh
make bench        # Janus is measured where it is installed: apt install janus
```

"""


def median(values: list[float]) -> float:
    return statistics.median(values)


def percentile(values: list[float], percent: int) -> float:
    return statistics.quantiles(values, n=100)[percent - 1]


def row(*cells: object) -> str:
    return "| " + " | ".join(str(cell) for cell in cells) + " |\n"


def runs_of(points: list[Point], server: str, streams: int) -> list[Point]:
    return [p for p in points if (p.server, p.streams) == (server, streams)]


def keeps_up(runs: list[Point]) -> bool:
    """Whether most of the runs of a load did."""
    return 2 * sum(point.kept_up for point in runs) > len(runs)


def kept_up_with(points: list[Point], server: str) -> list[list[Point]]:
    """The runs of each load that counts, the least one first."""
    loads = sorted({point.streams for point in points if point.server == server})
    return [runs for load in loads if keeps_up(runs := runs_of(points, server, load))]


def per_core(points: list[Point], server: str) -> float:
    """The best of its loads."""
    counting = kept_up_with(points, server)
    return max((median([point.per_core for point in runs]) for runs in counting), default=math.nan)


def carried(points: list[Point], server: str, streams: int) -> float:
    """Streams until the busiest of the server's processes has a whole core, by one load."""
    runs = runs_of(points, server, streams)
    return median([point.streams / point.busiest for point in runs]) if keeps_up(runs) else math.nan


def server_table(points: list[Point]) -> str:
    peer = per_core(points, MEDIA_RECORDER)
    text = row("server", "streams", "CPU", "streams per core", "against `MediaRecorder`", "memory",
               "threads", "unwritten", "keeps up", "whole") + row(*["---"] * 10)  # fmt: skip
    for server, streams in dict.fromkeys((point.server, point.streams) for point in points):
        found = runs_of(points, server, streams)
        each = median([point.per_core for point in found])
        text += row(
            server, streams, f"{median([point.cpu for point in found]):.0%}", f"{each:.0f}",
            f"{each / peer:.1f}×", f"{median([point.resident_mb for point in found]):.0f} MB",
            max(point.threads for point in found),
            f"{median([point.unwritten_s for point in found]):.1f} s",
            "yes" if keeps_up(found) else "**no**",
            "yes" if all(point.whole for point in found) else "**no**",
        )  # fmt: skip
    return text


def goals(figures: Figures) -> list[tuple[str, str, str, bool]]:
    """What is wanted, what it is, and whether that is enough."""
    ratio = per_core(figures.points, GAPLESS) / per_core(figures.points, MEDIA_RECORDER)
    (shared,) = POINTS[TWO_WORKERS]
    one = carried(figures.points, GAPLESS, shared // 2)  # as many as each of the two has
    scaling = carried(figures.points, TWO_WORKERS, shared) / one
    threads = {p.threads for p in figures.points if p.server in (GAPLESS, KEEPING)}
    against_janus = {
        server: per_core(figures.points, server) / per_core(figures.points, JANUS)
        if any(point.server == JANUS for point in figures.points)
        else math.nan
        for server in (GAPLESS, KEEPING)
    }
    memory = figures.slopes_kb[GAPLESS] / figures.slopes_kb[MEDIA_RECORDER]
    slope = f"{figures.slopes_kb[GAPLESS]:.0f} kB, {memory:.2f}×"
    lag = median([percentile(seen.lag_ms, 99) for seen in figures.busy])
    latency = median([percentile(seen.latency_ms, 99) for seen in figures.busy])
    start = median(figures.starts_ms)
    client = median(figures.clients["`gapless stream`"]) / median(
        figures.clients["aiortc's encoder"]
    )
    told = f"{figures.storm_s:.1f} s, {'nothing' if figures.storm_whole else '**something**'} lost"
    return [
        ("streams per core, decoded, with levels, against `MediaRecorder`", "≥ 6×",
         f"{ratio:.1f}×", ratio >= 6),
        ("the same, against Janus, which decodes nothing (moonshot)", "≥ 1×",
         f"{against_janus[GAPLESS]:.2f}×", against_janus[GAPLESS] >= 1),
        ("streams per core, packets stored as they are, against Janus", "≥ 2×",
         f"{against_janus[KEEPING]:.1f}×", against_janus[KEEPING] >= 2),
        ("streams that two workers carry, against one", "≥ 1.8×", f"{scaling:.1f}×",
         scaling >= 1.8),
        ("threads, whatever the number of streams", "constant",
         " or ".join(map(str, sorted(threads))), len(threads) == 1),
        (f"memory of a session without packets ({IDLE[0]} to {IDLE[1]}), against `MediaRecorder`",
         "≤ 0.25×", slope, memory <= 0.25),
        (f"event-loop lag at half of capacity ({figures.busy[0].streams} streams), with recordings"
         " that start and end, p99 (median of the runs)", "≤ 10 ms",
         f"{lag:.1f} ms", lag <= 10),
        ("a packet's way from the sender to the store's hands, the same load, p99", "≤ 50 ms",
         f"{latency:.1f} ms", latency <= 50),
        ("offer to first sample, median", "≤ 200 ms", f"{start:.0f} ms", start <= 200),
        (f"{STORM} clients that connect within {STORM_S:.0f} s while {STORM} stream",
         "≤ 5 s, nothing lost", told, figures.storm_s <= 5 and figures.storm_whole),
        ("CPU of a client, against aiortc's own encoder", "≤ 0.5×", f"{client:.2f}×",
         client <= 0.5),
    ]  # fmt: skip


def goal_table(figures: Figures) -> str:
    text = row("what", "goal", "measured", "") + row(*["---"] * 4)
    for what, goal, measured, is_met in goals(figures):
        text += row(what, goal, measured, "" if is_met else "**missed**")
    return text


def client_table(clients: dict[str, list[float]]) -> str:
    peer = median(clients["aiortc's encoder"])
    text = row("client", "CPU of one stream", "against aiortc's encoder") + row(*["---"] * 3)
    for client, cpus in clients.items():
        cpu = median(cpus)
        text += row(client, f"{cpu:.2%}", f"{cpu / peer:.2f}×")
    return text


def step_table(figures: Figures) -> str:
    found = kept_up_with(figures.points, GAPLESS)[-1]
    whole = median([point.cpu / point.streams for point in found]) * 0.02 * 1e6
    steps = figures.steps_us
    text = row("step", "µs", "") + row(*["---"] * 3)
    for step, cost in steps.items():
        text += row(step, f"{cost:.1f}", f"{cost / whole:.0%}")
    rest = whole - sum(steps.values())
    text += row("event loop, calls between, seeing to sockets, reports, consent", f"{rest:.1f}",
                f"{rest / whole:.0%}")  # fmt: skip
    return text + row(f"**a packet, at {found[0].streams} streams**", f"**{whole:.1f}**", "")


def document(figures: Figures) -> str:
    return (
        HEADER.format(repetitions=REPETITIONS, unwritten=UNWRITTEN_S)
        + goal_table(figures)
        + "\n## Servers\n\n"
        + server_table(figures.points)
        + "\n![streams against CPU](performance-cpu.png)\n"
        + "\n![streams against the event loop's lag](performance-lag.png)\n"
        + "\n![a packet's way to the store](performance-latency.png)\n"
        + "\nWhere its event loop is at work for more than four fifths of its time, Gapless reads"
        + " each stream\nthree times a second: a packet is a fifth cheaper then, and a third where"
        + " it is stored as it came.\n"
        + "\n## A packet\n\nWhere its time goes (CPU): each step by itself, and what the server as"
        + " a whole takes beyond that.\nlibopus alone is the wall.\n\n"
        + step_table(figures)
        + "\n## Clients\n\nOne client that streams a tone in mono at 64 kbit/s, with capture, Opus"
        + " and sending; aiortc's own\nsender encodes at 96 kbit/s in stereo, and cannot do"
        + f" otherwise. Medians of {CLIENT_REPETITIONS} runs, by turns.\n\n"
        + client_table(figures.clients)
    )


def summary(figures: Figures) -> dict[str, Any]:
    """The figures without every single probe."""

    def percentiles(seen: Probed) -> dict[str, Any]:
        marks = (50, 95, 99)
        return {
            "streams": seen.streams,
            "cpu": seen.cpu,
            "lag_ms": {f"p{p}": percentile(seen.lag_ms, p) for p in marks},
            "latency_ms": {f"p{p}": percentile(seen.latency_ms, p) for p in marks},
        }

    return asdict(figures) | {
        "curve": [percentiles(seen) for seen in figures.curve],
        "busy": [percentiles(seen) for seen in figures.busy],
    }


def main() -> None:
    figures = run()
    DOCUMENT.write_text(document(figures))
    FIGURES.write_text(json.dumps(summary(figures), indent=1) + "\n")
    plots.draw(figures, DOCUMENT.parent)
    print(goal_table(figures) + "\n" + server_table(figures.points))
    ours = [point for point in figures.points if point.server in OURS]
    if not all(point.whole for point in ours):
        sys.exit("a recording is not whole: that is no score")


if __name__ == "__main__":
    main()
