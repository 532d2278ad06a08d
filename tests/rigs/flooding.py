"""Sends junk of all kinds to a UDP port from many addresses; also a command, for a process."""

from __future__ import annotations

import argparse
import itertools
import os
import pathlib
import random
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from aioice import stun

SOURCES = 1009
"""Addresses that send; a prime number, so that each sends all kinds."""
_VARIANTS = 50
"""Different datagrams of each kind."""
_TICK_S = 0.002


def junk(live: Sequence[int], chance: random.Random) -> list[bytes]:
    """Datagrams that no connection should take: one of each kind in turn.

    `live` are SSRCs of sessions, which some of the datagrams claim to come from.
    """

    def number() -> bytes:
        return chance.randbytes(4)

    def live_source() -> bytes:
        return chance.choice(live).to_bytes(4, "big") if live else number()

    def request(name: str) -> stun.Message:
        message = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
        message.attributes["USERNAME"] = name
        message.attributes["PRIORITY"] = 1
        message.add_message_integrity(b"guessed")
        return message

    def response() -> bytes:
        message = stun.Message(stun.Method.BINDING, stun.Class.RESPONSE)
        message.attributes["XOR-MAPPED-ADDRESS"] = ("192.0.2.1", 9)
        return bytes(message)

    def cookie(kind: bytes, length: int) -> bytes:
        return kind + length.to_bytes(2, "big") + b"\x21\x12\xa4\x42" + chance.randbytes(12)

    kinds: list[Callable[[], bytes]] = [
        lambda: chance.randbytes(chance.randrange(1, 1200)),
        lambda: b"\x80\x6f" + chance.randbytes(6) + number() + chance.randbytes(100),  # SRTP
        lambda: b"\x80\x6f" + chance.randbytes(6) + live_source() + chance.randbytes(100),
        lambda: b"\x80\xc8\x00\x06" + number() + chance.randbytes(38),  # SRTCP
        lambda: b"\x80\xc8\x00\x06" + live_source() + chance.randbytes(38),
        lambda: chance.choice([b"\x80", b"\x80\xc8", b"\xbf" * 9, b"\x80\x6f" + bytes(9)]),
        lambda: bytes(request(f"{number().hex()}:{number().hex()}")),
        lambda: bytes(request("nobody"))[: chance.randrange(1, 60)],  # cut off
        lambda: cookie(b"\x00\x01", 1400) + bytes(1400),  # 350 empty attributes
        lambda: cookie(b"\x00\x01", 8) + b"\x00\x06\xff\xff" + number(),  # too long a name
        response,
        lambda: cookie(b"\x01\x01", 0),
        lambda: b"\x16\xfe\xfd" + bytes(8) + b"\x00\x40" + chance.randbytes(64),  # DTLS
        lambda: b"\x15\xfe\xfd\x00\x01" + bytes(6) + b"\x00\x02\x01\x00",  # an alert
        lambda: b"",
    ]
    return [make() for _ in range(_VARIANTS) for make in kinds]


def flood(address: tuple[str, int], live: Sequence[int], *, rate: int, seconds: float) -> int:
    """Send `rate` datagrams a second from `SOURCES` addresses; return how many were sent."""
    chance = random.Random(1)
    sockets = []
    for number in range(SOURCES):
        bound = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        bound.bind((f"127.{1 + number % 7}.{number // 250}.{1 + number % 250}", 0))
        bound.connect(address)
        sockets.append(bound)
    sends = itertools.cycle([bound.send for bound in sockets])
    datagrams = itertools.cycle(junk(live, chance))
    began, sent = time.monotonic(), 0
    while (passed := time.monotonic() - began) < seconds:
        due = round(rate * passed)
        for send, data in itertools.islice(zip(sends, datagrams, strict=False), due - sent):
            send(data)
        sent = due
        time.sleep(_TICK_S)
    for bound in sockets:
        bound.close()
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
    address: tuple[str, int], live: Sequence[int], *, rate: int, seconds: float
) -> Iterator[Flooding]:
    """Flood a port from a process of its own."""
    command = [
        sys.executable, "-m", "tests.rigs.flooding", address[0], str(address[1]),
        "--rate", str(rate), "--seconds", str(seconds), "--live", *map(str, live),
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield Flooding(process)
    finally:
        process.kill()
        process.communicate()


def dropped(port: int) -> int:
    """How many datagrams the kernel has dropped at all sockets with a port number."""
    count = 0
    for name in ("udp", "udp6"):
        for line in pathlib.Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
            words = line.split()
            if int(words[1].rpartition(":")[2], 16) == port:
                count += int(words[-1])
    return count


def cpu_s(process: int) -> float:
    """The CPU time that a process has used."""
    text = pathlib.Path(f"/proc/{process}/stat").read_text()
    user, system = text.rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def _main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("--rate", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--live", type=int, nargs="*")
    given = parser.parse_args()
    address = given.host, given.port
    print(flood(address, given.live, rate=given.rate, seconds=given.seconds))


if __name__ == "__main__":
    _main()
