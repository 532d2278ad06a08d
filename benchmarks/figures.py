"""What the benchmark measures: the loads, the figures of each, and what follows from them."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass, field

MEDIA_RECORDER, JANUS = "MediaRecorder", "Janus (stores packets)"
GAPLESS, TWO_WORKERS = "Gapless", "Gapless, 2 workers"
GAPLESS_PACKETS = "Gapless (stores packets)"
OURS = (GAPLESS, TWO_WORKERS, GAPLESS_PACKETS)
CLIENT, CLIENT_PEER = "`gapless stream`", "aiortc's encoder"
POINTS = {
    MEDIA_RECORDER: (25, 50), JANUS: (200, 400), GAPLESS: (150, 220, 290, 360, 430),
    GAPLESS_PACKETS: (500, 1000), TWO_WORKERS: (300,),
}  # fmt: skip
IDLE = (50, 400)
STORM, STORM_S = 100, 2.0
REPETITIONS = 3
CLIENT_REPETITIONS = 5
"""Fifty times a second a client is woken up for half a millisecond: what that takes depends on what
the processor has done meanwhile, so that one minute differs from the next by a half. So clients are
measured at the same time, and each time with new processes."""
MAX_UNWRITTEN_S = 1.5
"""A server has not scored that puts off writing what it was sent by more than that."""


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


def median(values: list[float]) -> float:
    return statistics.median(values)


def percentile(values: list[float], percent: int) -> float:
    return statistics.quantiles(values, n=100)[percent - 1]


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
