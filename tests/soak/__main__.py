"""Runs the soak and prints its figures as tables; the exit code is 1 if a bound is broken."""

from __future__ import annotations

import argparse
import asyncio
import collections
import contextlib
import json
import pathlib
import random
import secrets
import shutil
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import aiohttp

from tests.rigs.clients import Remote
from tests.rigs.processes import environment
from tests.rigs.tls import self_signed
from tests.soak.attacker import ATTACKS
from tests.soak.sessions import NAME
from tests.soak.visitors import Outcomes, visit
from tests.soak.watching import Watch, kinds_of_lines, table

CLEAR_S = 30.0
STEADY_S, MAX_MEMORY_MB, MAX_MEMORY_AT_FIRST_MB = 600.0, 32.0, 128.0
"""Growth of the resident memory over the second half of a run. The allocator keeps what each attack
needed once, so that a run of less than ten minutes is all growth."""
MAX_DESCRIPTORS = 50
TRACEBACK = "Traceback (most recent"
MAX_LOG_PER_SESSION, MAX_LOG_OF_ATTACKS_PER_S = 300, 700
"""Bytes: the log has some lines of each session, and few of each attack."""


@dataclass(frozen=True)
class Plan:
    """What is played."""

    minutes: float = 120.0
    sessions: int = 100
    longest_s: float = 60.0
    loss: float = 0.05
    attacked: bool = True
    lasts_s: float = 5.0
    only: str = ""
    seed: int = 1
    options: tuple[str, ...] = ()
    """More options of `gapless serve`."""


@dataclass
class Figures:
    """What came of it."""

    outcomes: Outcomes
    watch: Watch
    attacks: list[dict[str, Any]]
    exit_code: int | None
    """Of the server; None if it still ran at the end, as it should."""
    log: str
    cleared: int = 0
    """Bytes of the attacker's recordings that were removed meanwhile."""

    @property
    def max_memory_mb(self) -> float:
        return MAX_MEMORY_MB if self.watch.lasted_s > STEADY_S else MAX_MEMORY_AT_FIRST_MB

    @property
    def max_log_per_s(self) -> float:
        """Bytes; a well-behaved session comes with lines of its own."""
        sessions_per_s = self.outcomes.count / self.watch.lasted_s
        return MAX_LOG_PER_SESSION * sessions_per_s + MAX_LOG_OF_ATTACKS_PER_S

    def broken_bounds(self) -> list[str]:
        broken = []
        if self.exit_code is not None:
            broken.append(f"the server ended with {self.exit_code}")
        if self.outcomes.broken:
            broken.append(f"{len(self.outcomes.broken)} recordings are not whole")
        if self.outcomes.disturbed > 0.1 * self.outcomes.count or not self.outcomes.whole:
            broken.append("too few sessions show anything: this machine is too busy")
        if (grown := self.watch.growth(lambda s: s.memory_mb)) > self.max_memory_mb:
            broken.append(f"memory grew by {grown:.0f} MB")
        if (grown := self.watch.growth(lambda s: s.descriptors)) > MAX_DESCRIPTORS:
            broken.append(f"descriptors grew by {grown:.0f}")
        if (rate := self.watch.rate(lambda s: s.log_bytes)) > self.max_log_per_s:
            broken.append(f"the log grew by {rate:.0f} bytes a second")
        if tracebacks := self.log.count(TRACEBACK):
            broken.append(f"{tracebacks} tracebacks in the log")
        return broken

    def __str__(self) -> str:
        outcomes, watch = self.outcomes, self.watch
        rows = [
            ("length of the run", f"{watch.lasted_s / 60:.1f} min", ""),
            ("well-behaved sessions", outcomes.count, ""),
            ("recordings that are whole", outcomes.whole, "all"),
            ("not judged: this machine held their senders up", outcomes.disturbed, "a tenth"),
            ("sound streamed", f"{outcomes.seconds / 3600:.2f} h", ""),
            ("packets that the network lost for good", outcomes.lost_by_network, ""),
            ("offers refused (429, 503), then accepted", outcomes.retried, ""),
            *(
                (name, f"{watch.highest(value):.0f} at most, {watch.growth(value):+.1f}", bound)
                for name, value, bound in (
                    ("resident memory, MB", lambda s: s.memory_mb, f"+{self.max_memory_mb:g}"),
                    ("descriptors", lambda s: s.descriptors, f"+{MAX_DESCRIPTORS}"),
                    ("threads", lambda s: s.threads, ""),
                )
            ),
            (
                "log, bytes/s",
                f"{watch.rate(lambda s: s.log_bytes):.0f}",
                f"{self.max_log_per_s:.0f}",
            ),
            ("tracebacks in the log", self.log.count(TRACEBACK), 0),
            (
                "written and kept, MB/s",
                f"{watch.rate(lambda s: s.disk_mb) + self.cleared / 1e6 / watch.lasted_s:.2f}",
                "",
            ),
            ("CPU of the server", f"{watch.rate(lambda s: s.cpu_s):.0%}", ""),
        ]
        text = table(("figure", "measured (growth over the second half)", "bound"), rows)
        if self.attacks:
            text += "\n\n" + table(("attack", "times", "longest", "what came back"), self._played())
        problems = [f"{n} x {it}" for it, n in kinds_of_lines("\n".join(outcomes.broken)).items()]
        problems += [f"log: {n} x {it}" for it, n in kinds_of_lines(self.log).most_common(12)]
        return "\n".join([text, "", *problems, *(f"BROKEN: {it}" for it in self.broken_bounds())])

    def _played(self) -> Iterator[tuple[object, ...]]:
        for name in ATTACKS:
            runs = [line for line in self.attacks if line["attack"] == name]
            came = collections.Counter[str]()
            for line in runs:
                came.update(line["outcome"])
            longest = max((line["took"] for line in runs), default=0.0)
            what = ", ".join(f"{word} × {count}" for word, count in came.most_common(6))
            yield name, len(runs), f"{longest:.0f} s", what.replace("|", "/")


async def soak(plan: Plan, folder: pathlib.Path) -> Figures:
    """Run a server, its visitors and an attacker."""
    recordings, log = folder / "recordings", folder / "log"
    recordings.mkdir()
    token, seconds = secrets.token_urlsafe(24), plan.minutes * 60
    cert, key = self_signed(folder)
    command = [
        sys.executable, "-m", "entrypoints", "serve", "--port", "0", "--recordings",
        str(recordings), "--tls-cert", cert, "--tls-key", key,
        "--max-sessions", str(3 * plan.sessions + 50), *plan.options,
    ]  # fmt: skip
    given = {"GAPLESS_TOKEN": token}
    with log.open("wb") as written, _running(command, written, given) as server:
        url = await _listening(log, server)
        watch = Watch(server.pid, log, recordings)
        connector = aiohttp.TCPConnector(
            ssl=ssl.create_default_context(cafile=cert), force_close=True, limit=0
        )
        headers = {"Authorization": f"Bearer {token}"}
        timeout = aiohttp.ClientTimeout(total=60)
        async with aiohttp.ClientSession(
            connector=connector, headers=headers, timeout=timeout
        ) as http:
            attacks = folder / "attacks"
            attacker = [
                sys.executable, "-m", "tests.soak.attacker", url, "--token", token, "--folder",
                str(recordings), "--udp-port", str(await _udp_port(server.pid)), "--seed",
                str(plan.seed), "--lasts", str(plan.lasts_s), "--only", plan.only,
            ]  # fmt: skip
            clearing = _Clearing(recordings)
            working = [asyncio.create_task(task) for task in (watch.run(), clearing.run())]
            with attacks.open("wb") as played, contextlib.ExitStack() as stack:
                if plan.attacked:
                    stack.enter_context(_running(attacker, played))
                outcomes = await _visits(plan, Remote(url, http), recordings, seconds)
            for task in working:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task  # or it has failed
        exit_code = server.poll()
        lines = [json.loads(line) for line in attacks.read_text().splitlines()]
    text = log.read_text(errors="replace")
    return Figures(outcomes, watch, lines, exit_code, text, clearing.removed)


class _Clearing:
    """Removes the recordings of the attacker: in two hours they could fill a disk."""

    def __init__(self, folder: pathlib.Path) -> None:
        self._folder = folder
        self.removed = 0
        """Bytes."""

    async def run(self) -> None:
        while True:
            await asyncio.sleep(CLEAR_S)
            await asyncio.to_thread(self._clear)

    def _clear(self) -> None:
        for path in self._folder.glob(f"*-{NAME}*"):
            with contextlib.suppress(FileNotFoundError):
                is_old = time.time() - path.lstat().st_mtime > CLEAR_S
                if path.suffix in (".wav", ".json") and path.is_file() and is_old:
                    self.removed += path.stat().st_size
                    path.unlink()


async def _visits(plan: Plan, server: Remote, folder: pathlib.Path, seconds: float) -> Outcomes:
    """Keep all places taken until the time is over; each session then ends by itself."""
    outcomes, over = Outcomes(), time.monotonic() + seconds

    async def place(number: int) -> None:
        chance = random.Random(f"{plan.seed}/{number}")
        await asyncio.sleep(chance.uniform(0, min(5.0, seconds / 4)))
        while time.monotonic() < over:
            longest_s = max(2.0, min(plan.longest_s, over - time.monotonic()))
            await visit(
                server, folder, outcomes, loss=plan.loss, chance=chance, longest_s=longest_s
            )

    await asyncio.gather(*(place(number) for number in range(plan.sessions)))
    return outcomes


@contextlib.contextmanager
def _running(
    command: list[str], output: Any, env: dict[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        command, env=environment(env), stdout=output, stderr=subprocess.STDOUT
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


async def _listening(log: pathlib.Path, server: subprocess.Popen[bytes]) -> str:
    async with asyncio.timeout(60):
        while "listening on " not in (text := log.read_text()):
            assert server.poll() is None, text
            await asyncio.sleep(0.05)
    return text.partition("listening on ")[2].split()[0]


async def _udp_port(process: int) -> int:
    """The UDP port of a server's first worker."""
    output = await asyncio.to_thread(
        subprocess.run, ["ss", "-ulnpH"], capture_output=True, text=True, check=True
    )
    family = pathlib.Path(f"/proc/{process}/task/{process}/children").read_text().split()
    for line in output.stdout.splitlines():
        if any(f"pid={pid}," in line for pid in (str(process), *family)):
            return int(line.split()[3].rpartition(":")[2])
    raise AssertionError(output.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=120.0)
    parser.add_argument("--sessions", type=int, default=100)
    parser.add_argument("--longest", type=float, default=60.0, help="seconds of a session")
    parser.add_argument("--loss", type=float, default=0.05)
    parser.add_argument("--lasts", type=float, default=5.0, help="seconds of an attack")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="play these attacks only: names, with commas")
    parser.add_argument("--calm", action="store_true", help="without an attacker")
    parser.add_argument("--keep", metavar="FOLDER", help="keep the log and what is not whole")
    parser.add_argument("options", nargs="*", help="of gapless serve, after --")
    given = parser.parse_args()
    plan = Plan(
        minutes=given.minutes, sessions=given.sessions, longest_s=given.longest, loss=given.loss,
        attacked=not given.calm, lasts_s=given.lasts, only=given.only, seed=given.seed,
        options=tuple(given.options),
    )  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="gapless-soak-") as folder:
        figures = asyncio.run(soak(plan, pathlib.Path(folder)))
        if given.keep:
            shutil.copytree(folder, given.keep, symlinks=True)
        print(figures)
        sys.exit(bool(figures.broken_bounds()))


if __name__ == "__main__":
    main()
