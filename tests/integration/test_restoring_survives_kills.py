"""Servers and clients are killed at random moments while recordings are restored.

Whatever the moment is, the recording is the one before or the one after, and it is restored in the
end: nothing is lost, nothing is there twice, and no unfinished file stays. `make soak` kills both a
hundred times.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import pathlib
import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import soundfile

from domain.recording.ledger import RestoreMode
from tests.rigs.owed import Owed, make_owed
from tests.rigs.processes import Process, Server, gapless, serving
from tests.rigs.relay import random_loss
from tests.rigs.spooled import Spooled, ended, said, spooled

KILLS = int(os.environ.get("KILLS", "5"))
KILLS_EACH = 2
"""Kills of one process while one recording is restored."""
SECONDS = 30
LOST = 0.4
SENDING_S = 1.0
"""More than what sending and rewriting take."""
SEEDS = pytest.mark.parametrize("seed", range(max(1, KILLS // (2 * KILLS_EACH + 1))))
MODES = pytest.mark.parametrize("mode", [RestoreMode.LOST, RestoreMode.ALL], ids=["lost", "all"])

pytestmark = pytest.mark.timeout(180)


# -- moments -----------------------------------------------------------------------------------


def wait_for_moment(folder: pathlib.Path, dice: random.Random, other: Process) -> bool:
    """Wait for a random moment of sending, rewriting or replacing; return False if all is over.

    All is over when the other process has ended. A recording is replaced within milliseconds, so
    one moment in three is the one in which the files for that show up.
    """
    moments: list[Callable[[], bool]] = [
        _after(dice.uniform(0.0, SENDING_S)),
        _after_file(folder, ".new", dice.uniform(0.0, 0.1)),
        lambda: _is_replacing(folder),
    ]
    has_come = dice.choice(moments)
    while not has_come():
        if other.process.poll() is not None:
            return False
        time.sleep(0.0002)
    return True


def _after(seconds: float) -> Callable[[], bool]:
    until = time.monotonic() + seconds
    return lambda: time.monotonic() >= until


def _after_file(folder: pathlib.Path, ending: str, seconds: float) -> Callable[[], bool]:
    seen: list[float] = []

    def has_come() -> bool:
        if not seen and any(name.endswith(ending) for name in os.listdir(folder)):  # noqa: PTH208
            seen.append(time.monotonic())
        return bool(seen) and time.monotonic() >= seen[0] + seconds

    return has_come


def _is_replacing(folder: pathlib.Path) -> bool:
    """Return whether the steps of replacing a recording are being taken."""
    try:
        return any(path.stat().st_size for path in folder.glob("*.swap"))
    except FileNotFoundError:
        return False


# -- what has to be there in the end -----------------------------------------------------------


def is_readable(owed: Owed) -> None:
    """Check a recording after a kill: whole, and the one before or the one after."""
    ledger = json.loads(owed.recording.with_suffix(".json").read_text())
    data, _ = soundfile.read(str(owed.recording), dtype="int16", always_2d=True)
    assert sum(span["length"] for span in ledger["spans"]) == len(data)
    assert hashlib.sha256(data.tobytes()).hexdigest() == ledger["sha256"]


def is_restored(owed: Owed, spools: pathlib.Path) -> None:
    """Check that a recording has what was captured, once, and that nothing else is left."""
    folder = owed.recording.parent
    assert visible(folder) == {
        owed.recording.name,
        owed.recording.with_suffix(".json").name,
        f"{owed.session_id}.restore",
    }
    assert visible(spools) == set()
    is_readable(owed)
    ledger: dict[str, Any] = json.loads(owed.recording.with_suffix(".json").read_text())
    assert ledger["restore"]["state"] == "complete"
    data, _ = soundfile.read(str(owed.recording), dtype="int16", always_2d=True)
    source = owed.captured()
    assert len(data) == len(source)
    kinds = {span["kind"] for span in ledger["spans"]}
    if owed.mode is RestoreMode.ALL:
        assert kinds == {"restored"}
        assert hashlib.sha256(data.tobytes()).hexdigest() == owed.sha256
        return
    assert kinds == {"received", "restored"}
    for span in ledger["spans"]:
        where = slice(span["start"], span["start"] + span["length"])
        if span["kind"] == "restored":
            assert np.array_equal(data[where], source[where]), span
    # received sound is the same sound, as no codec was in between; seams are blended with it
    assert np.array_equal(data, source)
    restored = sum(span["length"] for span in ledger["spans"] if span["kind"] == "restored")
    assert restored / len(data) == pytest.approx(owed.lost, abs=0.05)


def visible(folder: pathlib.Path) -> set[str]:
    return {path.name for path in folder.iterdir() if not path.name.startswith(".")}


# -- the tests ---------------------------------------------------------------------------------


@pytest.fixture
def processes() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@dataclass
class Rig:
    """A session that has ended, with what it has left to be restored."""

    folder: pathlib.Path
    mode: RestoreMode
    seed: int
    processes: ExitStack

    def __post_init__(self) -> None:
        self.recordings, self.spools = self.folder / "recordings", self.folder / "spools"
        self.dice = random.Random(self.seed)
        self.kills = 0

    def make(self) -> Owed:
        for path in self.recordings.glob("*"):
            path.unlink()  # it was restored before there were enough kills
        return asyncio.run(
            make_owed(
                self.recordings, self.spools, seconds=SECONDS, mode=self.mode, lost=LOST,
                seed=self.seed,
            )
        )  # fmt: skip

    def serve(self, port: str = "0") -> Server:
        return self.processes.enter_context(serving(self.recordings, "--port", port))

    def send(self, server: Server) -> Process:
        command = ("spool", "send", "--spool", str(self.spools), "--server", server.url)
        return self.processes.enter_context(gapless(*command))

    def recover(self) -> None:
        recovering = self.processes.enter_context(gapless("recover", str(self.recordings)))
        assert recovering.end() == 0, recovering.errors

    def finish(self, client: Process, server: Server) -> None:
        """Let everything be sent. A client waits for ten seconds for a server that is away."""
        if client.end(timeout_s=60) != 0:
            assert "it is kept" in client.lines[-1], client.lines + client.errors
            client = self.send(server)
            assert client.end(timeout_s=60) == 0, client.lines + client.errors
        assert server.process.stop() == 0

    def kill(self, process: Process) -> None:
        process.kill()
        self.kills += 1


@MODES
@SEEDS
def test_a_server_is_killed(
    tmp_path: pathlib.Path, processes: ExitStack, mode: RestoreMode, seed: int
) -> None:
    rig = Rig(tmp_path, mode, seed, processes)
    while rig.kills < KILLS_EACH:
        owed = rig.make()
        server = rig.serve()
        client = rig.send(server)
        client.wait_for(" to http")
        while rig.kills < KILLS_EACH and wait_for_moment(rig.recordings, rig.dice, client):
            rig.kill(server.process)
            if rig.dice.random() < 0.5:
                rig.recover()
                is_readable(owed)
            server = rig.serve(server.url.rpartition(":")[2])
            is_readable(owed)
        rig.finish(client, server)
        is_restored(owed, rig.spools)


@MODES
@SEEDS
def test_a_client_is_killed(
    tmp_path: pathlib.Path, processes: ExitStack, mode: RestoreMode, seed: int
) -> None:
    rig = Rig(tmp_path, mode, seed, processes)
    while rig.kills < KILLS_EACH:
        owed = rig.make()
        server = rig.serve()
        client = rig.send(server)
        while rig.kills < KILLS_EACH and wait_for_moment(rig.recordings, rig.dice, client):
            rig.kill(client)
            client = rig.send(server)
        rig.finish(client, server)
        is_restored(owed, rig.spools)


@SEEDS
async def test_a_server_is_killed_while_it_records(tmp_path: pathlib.Path, seed: int) -> None:
    dice = random.Random(seed)
    mode = dice.choice(["lost", "all"])
    async with spooled(tmp_path, mode, seconds=6, plan=random_loss(0.2, seed=seed)) as rig:
        client = rig.stream()
        await said(client, "connected")
        await asyncio.sleep(dice.uniform(0.0, 7.0))
        rig.server.process.kill()
        rig.serve_again()
        assert await ended(client) == 0, client.errors
        assert rig.server.process.stop() == 0
        rig.check()
        assert unfinished(rig.server.folder) == []


@SEEDS
async def test_a_client_is_killed_while_it_captures(tmp_path: pathlib.Path, seed: int) -> None:
    dice = random.Random(seed)
    mode = dice.choice(["lost", "all"])
    timeout = ("--inactivity-timeout-s", "2")
    async with spooled(
        tmp_path, mode, *timeout, seconds=6, plan=random_loss(0.2, seed=seed)
    ) as rig:
        client = rig.stream()
        await said(client, "connected")
        await asyncio.sleep(dice.uniform(0.5, 5.0))
        client.kill()
        captured = await exported(rig)
        sender = rig.send()
        assert await ended(sender) == 0, sender.errors
        assert rig.server.process.stop() == 0
        rig.check(captured=captured)
        assert unfinished(rig.server.folder) == []
        assert visible(rig.spool) == set()


async def exported(rig: Spooled) -> int:
    """Return how many samples a killed client has captured."""
    (spool_id,) = visible(rig.spool)
    file = str(rig.folder / "captured.wav")
    export = rig.gapless("spool", "export", spool_id, file, "--spool", str(rig.spool))
    assert await ended(export) == 0, export.errors
    return int(soundfile.info(file).frames)


def unfinished(folder: pathlib.Path) -> list[str]:
    """Return the files that are there only while a recording is made or rewritten."""
    endings = (".new", ".swap", ".part", ".journal", ".pcm")
    return sorted(name for name in visible(folder) if name.endswith(endings))
