"""Draws the plots of docs/performance.md."""

from __future__ import annotations

import pathlib
import statistics

import matplotlib as mpl

from benchmarks.figures import GAPLESS, Figures

mpl.use("Agg")
from matplotlib import pyplot

SIZE = (6.4, 3.6)


def draw(figures: Figures, folder: pathlib.Path) -> None:
    """Plot CPU and lag over the number of streams, and the distribution of packet latency."""
    pyplot.rcParams.update({"figure.figsize": SIZE, "figure.dpi": 120, "axes.grid": True,
                            "grid.alpha": 0.3, "axes.spines.top": False,
                            "axes.spines.right": False})  # fmt: skip
    _cpu(figures, folder / "performance-cpu.png")
    _lag(figures, folder / "performance-lag.png")
    _latency(figures, folder / "performance-latency.png")


def _cpu(figures: Figures, path: pathlib.Path) -> None:
    figure, axes = pyplot.subplots()
    curves = {GAPLESS: [(seen.streams, seen.cpu) for seen in figures.curve]}
    for server in dict.fromkeys(point.server for point in figures.points):
        if server != GAPLESS:
            loads = sorted({p.streams for p in figures.points if p.server == server})
            curves[server] = [
                (n, statistics.median(
                    p.cpu for p in figures.points if (p.server, p.streams) == (server, n)
                ))
                for n in loads
            ]  # fmt: skip
    for server, points in curves.items():
        streams, cpu = zip(*points, strict=True)
        axes.plot(streams, [100 * share for share in cpu], marker="o", label=server)
    axes.set(xlabel="streams", ylabel="CPU (% of a core)", xlim=(0, None), ylim=(0, None))
    axes.legend()
    _save(figure, path)


def _lag(figures: Figures, path: pathlib.Path) -> None:
    figure, axes = pyplot.subplots()
    streams = [seen.streams for seen in figures.curve]
    for percent in (99, 95, 50):
        marks = [statistics.quantiles(seen.lag_ms, n=100)[percent - 1] for seen in figures.curve]
        axes.plot(streams, marks, marker="o", label=f"p{percent}")
    axes.set(xlabel="streams", ylabel="event-loop lag (ms)", xlim=(0, None), ylim=(0, None))
    axes.legend()
    _save(figure, path)


def _latency(figures: Figures, path: pathlib.Path) -> None:
    figure, axes = pyplot.subplots()
    for seen in figures.curve:
        ordered = sorted(seen.latency_ms)
        shares = [100 * (index + 1) / len(ordered) for index in range(len(ordered))]
        axes.plot(ordered, shares, label=f"{seen.streams} streams")
    axes.set(
        xlabel="latency from the sender to the store (ms)", ylabel="% of packets", xlim=(0, 50)
    )
    axes.legend()
    _save(figure, path)


def _save(figure: pyplot.Figure, path: pathlib.Path) -> None:
    figure.tight_layout()
    figure.savefig(path)
    pyplot.close(figure)
