"""The loads of the benchmark, the figures measured under each, and what is derived from them."""

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
"""A client wakes fifty times a second for half a millisecond, and what that costs depends on what
the processor did in between: results vary by a half from one minute to the next. Therefore clients
are measured at the same time, and each time with new processes."""
MAX_UNWRITTEN_S = 1.5
"""A run does not count if the server delays writing by more than this."""


@dataclass(frozen=True)
class Point:
    """One server under one load."""

    server: str
    streams: int
    cpu: float
    """CPU of all processes as a share of a core, scaled to the generator's nominal pace."""
    busiest: float
    """CPU of the busiest process, as `cpu`."""
    resident_mb: float
    threads: int
    behind_s: float
    """How late the generator was at worst."""
    pace: float
    """How fast the generator sent, as a share of its nominal pace."""
    unwritten_s: float
    """Sound sent by the end of the window but in no file yet, averaged over the streams."""
    kept_up: bool
    """Whether the queue of waiting packets did not keep growing, and little was unwritten."""
    whole: bool
    """Whether every recording has every packet that was sent."""

    @property
    def per_core(self) -> float:
        return self.streams / self.cpu


@dataclass(frozen=True)
class Probed:
    """Measurements of the probes inside a server, in milliseconds."""

    streams: int
    cpu: float
    lag_ms: list[float]
    latency_ms: list[float]
    """Time from sending a packet to passing its samples to the store."""


@dataclass
class Figures:
    """All measurements."""

    points: list[Point] = field(default_factory=list)
    curve: list[Probed] = field(default_factory=list)
    busy: list[Probed] = field(default_factory=list)
    """Probes at half of capacity, while recordings start and end."""
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
    """Whether the server kept up in most runs of a load."""
    return 2 * sum(point.kept_up for point in runs) > len(runs)


def kept_up_with(points: list[Point], server: str) -> list[list[Point]]:
    """Return the runs of each load with which the server kept up, smallest load first."""
    loads = sorted({point.streams for point in points if point.server == server})
    return [runs for load in loads if keeps_up(runs := runs_of(points, server, load))]


def per_core(points: list[Point], server: str) -> float:
    """Return the most streams per core over all loads with which the server kept up."""
    counting = kept_up_with(points, server)
    return max((median([point.per_core for point in runs]) for runs in counting), default=math.nan)


def carried(points: list[Point], server: str, streams: int) -> float:
    """Extrapolate from one load how many streams fill a core for the server's busiest process."""
    runs = runs_of(points, server, streams)
    return median([point.streams / point.busiest for point in runs]) if keeps_up(runs) else math.nan
