"""Opens many HTTP connections that do nothing, and measures what they cost a server."""

from __future__ import annotations

import contextlib
import itertools
import pathlib
import resource
import socket
import ssl
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeAlias
from urllib.parse import urlsplit

from tests.rigs.tls import trusting_anybody

Begin: TypeAlias = Callable[[socket.socket], socket.socket]
"""What a connection does before it idles; it returns the socket to keep."""


def client_hello() -> bytes:
    """Return the first message of a TLS handshake."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        trusting_anybody().wrap_bio(incoming, outgoing, server_hostname="localhost").do_handshake()
    return outgoing.read()


def say_nothing(connected: socket.socket) -> socket.socket:
    return connected


def say(data: bytes) -> Begin:
    def begin(connected: socket.socket) -> socket.socket:
        connected.sendall(data)
        return connected

    return begin


def shake_hands() -> Begin:
    context = trusting_anybody()

    def begin(connected: socket.socket) -> socket.socket:
        return context.wrap_socket(connected)

    return begin


def connect(url: str, source: str = "127.0.0.1", *, timeout_s: float = 20.0) -> socket.socket:
    """Open a TCP connection to a server on this machine."""
    address = "127.0.0.1", urlsplit(url).port or 0
    return socket.create_connection(address, timeout=timeout_s, source_address=(source, 0))


@contextmanager
def idling(
    url: str, count: int, begin: Begin = say_nothing, sources: Sequence[str] = ("127.0.0.1",)
) -> Iterator[list[socket.socket]]:
    """Keep connections open until the block is left; those that the server refuses are left out."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    opened: list[socket.socket] = []
    try:
        for _, source in zip(range(count), itertools.cycle(sources), strict=False):
            connected = connect(url, source)
            try:
                opened.append(begin(connected))
            except OSError:
                connected.close()
        yield opened
    finally:
        for connected in opened:
            connected.close()


def is_open(connected: socket.socket) -> bool:
    """Return whether the other end has left a connection open."""
    connected.setblocking(False)
    try:
        while connected.recv(65_536):
            pass
        return False
    except (BlockingIOError, ssl.SSLWantReadError):
        return True
    except OSError:
        return False


def peak_memory(process_id: int, *, reset: bool = False) -> int:
    """Return the most memory that a process has had (VmHWM), in bytes; `reset` forgets it."""
    text = pathlib.Path(f"/proc/{process_id}/status").read_text(encoding="ascii")
    (line,) = (line for line in text.splitlines() if line.startswith("VmHWM"))
    if reset:
        pathlib.Path(f"/proc/{process_id}/clear_refs").write_text("5")  # proc(5)
    return int(line.split()[1]) * 1024
