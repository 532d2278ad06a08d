"""Runs servers, generators and clients as processes, and measures them."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import pathlib
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

from tests.rigs.processes import environment

ROOT = pathlib.Path(__file__).parents[1]
_WAIT_S, _END_S = 120.0, 10.0
_PAGE = os.sysconf("SC_PAGE_SIZE")
_PACKET_BYTES = 768  # of struct sk_buff, struct skb_shared_info and the data


class Running:
    """A process whose output is read line by line."""

    def __init__(
        self, *command: str, env: dict[str, str] | None = None, host: str | None = None
    ) -> None:
        within = [] if host is None else ["ip", "netns", "exec", host]
        self.process = subprocess.Popen(
            [*within, sys.executable, *command], cwd=ROOT, env=environment(env),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        self.pids = [self.process.pid]
        """The processes that are measured."""
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def line(self, text: str) -> str:
        """Wait for the next line that contains `text`."""
        deadline = time.monotonic() + _WAIT_S
        while text not in (line := self._lines.get(timeout=deadline - time.monotonic())):
            pass
        return line

    def read_json(self, text: str) -> Any:
        """Wait for the next line that contains `text`, and parse it as JSON."""
        return json.loads(self.line(text))

    def connect(self) -> Any:
        """Tell a generator to connect its streams; return its report."""
        self.go()
        return self.read_json("connected")

    def go(self) -> None:
        """Send the line that the process waits for."""
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def url(self) -> str:
        """Wait for the address that a server prints."""
        return self.line("listening on").partition("listening on ")[2].split()[0]

    @property
    def cpus_s(self) -> list[float]:
        """The CPU time of each process, including all of its threads.

        Uses the processes' CPU clocks: /proc counts in hundredths of a second, a twentieth of what
        a client uses during a measurement.
        """
        return [time.clock_gettime(_clock_of(pid)) for pid in self.pids]

    @property
    def resident_mb(self) -> float:
        pages = sum(int(self._proc(pid, "statm").split()[1]) for pid in self.pids)
        return pages * _PAGE / 2**20

    @property
    def peak_mb(self) -> float:
        """The most memory that the process has had."""
        lines = self._proc(self.process.pid, "status").splitlines()
        (peak,) = (line for line in lines if line.startswith("VmHWM:"))
        return int(peak.split()[1]) / 1024

    @property
    def threads(self) -> int:
        stats = [self._proc(pid, "stat").rpartition(")")[2].split() for pid in self.pids]
        return sum(int(fields[17]) for fields in stats)

    def terminate(self) -> None:
        """Send SIGTERM and wait for the process to exit."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(_WAIT_S)

    def _proc(self, pid: int, name: str) -> str:
        return pathlib.Path(f"/proc/{pid}/{name}").read_text()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line)


def _clock_of(pid: int) -> int:
    """Return the CPU-time clock of a process; raises `ProcessLookupError` if it does not exist."""
    clock = ctypes.c_int()  # clockid_t
    if code := ctypes.CDLL(None).clock_getcpuclockid(pid, ctypes.byref(clock)):
        raise OSError(code, os.strerror(code))
    return clock.value


def waiting_packets() -> int:
    """Return an upper bound of the packets waiting in this machine's UDP sockets.

    The kernel counts their memory (``rx_queue``), which is at least `_PACKET_BYTES` per packet.
    """
    sockets = pathlib.Path("/proc/net/udp").read_text().splitlines()[1:]
    queued = (int(line.split()[4].partition(":")[2], 16) for line in sockets)
    return sum(queued) // _PACKET_BYTES


@contextlib.contextmanager
def running(
    *command: str, env: dict[str, str] | None = None, host: str | None = None
) -> Iterator[Running]:
    """Run a process that is terminated when the block is left.

    `host` is the network namespace to run it in.
    """
    process = Running(*command, env=env, host=host)
    try:
        yield process
    finally:
        process.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.process.wait(_END_S)
        process.process.kill()
        process.process.wait()
        for stream in (process.process.stdin, process.process.stdout):
            assert stream is not None
            with contextlib.suppress(OSError):
                stream.close()


@contextlib.contextmanager
def generating(url: str, streams: int, seconds: float, *more: str) -> Iterator[Running]:
    """Run a generator and wait until it is ready to connect its streams."""
    with running("-m", "benchmarks.generator", url, str(streams), str(seconds), *more) as process:
        process.line("ready")
        yield process
