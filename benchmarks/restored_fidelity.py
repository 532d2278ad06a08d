"""Compares recordings over bad networks before and after they are restored."""

from __future__ import annotations

import asyncio
import json
import pathlib
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pystoi
import soundfile

from domain.recording.restoring import LOOK_AHEAD
from tests.rigs.network import network_before
from tests.rigs.processes import Server, gapless, serving
from tests.rigs.relay import Plan
from tests.rigs.sound import RATE, speech
from tests.rigs.spooled import SHIFT, ended, lag

SECONDS = 10
AT_ONCE = 4
BEFORE = "live"
STREAMS: Mapping[str, tuple[str, ...]] = {
    BEFORE: ("--no-spool",),
    "`--restore lost`": ("--restore", "lost"),
    "`--restore all`": ("--restore", "all"),
}
"""The streams of each network, all of which lose the same packets."""
KINDS = ("received", "recovered", "restored", "concealed", "silence")


@dataclass(frozen=True)
class RestoredRow:
    network: str
    stream: str
    verdict: Mapping[str, Any]
    """What `gapless verify` says."""
    stoi: float
    is_in_place: bool
    """Whether the sound is where it was captured, or late by what Opus delays it."""

    @property
    def is_restored(self) -> bool:
        """Whether it is all that was captured, where its stream has a spool."""
        if self.stream == BEFORE:
            return True
        left = sum(self.verdict["samples"][kind] for kind in KINDS[1:] if kind != "restored")
        return bool(not left and self.verdict["ok"] and self.is_in_place)

    def __str__(self) -> str:
        length = self.verdict["length_samples"]
        cells = [
            self.network if self.stream == BEFORE else "",
            self.stream,
            *(f"{self.verdict['samples'][kind] / length:.1%}" for kind in KINDS),
            "yes" if self.verdict["ok"] else "NO",
            f"{self.stoi:.3f}",
        ]
        return "| " + " | ".join(cells) + " |"


def sweep_restored(networks: Mapping[str, Callable[[], Plan]]) -> list[RestoredRow]:
    """Stream speech over each network, with and without a spool."""
    streams = [(network, stream) for network in networks for stream in STREAMS]
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        soundfile.write(str(folder / "source.wav"), speech(SECONDS), RATE, subtype="PCM_16")
        paths = asyncio.run(_record_all(folder, networks, streams))
        return [
            _compare(folder / "source.wav", path, *names)
            for path, names in zip(paths, streams, strict=True)
        ]


async def _record_all(
    folder: pathlib.Path,
    networks: Mapping[str, Callable[[], Plan]],
    streams: list[tuple[str, str]],
) -> list[pathlib.Path]:
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(server: Server, index: int, network: str, stream: str) -> pathlib.Path:
        async with gate:
            print(f"  {network}, {stream}", file=sys.stderr)
            return await _record(folder, server, f"s{index}", networks[network](), stream)

    with serving(folder / "recordings", "--reorder-hold-s", "0.7") as server:
        return await asyncio.gather(
            *(one(server, index, *names) for index, names in enumerate(streams))
        )


async def _record(
    folder: pathlib.Path, server: Server, name: str, plan: Plan, stream: str
) -> pathlib.Path:
    """Stream the source, and return its recording."""
    spool = () if stream == BEFORE else ("--spool", str(folder / name))
    async with network_before(server.url, plan=plan, again=lambda _index: []) as network:
        with gapless(
            "stream", "--server", network.url, "--name", name, "--bitrate", "32000",
            "--expected-loss", "20", "--capture", "file", "--input", str(folder / "source.wav"),
            *spool, *STREAMS[stream],
        ) as client:  # fmt: skip
            if await ended(client, timeout_s=120) != 0:
                raise RuntimeError(f"{client.lines + client.errors}")
    (ledger,) = server.folder.glob(f"*{name}-*.json")
    return ledger.with_suffix(".wav")


def _compare(source: pathlib.Path, path: pathlib.Path, network: str, stream: str) -> RestoredRow:
    compared = () if stream == BEFORE else ("--source", str(source))
    with gapless("verify", "--json", *compared, str(path)) as verifying:
        verifying.end()
    recorded, _ = soundfile.read(str(path), dtype="int16", always_2d=True)
    original = speech(SECONDS)
    verdict = json.loads(verifying.lines[0])
    late = lag(recorded[:, 0], original[:, 0])
    # what was received completely is not rewritten
    expected = LOOK_AHEAD if not verdict["samples"]["restored"] else 0
    recorded, original = recorded[max(0, late) :, 0], original[max(0, -late) :, 0]
    length = min(len(recorded), len(original))
    stoi = float(pystoi.stoi(original[:length], recorded[:length], RATE))
    return RestoredRow(network, stream, verdict, stoi, abs(late - expected) <= SHIFT)


HEADER = f"""
## Before and after restoring

{SECONDS} s of the same speech, streamed three times over each network by `gapless stream`
(32 kbit/s), which loses the same packets each time, and all that are sent again. *Live* is the
recording of a client that keeps nothing. The others get what the client has captured: what was
lost, or everything. *Verified* is the verdict of `gapless verify`, which compares each restored
sample with what was captured.

"""
COLUMNS = ("network", "recording", *KINDS, "verified", "STOI")
HEAD = "| " + " | ".join(COLUMNS) + " |\n" + "|---" * len(COLUMNS) + "|\n"


def table(rows: list[RestoredRow]) -> str:
    return HEADER + HEAD + "\n".join(map(str, rows)) + "\n"
