"""Sends junk of all kinds to a UDP port from many addresses; also a command, for a process.

One system call sends many datagrams, so that what floods is faster than what is flooded.
"""

from __future__ import annotations

import argparse
import ctypes
import errno
import json
import os
import pathlib
import random
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from adapters.transport.sockets.datagrams import Header, Iovec, Message
from tests.rigs.junk import Live, junk

SOURCES = 1009
"""Addresses that send; a prime number, so that each sends all kinds."""
_VARIANTS = 50
"""Different datagrams of each kind."""
_TOGETHER = 16
"""Datagrams that one call sends, from one address."""
_TICK_S = 0.001


class Sender:
    """Sends the same datagrams again and again."""

    def __init__(self, datagrams: Sequence[bytes], address: tuple[str, int]) -> None:
        self._sendmmsg = ctypes.CDLL(None, use_errno=True).sendmmsg
        host = socket.inet_aton(address[0])
        name = struct.pack("=H", socket.AF_INET) + address[1].to_bytes(2, "big") + host + bytes(8)
        self._kept = [ctypes.create_string_buffer(data, len(data) or 1) for data in datagrams]
        self._name = ctypes.create_string_buffer(name, len(name))
        # the first ones follow the last once more, so that a call never has to begin again
        self._count = len(datagrams)
        count = self._count + _TOGETHER
        self._iovecs, self._messages = (Iovec * count)(), (Message * count)()
        for index in range(count):
            data, kept = datagrams[index % self._count], self._kept[index % self._count]
            self._iovecs[index] = Iovec(ctypes.addressof(kept), len(data))
            self._messages[index].header = Header(
                name=ctypes.addressof(self._name),
                name_length=len(name),
                iov=ctypes.addressof(self._iovecs[index]),
                iov_length=1,
            )
        self._next = 0

    def send(self, descriptor: int, count: int) -> int:
        """Send the next `count` datagrams, `_TOGETHER` at most; return how many were sent."""
        at = ctypes.byref(self._messages, self._next * ctypes.sizeof(Message))
        sent = self._sendmmsg(descriptor, at, min(count, _TOGETHER), 0)
        if sent < 0:
            code = ctypes.get_errno()
            if code not in (errno.EAGAIN, errno.ECONNREFUSED):
                raise OSError(code, os.strerror(code))
            return 0
        self._next = (self._next + sent) % self._count
        return int(sent)


def flood(sender: Sender, descriptors: Sequence[int], *, rate: int, seconds: float) -> int:
    """Send `rate` datagrams a second, from one socket after the other; return how many were sent.

    What cannot be sent in time is left out: the rate is never exceeded.
    """
    began = before = time.monotonic()
    sent, turn, due = 0, 0, 0.0
    while (now := time.monotonic()) - began < seconds:
        due = min(due + rate * (now - before), rate * 10 * _TICK_S)
        before = now
        while due >= 1:
            count = sender.send(descriptors[turn], int(due))
            turn = (turn + 1) % len(descriptors)
            due -= max(count, 1)
            sent += count
        time.sleep(_TICK_S)
    return sent


@dataclass
class Flooding:
    """A process that floods a port."""

    process: subprocess.Popen[str]

    @property
    def is_over(self) -> bool:
        return self.process.poll() is not None

    def sent(self) -> int:
        """Wait for the end, and return how many datagrams were sent."""
        output, _ = self.process.communicate(timeout=60)
        assert self.process.returncode == 0
        return int(output)


@contextmanager
def flooding(
    address: tuple[str, int],
    live: Live,
    *,
    rate: int,
    seconds: float,
    kinds: Sequence[str] = (),
    sources: int = SOURCES,
    through: Sequence[socket.socket] = (),
    on_cpu: int | None = None,
) -> Iterator[Flooding]:
    """Flood a port from a process of its own.

    The junk comes from `sources` addresses of this machine, or from those of the sockets `through`
    which it goes. All kinds are sent if none is named.
    """
    given = {
        "address": address, "ssrcs": list(live.ssrcs), "names": list(live.names), "rate": rate,
        "seconds": seconds, "kinds": list(kinds), "sources": sources,
        "descriptors": [one.fileno() for one in through], "on_cpu": on_cpu,
    }  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.rigs.flooding", json.dumps(given)],
        stdout=subprocess.PIPE,
        text=True,
        pass_fds=given["descriptors"],  # type: ignore[arg-type]
    )
    try:
        yield Flooding(process)
    finally:
        process.kill()
        process.communicate()


def dropped() -> int:
    """How many datagrams all UDP sockets of this machine have dropped for lack of room."""
    lines = pathlib.Path("/proc/net/snmp").read_text().splitlines()
    names, values = (line.split() for line in lines if line.startswith("Udp:"))
    counters = dict(zip(names[1:], map(int, values[1:]), strict=True))
    return counters["RcvbufErrors"] + counters["MemErrors"]


def cpu_s(process: int) -> float:
    """The CPU time that a process has used."""
    text = pathlib.Path(f"/proc/{process}/stat").read_text()
    user, system = text.rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def _bound(number: int) -> socket.socket:
    bound = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    bound.bind((f"127.{1 + number % 7}.{number // 250}.{1 + number % 250}", 0))
    return bound


def _main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("given", type=json.loads)
    given = parser.parse_args().given
    if given["on_cpu"] is not None:
        os.sched_setaffinity(0, {given["on_cpu"]})
    live = Live(given["ssrcs"], given["names"])
    datagrams = junk(live, random.Random(1), of=given["kinds"], variants=_VARIANTS)
    sender = Sender(datagrams, tuple(given["address"]))
    sockets = [] if given["descriptors"] else [_bound(n) for n in range(given["sources"])]
    descriptors = given["descriptors"] or [bound.fileno() for bound in sockets]
    print(flood(sender, descriptors, rate=given["rate"], seconds=given["seconds"]))


if __name__ == "__main__":
    _main()
