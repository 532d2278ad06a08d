"""What a server and its workers hold while they run, and whether it grows."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import os
import pathlib
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

INTERVAL_S = 1.0
LOW_WATERS = 5
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Sample:
    at: float
    memory_mb: float
    """Resident memory of all processes."""
    descriptors: int
    threads: int
    log_bytes: int
    disk_mb: float
    cpu_s: float


@dataclass
class Watch:
    """Samples of a server: its process, its workers, its log and its folder."""

    process: int
    log: pathlib.Path
    folder: pathlib.Path
    samples: list[Sample] = field(default_factory=list)

    async def run(self) -> None:
        while True:
            self.samples.append(await asyncio.to_thread(self._sample))
            await asyncio.sleep(INTERVAL_S)

    def _sample(self) -> Sample:
        pages = descriptors = threads = 0
        cpu_s = 0.0
        for process in self._family():
            try:
                pages += int((process / "statm").read_text().split()[1])
                descriptors += _count(process / "fd")
                threads += _count(process / "task")
                words = (process / "stat").read_text().rpartition(")")[2].split()
                cpu_s += (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")
            except OSError:
                continue  # it has just ended
        size = 0
        for path in self.folder.iterdir():
            with contextlib.suppress(FileNotFoundError):
                size += path.lstat().st_size
        return Sample(
            time.monotonic(), pages * _PAGE / 1e6, descriptors, threads,
            self.log.stat().st_size, size / 1e6, cpu_s,
        )  # fmt: skip

    def _family(self) -> list[pathlib.Path]:
        children = pathlib.Path(f"/proc/{self.process}/task/{self.process}/children")
        try:
            pids = [str(self.process), *children.read_text().split()]
        except OSError:
            pids = []
        return [pathlib.Path("/proc") / pid for pid in pids]

    def growth(self, value: Callable[[Sample], float]) -> float:
        """By how much a value has grown over the second half, along the line of its low waters.

        In the first half, tables, pools and caches of the interpreter and its libraries fill up.
        What an attack holds while it lasts comes and goes; what stays behind raises the low water.
        """
        half = self.samples[len(self.samples) // 2 :]
        parts = np.array_split([value(sample) for sample in half], LOW_WATERS)
        if not all(map(len, parts)):
            return 0.0
        slope = np.polyfit(range(LOW_WATERS), [part.min() for part in parts], 1)[0]
        return float(slope * (LOW_WATERS - 1))

    @property
    def lasted_s(self) -> float:
        return self.samples[-1].at - self.samples[0].at

    def highest(self, value: Callable[[Sample], float]) -> float:
        return max((value(sample) for sample in self.samples), default=0.0)

    def rate(self, value: Callable[[Sample], float]) -> float:
        """How much of a value came in a second, over the whole run."""
        return (value(self.samples[-1]) - value(self.samples[0])) / max(1e-9, self.lasted_s)


def _count(folder: pathlib.Path) -> int:
    return sum(1 for _ in folder.iterdir())


def kinds_of_lines(log: str) -> collections.Counter[str]:
    """How often each kind of line is there: those that differ in ids and numbers are one kind."""
    return collections.Counter(
        re.sub(r"[0-9a-f]*\d[0-9a-f]*", "N", line)[:100] for line in log.splitlines()
    )


def table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table of Markdown, to paste into a page."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)
