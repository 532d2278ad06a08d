"""The UDP sockets of a process: those that carry media are read seldom, and whole.

asyncio wakes up for each datagram, which costs more than all that is then done with a packet but
decoding it, and what is done for a socket once costs as much as three or four packets of it. So all
sockets that carry media are one event source, looked at now and then, and each of them is read when
its first datagram has waited for others: the longer, the less time there is. Network cards moderate
their interrupts in the same way.
"""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

from adapters.transport.sockets.coalescing import ReadCoalescing, ReadPace
from adapters.transport.sockets.datagrams import MAX_DATAGRAMS, Datagram, DatagramReader

_EDGE = select.EPOLLIN | select.EPOLLET
"""Datagrams are told of when they come, and not again: to arm a socket anew each time it was read
would be a system call more than to read it takes."""
SLICE_S = 0.002
"""Whatever has come, the event loop has others to serve after so long."""
MOST_READS = 10
"""Of one socket, before others have their turn: five seconds of a stream. Who sends faster than he
is listened to loses what the kernel has no room for, and takes nobody else's time."""


class DatagramSink(Protocol):
    """An `asyncio.DatagramProtocol` that takes datagrams together."""

    def connection_made(self, transport: Any) -> None: ...

    def connection_lost(self, exc: Exception | None) -> None: ...

    def error_received(self, exc: Exception) -> None: ...

    def datagrams_received(
        self, datagrams: Sequence[Datagram], source: Callable[[int], tuple[Any, ...]]
    ) -> None:
        """All that has come, in its order; `source(n)` says where the n-th one is from."""


_Sink = TypeVar("_Sink", bound=DatagramSink)


class UdpSockets:
    """Opens sockets on the running event loop."""

    def __init__(self) -> None:
        self.reader = DatagramReader()
        self.inner_reader = DatagramReader()
        """For a socket that is read while another one is."""
        self._media: dict[int, UdpTransport] = {}  # by descriptor, those that carry media
        self._epoll: select.epoll | None = None  # as long as there are any
        self._waiting: deque[tuple[float, UdpTransport]] = deque()  # and until when
        self._patience = ReadCoalescing()
        self._look_at = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def open(self, make: Callable[[], _Sink], host: str, port: int) -> _Sink:
        """Bind a socket for a sink, as `create_datagram_endpoint` does; raises `OSError`."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        bound = socket.socket(family, socket.SOCK_DGRAM)
        try:
            bound.setblocking(False)
            self.reader.prepare(bound)
            bound.bind((host, port))
        except BaseException:
            bound.close()
            raise
        sink = make()
        transport = UdpTransport(bound, sink, self)
        sink.connection_made(transport)
        asyncio.get_running_loop().add_reader(bound, transport.receive)
        return sink

    def join(self, transport: UdpTransport) -> None:
        """Read a socket together with others from now on."""
        asyncio.get_running_loop().remove_reader(transport.socket)
        if self._epoll is None:
            self._epoll = select.epoll()
            self._listen(self._epoll)
        self._media[transport.descriptor] = transport
        self._epoll.register(transport.descriptor, _EDGE)

    def leave(self, transport: UdpTransport) -> None:
        """Read a socket no more."""
        if self._epoll is None or self._media.pop(transport.descriptor, None) is None:
            asyncio.get_running_loop().remove_reader(transport.socket)
            return
        self._epoll.unregister(transport.descriptor)
        if not self._media:
            asyncio.get_running_loop().remove_reader(self._epoll)
            if self._timer is not None:
                self._timer.cancel()
            self._waiting.clear()
            self._epoll.close()
            self._epoll = self._timer = None

    def _listen(self, epoll: select.epoll) -> None:
        asyncio.get_running_loop().add_reader(epoll, self._awake, epoll)

    def _awake(self, epoll: select.epoll) -> None:
        asyncio.get_running_loop().remove_reader(epoll)
        self._look_at = 0.0
        self._turn(epoll)

    def _turn(self, epoll: select.epoll) -> None:
        """See what has come, read what is due, and come back for more.

        Once there is nothing, wait to be woken.
        """
        self._timer = None
        now = time.monotonic()
        rhythm = self._patience.rhythm(now=now)
        if now >= self._look_at:
            self._look_at = now + rhythm.look_s
            self._look(epoll, until=now + rhythm.wait_s)
        began_s = time.thread_time()
        self._read(rhythm, until=now + SLICE_S)
        self._patience.worked_s += time.thread_time() - began_s
        if epoll is not self._epoll:
            return  # what was received has closed the last socket
        if self._waiting:
            is_late = self._waiting[0][0] <= now
            pause = 0.0 if is_late else max(0.0, now + rhythm.turn_s - time.monotonic())
            self._timer = asyncio.get_running_loop().call_later(pause, self._turn, epoll)
        else:
            self._listen(epoll)

    def _look(self, epoll: select.epoll, *, until: float) -> None:
        media, waiting = self._media, self._waiting
        for descriptor, _ in epoll.poll(0, len(media)):
            transport = media[descriptor]
            if not transport.waits:
                transport.waits = True
                waiting.append((until, transport))

    def _read(self, rhythm: ReadPace, *, until: float) -> None:
        waiting, patience = self._waiting, self._patience
        while waiting and waiting[0][0] <= (now := time.monotonic()) < until:
            due_at, transport = waiting.popleft()
            transport.waits = False
            if self._media.get(transport.descriptor) is not transport:
                continue  # it has left meanwhile
            patience.sockets += 1
            patience.late_s += now - due_at
            try:
                count, is_empty = transport.receive()
                patience.packets += count
                if not is_empty or (count and rhythm.goes_on):
                    transport.waits = True
                    waiting.append((now + rhythm.wait_s, transport))
            except Exception as error:
                # whatever it is, it is this socket's: the others are served on
                context = {"message": "a datagram could not be taken", "exception": error}
                asyncio.get_running_loop().call_exception_handler(context)


class UdpTransport(asyncio.DatagramTransport):
    """One socket. Nothing is queued: what the kernel has no room for is lost, as on any network."""

    def __init__(self, bound: socket.socket, sink: DatagramSink, sockets: UdpSockets) -> None:
        super().__init__({"socket": bound, "sockname": bound.getsockname()})
        self.socket = bound
        self.descriptor = bound.fileno()
        self.waits = False
        """Whether it has datagrams that wait for others."""
        self._sink = sink
        self._sockets = sockets
        self._is_closing = False

    def carry_media(self) -> None:
        """The handshakes, for which every millisecond counts, are over."""
        if not self._is_closing:
            self._sockets.join(self)

    def receive_at_once(self) -> None:
        """It is about to end: what has come, and what still comes, waits for nothing more."""
        if not self._is_closing:
            self._sockets.leave(self)
            asyncio.get_running_loop().add_reader(self.socket, self.receive)

    def receive(self, *, within: bool = False) -> tuple[int, bool]:
        """Hand over what has come: how many datagrams that was, and whether it was all.

        `within`: it may be that another socket is being read meanwhile.
        """
        reader, count = self._sockets.inner_reader if within else self._sockets.reader, 0
        for _ in range(MOST_READS):
            if self._is_closing:
                return count, True
            try:
                datagrams = reader.read(self.descriptor)
            except OSError as error:
                self._sink.error_received(error)
                continue  # it is told once; behind it there may be more
            if datagrams:
                count += len(datagrams)
                self._sink.datagrams_received(datagrams, reader.source)
            if len(datagrams) < MAX_DATAGRAMS:
                return count, True
        return count, False

    def sendto(self, data: Any, addr: Any = None) -> None:
        if self._is_closing:
            return
        try:
            self.socket.sendto(data, addr)
        except BlockingIOError:
            pass
        except OSError as error:
            self._sink.error_received(error)

    def is_closing(self) -> bool:
        return self._is_closing

    def close(self) -> None:
        if not self._is_closing:
            self._is_closing = True
            self._sockets.leave(self)
            self.socket.close()
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                asyncio.get_running_loop().call_soon(self._sink.connection_lost, None)

    def abort(self) -> None:
        self.close()
