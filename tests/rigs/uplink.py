"""A slow up-link between a client and a server, as network namespaces, and what passes it."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.rigs import hosts
from tests.rigs.hosts import Hosts
from tests.rigs.processes import environment

KBITS = 64
QUEUE_BYTES = 8_000
"""A second of the up-link's rate: what waits for it; more is dropped."""
_WAIT_S = 60.0


def missing() -> str | None:
    """Return why this machine cannot have a slow up-link, or None if it can."""
    if (why := hosts.missing()) is not None:
        return why
    with hosts.hosts() as joined:
        shaping = _shape(joined, check=False)
    return None if shaping.returncode == 0 else f"tc: {shaping.stderr.strip()}"


@dataclass
class Uplink:
    """The hosts at its ends, and what a sniffer at its router has seen."""

    client: str
    """The client's network namespace."""
    server: str
    """The server's."""
    packets: int = 0
    """Packets of media that passed, or were dropped."""
    dropped: int = 0
    media_bytes: int = 0
    other_bytes: int = 0
    """What passed over TCP, with the headers of IP."""
    delays: list[float] = field(default_factory=list)
    """How long the packets of media waited, in seconds."""
    lines: queue.SimpleQueue[str] = field(default_factory=queue.SimpleQueue)

    def watch(self, is_enough: Callable[[], bool], *, timeout_s: float = _WAIT_S) -> None:
        """Wait until enough has passed."""
        deadline = time.monotonic() + timeout_s
        while not is_enough():
            try:
                seen = json.loads(self.lines.get(timeout=max(0.0, deadline - time.monotonic())))
            except queue.Empty:
                raise AssertionError(f"no more than {self.other_bytes} bytes passed") from None
            self.packets, self.dropped = seen["packets"], seen["dropped"]
            self.media_bytes, self.other_bytes = seen["media_bytes"], seen["other_bytes"]
            self.delays += seen["delays"]


@contextmanager
def slow_uplink() -> Iterator[Uplink]:
    """Join a client's host and a server's by a slow up-link, until the block is left."""
    with hosts.hosts() as joined:
        _shape(joined)
        sniffer = subprocess.Popen(
            ["ip", "netns", "exec", joined.router, sys.executable, "-m", "tests.rigs.sniffer",
             "c", "s"],
            stdout=subprocess.PIPE, text=True, env=environment(),
        )  # fmt: skip
        uplink = Uplink(joined.client, joined.server)
        assert sniffer.stdout is not None
        reader = threading.Thread(target=_read, args=(sniffer.stdout, uplink.lines))
        reader.start()
        try:
            uplink.lines.get(timeout=_WAIT_S)
            yield uplink
        finally:
            sniffer.kill()
            sniffer.wait()
            reader.join()
            sniffer.stdout.close()


def _shape(joined: Hosts, *, check: bool = True) -> subprocess.CompletedProcess[str]:
    command = (
        "tc", "-n", joined.router, "qdisc", "add", "dev", "s", "root", "tbf",
        "rate", f"{KBITS}kbit", "burst", "1600", "limit", str(QUEUE_BYTES),
    )  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, check=check)


def _read(output: Iterator[str], lines: queue.SimpleQueue[str]) -> None:
    for line in output:
        lines.put(line)
