"""A client with a spool and a server that restores, as processes, with a network between them."""

from __future__ import annotations

import asyncio
import json
import pathlib
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile

from domain.recording.restoring import LOOK_AHEAD
from tests.rigs.network import Network, network_before
from tests.rigs.processes import Process, Server, gapless, serving
from tests.rigs.relay import Plan, clean
from tests.rigs.sound import speech

RATE = 48_000
KINDS = {"received", "restored", "dtx"}
SHIFT = 5
"""Samples by which Opus' own filters (mode `voip`) shift speech."""


@dataclass
class Spooled:
    """Both ends, and what is between them."""

    folder: pathlib.Path
    mode: str
    server: Server
    network: Network
    source: npt.NDArray[Any]
    """What the client captures, shape (n, channels)."""
    processes: ExitStack

    @property
    def spool(self) -> pathlib.Path:
        return self.folder / "spool"

    def kept(self) -> list[pathlib.Path]:
        """Return the spools that are there."""
        return [item for item in self.spool.iterdir() if item.is_dir()]

    def stream(self, *arguments: str, url: str | None = None) -> Process:
        """Start to stream the source."""
        return self.gapless(
            "stream", "--server", url or self.network.url, "--spool", str(self.spool),
            "--capture", "file", "--input", str(self.folder / "source.wav"),
            "--restore", self.mode, *arguments,
        )  # fmt: skip

    def send(self, *arguments: str) -> Process:
        """Start to send what is owed."""
        return self.gapless("spool", "send", "--spool", str(self.spool), *arguments)

    def gapless(self, *arguments: str) -> Process:
        return self.processes.enter_context(gapless(*arguments))

    def serve_again(self) -> None:
        """Start another server process at the same port."""
        port = self.server.url.rpartition(":")[2]
        self.server = self.processes.enter_context(serving(self.server.folder, "--port", port))

    def check(self, *, captured: int | None = None) -> dict[str, Any]:
        """Check the only recording against what was captured; return its ledger."""
        (path,) = sorted(self.server.folder.glob("*.wav"))
        return check(path, self.source[:captured], self.mode)


def check(path: pathlib.Path, source: npt.NDArray[Any], mode: str) -> dict[str, Any]:
    """Check a restored recording, which has one part, against what was captured."""
    ledger: dict[str, Any] = json.loads(path.with_suffix(".json").read_text())
    recorded, _ = soundfile.read(str(path), dtype="int16", always_2d=True)
    assert ledger["restore"]["state"] == "complete", ledger["restore"]
    kinds = {span["kind"] for span in ledger["spans"]}
    if mode == "lost" and not ledger["restore"]["restored"]:
        # what was received live is not rewritten, and has the padding of the last packet
        assert kinds <= {"received", "dtx"}
        assert 0 <= len(recorded) - len(source) <= 0.0165 * RATE
        assert abs(lag(recorded[:, 0], source[:, 0]) - LOOK_AHEAD) <= SHIFT
        return ledger
    assert len(recorded) == len(source), ledger["spans"][:20]
    if mode == "all":
        assert kinds == {"restored"}
        assert np.array_equal(recorded, source)
        return ledger
    assert kinds <= KINDS, ledger["spans"]
    for span in ledger["spans"]:
        where = slice(span["start"], span["start"] + span["length"])
        if span["kind"] == "restored":
            assert np.array_equal(recorded[where], source[where]), span
    # live and restored sound lie in one place
    assert abs(lag(recorded[:, 0], source[:, 0])) <= SHIFT
    return ledger


def lag(recorded: npt.NDArray[Any], source: npt.NDArray[Any]) -> int:
    """Return by how many samples the recorded sound is late."""
    size = 1 << (2 * len(source) - 1).bit_length()
    one, other = (np.fft.rfft(item.astype(float), size) for item in (recorded, source))
    found = int(np.argmax(np.fft.irfft(one * np.conj(other), size)))
    return found if found < size // 2 else found - size


@asynccontextmanager
async def spooled(
    folder: pathlib.Path,
    mode: str,
    *settings: str,
    seconds: float = 8.0,
    plan: Plan = clean,
) -> AsyncIterator[Spooled]:
    """Run a server, and a network before it that loses packets as planned."""
    samples = speech(seconds).reshape(-1, 1)
    soundfile.write(str(folder / "source.wav"), samples, RATE, subtype="PCM_16")
    with ExitStack() as processes:
        server = processes.enter_context(serving(folder / "recordings", *settings))
        async with network_before(server.url, plan=plan) as network:
            yield Spooled(folder, mode, server, network, samples, processes)


async def said(process: Process, text: str, *, timeout_s: float = 30.0) -> str:
    """Wait until a process says something."""
    return await asyncio.to_thread(process.wait_for, text, timeout_s=timeout_s)


async def ended(process: Process, *, timeout_s: float = 60.0) -> int:
    """Wait for the end of a process; return its exit code."""
    return await asyncio.to_thread(process.end, timeout_s=timeout_s)
