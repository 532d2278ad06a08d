"""docs/performance.md: what was measured, beside what was to be reached."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

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
    POINTS,
    REPETITIONS,
    STORM,
    STORM_S,
    TWO_WORKERS,
    Figures,
    Point,
    Probed,
    carried,
    keeps_up,
    kept_up_with,
    median,
    per_core,
    percentile,
    runs_of,
)

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


def row(*cells: object) -> str:
    return "| " + " | ".join(str(cell) for cell in cells) + " |\n"


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
    threads = {p.threads for p in figures.points if p.server in (GAPLESS, GAPLESS_PACKETS)}
    against_janus = {
        server: per_core(figures.points, server) / per_core(figures.points, JANUS)
        if any(point.server == JANUS for point in figures.points)
        else math.nan
        for server in (GAPLESS, GAPLESS_PACKETS)
    }
    memory = figures.slopes_kb[GAPLESS] / figures.slopes_kb[MEDIA_RECORDER]
    slope = f"{figures.slopes_kb[GAPLESS]:.0f} kB, {memory:.2f}×"
    lag = median([percentile(seen.lag_ms, 99) for seen in figures.busy])
    latency = median([percentile(seen.latency_ms, 99) for seen in figures.busy])
    start = median(figures.starts_ms)
    client = median(figures.clients[CLIENT]) / median(figures.clients[CLIENT_PEER])
    result = (
        f"{figures.storm_s:.1f} s, {'nothing' if figures.storm_whole else '**something**'} lost"
    )
    return [
        ("streams per core, decoded, with levels, against `MediaRecorder`", "≥ 6×",
         f"{ratio:.1f}×", ratio >= 6),
        ("the same, against Janus, which decodes nothing (moonshot)", "≥ 1×",
         f"{against_janus[GAPLESS]:.2f}×", against_janus[GAPLESS] >= 1),
        ("streams per core, packets stored as they are, against Janus", "≥ 2×",
         f"{against_janus[GAPLESS_PACKETS]:.1f}×", against_janus[GAPLESS_PACKETS] >= 2),
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
         "≤ 5 s, nothing lost", result, figures.storm_s <= 5 and figures.storm_whole),
        ("CPU of a client, against aiortc's own encoder", "≤ 0.5×", f"{client:.2f}×",
         client <= 0.5),
    ]  # fmt: skip


def goal_table(figures: Figures) -> str:
    text = row("what", "goal", "measured", "") + row(*["---"] * 4)
    for what, goal, measured, is_met in goals(figures):
        text += row(what, goal, measured, "" if is_met else "**missed**")
    return text


def client_table(clients: dict[str, list[float]]) -> str:
    peer = median(clients[CLIENT_PEER])
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
        HEADER.format(repetitions=REPETITIONS, unwritten=MAX_UNWRITTEN_S)
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
        + f" otherwise. Medians of {CLIENT_REPETITIONS} runs, side by side.\n\n"
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
