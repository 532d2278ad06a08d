"""A server is killed around a stall: what it had written is true, and only the last second lacks.

Nobody can tell a stall from a network that holds packets at once. What is written before that is
known must stay true, whichever it was.
"""

from __future__ import annotations

import asyncio
import pathlib
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace

import pytest

from benchmarks.senders.expected import Expected, Truth, place_problems, truth_of
from benchmarks.senders.player import Offered, Sender, play
from benchmarks.senders.recorded import read_session
from benchmarks.senders.script import Item, Packet, frames, held, with_reports
from tests.rigs.processes import environment, serving

UNWRITTEN_S = 1.0
"""What may be missing of the sound that had arrived (the RPO)."""
STALLED = frames(6, stalls=[(2.3, 3.0)])
STEADY = frames(9)
SCRIPTS: dict[str, tuple[Sequence[Item], float]] = {
    "stall": (STALLED, 0.06),
    "stall, sender reports": (with_reports(STALLED), 0.06),
    "hold": (held(STEADY, begin=2.3, length=3, drain=2), 0.0),
    "hold, sender reports": (held(with_reports(STEADY), begin=2.3, length=3, drain=2), 0.0),
}


async def play_and_kill(url: str, senders: Sequence[Sender], process: subprocess.Popen[str],
                        kill_s: float) -> None:  # fmt: skip
    playing = asyncio.create_task(play(url, senders))
    while not senders[-1].began_at:
        assert not playing.done(), playing.exception()
        await asyncio.sleep(0.01)
    await asyncio.sleep(senders[0].began_at + kill_s - time.monotonic())
    process.kill()
    await asyncio.to_thread(process.wait)
    await playing


def up_to(truth: Truth, length: float) -> Truth:
    """The beginning of what was sent."""
    return replace(
        truth,
        length=length,
        sound=tuple((begin, min(end, length)) for begin, end in truth.sound if begin < length),
        holes=tuple((begin, min(end, length)) for begin, end in truth.holes if begin < length),
        onsets={tone: at for tone, at in truth.onsets.items() if at < length - 0.1},
    )


@pytest.mark.parametrize("kill_s", [5.6, 6.2, 8.0])
def test_what_was_written_is_true(tmp_path: pathlib.Path, kill_s: float) -> None:
    senders = []
    for name, (items, _) in SCRIPTS.items():
        sent = [item for item in items if item.at < kill_s + 0.1]
        senders.append(Sender(name, Offered(), lambda _answer, sent=sent: sent))
    with serving(tmp_path) as server:
        asyncio.run(play_and_kill(server.url, senders, server.process.process, kill_s))
    recovered = subprocess.run(
        [sys.executable, "-m", "entrypoints", "recover", str(tmp_path)], env=environment(),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert recovered.returncode == 0, recovered.stderr
    problems = {}
    for sender, (items, tolerance) in zip(senders, SCRIPTS.values(), strict=True):
        truth = truth_of(items)
        recorded = read_session(tmp_path, sender.session)
        arrived = [item for item in items
                   if isinstance(item, Packet) and item.at < kill_s - UNWRITTEN_S]  # fmt: skip
        found = [*recorded.problems]
        at_least = max(packet.start for packet in arrived)
        if recorded.length < at_least - tolerance:
            found.append(f"{recorded.length:.2f} s are recorded of {at_least:.2f} s")
        written = up_to(truth, recorded.length)
        found += place_problems(recorded, written, Expected(tolerance_s=tolerance))
        if found:
            problems[sender.name] = found
    assert problems == {}
