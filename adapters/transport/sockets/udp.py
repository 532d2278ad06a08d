"""The UDP sockets of a process. Reads of sockets that carry media are coalesced.

asyncio wakes up for each datagram. That costs more than all other work on a packet except decoding,
and servicing a socket once costs as much as three or four of its packets. So all sockets that carry
media are one event source (an epoll object), which is polled now and then, and each socket is read
some time after its first datagram has arrived: the busier the thread, the later. Network cards
moderate their interrupts in the same way.
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

from adapters.transport.sockets.coalescing import ReadCoalescing, ReadTiming
from adapters.transport.sockets.datagrams import MAX_DATAGRAMS, Datagram, DatagramReader

_EVENTS = select.EPOLLIN | select.EPOLLET
"""Edge-triggered: to arm a socket again after each read would be one more system call than the read
itself takes."""
MAX_ROUND_S = 0.002
"""After so long a round of reads gives the event loop back, even if sockets are still due."""
MAX_READS = 10
"""Reads of one socket before others have their turn; together five seconds of a stream. A faster
sender loses what exceeds the kernel's buffer, and does not delay other sockets."""


class DatagramSink(Protocol):
    """An `asyncio.DatagramProtocol` that receives datagrams in batches."""

    def connection_made(self, transport: Any) -> None: ...

    def connection_lost(self, exc: Exception | None) -> None: ...

    def error_received(self, exc: Exception) -> None: ...

    def datagrams_received(
        self, datagrams: Sequence[Datagram], source: Callable[[int], tuple[Any, ...]]
    ) -> None:
        """Datagrams in the order of arrival; `source(n)` is the address that sent the n-th."""


_Sink = TypeVar("_Sink", bound=DatagramSink)


class UdpSockets:
    """Opens sockets on the running event loop, and schedules their reads."""

    def __init__(self) -> None:
        self.reader = DatagramReader()
        self._coalesced: dict[int, UdpTransport] = {}  # by descriptor
        self._epoll: select.epoll | None = None  # while any socket is coalesced
        self._scheduled: deque[tuple[float, UdpTransport]] = deque()  # with the time of the read
        self._coalescing = ReadCoalescing()
        self._poll_at = 0.0
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
        asyncio.get_running_loop().add_reader(bound, transport.read)
        return sink

    def coalesce(self, transport: UdpTransport) -> None:
        """Coalesce the reads of a socket from now on."""
        asyncio.get_running_loop().remove_reader(transport.socket)
        if self._epoll is None:
            self._epoll = select.epoll()
            self._listen(self._epoll)
        self._coalesced[transport.descriptor] = transport
        self._epoll.register(transport.descriptor, _EVENTS)

    def remove(self, transport: UdpTransport) -> None:
        """Stop reading a socket, coalesced or not."""
        if self._epoll is None or self._coalesced.pop(transport.descriptor, None) is None:
            asyncio.get_running_loop().remove_reader(transport.socket)
            return
        self._epoll.unregister(transport.descriptor)
        if not self._coalesced:
            asyncio.get_running_loop().remove_reader(self._epoll)
            if self._timer is not None:
                self._timer.cancel()
            self._scheduled.clear()
            self._epoll.close()
            self._epoll = self._timer = None

    def _listen(self, epoll: select.epoll) -> None:
        asyncio.get_running_loop().add_reader(epoll, self._wake, epoll)

    def _wake(self, epoll: select.epoll) -> None:
        asyncio.get_running_loop().remove_reader(epoll)
        self._poll_at = 0.0
        self._run_round(epoll)

    def _run_round(self, epoll: select.epoll) -> None:
        """Poll if it is time to, read what is due, and set a timer for the next round.

        When nothing is scheduled, the event loop waits for the epoll object instead.
        """
        self._timer = None
        now = time.monotonic()
        timing = self._coalescing.timing(now=now)
        if now >= self._poll_at:
            self._poll_at = now + timing.poll_interval_s
            self._poll(epoll, due_at=now + timing.delay_s)
        began_s = time.thread_time()
        self._read_due(timing, until=now + MAX_ROUND_S)
        self._coalescing.worked_s += time.thread_time() - began_s
        if epoll is not self._epoll:
            return  # a received datagram made the last socket close
        if self._scheduled:
            is_late = self._scheduled[0][0] <= now
            pause = 0.0 if is_late else max(0.0, now + timing.interval_s - time.monotonic())
            self._timer = asyncio.get_running_loop().call_later(pause, self._run_round, epoll)
        else:
            self._listen(epoll)

    def _poll(self, epoll: select.epoll, *, due_at: float) -> None:
        coalesced, scheduled = self._coalesced, self._scheduled
        for descriptor, _ in epoll.poll(0, len(coalesced)):
            transport = coalesced[descriptor]
            if not transport.is_scheduled:
                transport.is_scheduled = True
                scheduled.append((due_at, transport))

    def _read_due(self, timing: ReadTiming, *, until: float) -> None:
        scheduled, coalescing = self._scheduled, self._coalescing
        while scheduled and scheduled[0][0] <= (now := time.monotonic()) < until:
            due_at, transport = scheduled.popleft()
            transport.is_scheduled = False
            if self._coalesced.get(transport.descriptor) is not transport:
                continue  # removed meanwhile
            coalescing.sockets += 1
            coalescing.late_s += now - due_at
            try:
                count, is_empty = transport.read()
                coalescing.packets += count
                if not is_empty or (count and timing.reschedules):
                    transport.is_scheduled = True
                    scheduled.append((now + timing.delay_s, transport))
            except Exception as error:
                # whatever it is, it concerns this socket only: serve the others
                context = {"message": "a datagram could not be processed", "exception": error}
                asyncio.get_running_loop().call_exception_handler(context)


class UdpTransport(asyncio.DatagramTransport):
    """One socket. Sends are not queued: what the kernel has no room for is lost."""

    def __init__(self, bound: socket.socket, sink: DatagramSink, sockets: UdpSockets) -> None:
        super().__init__({"socket": bound, "sockname": bound.getsockname()})
        self.socket = bound
        self.descriptor = bound.fileno()
        self.is_scheduled = False
        """Whether `UdpSockets` has scheduled a read of this socket."""
        self._sink = sink
        self._sockets = sockets
        self._is_closing = False

    def coalesce_reads(self) -> None:
        """Coalesce reads from now on: no handshake is going on that needs quick answers."""
        if not self._is_closing:
            self._sockets.coalesce(self)

    def read_immediately(self) -> None:
        """Read datagrams as soon as they arrive, and those that wait, in the next iteration."""
        if not self._is_closing:
            self._sockets.remove(self)
            asyncio.get_running_loop().add_reader(self.socket, self.read)

    def read(self) -> tuple[int, bool]:
        """Deliver the waiting datagrams; return their number, and whether none is left.

        Not to be called while datagrams are being delivered: all sockets share one reader.
        """
        reader, count = self._sockets.reader, 0
        for _ in range(MAX_READS):
            if self._is_closing:
                return count, True
            try:
                datagrams = reader.read(self.descriptor)
            except OSError as error:
                self._sink.error_received(error)
                continue  # the kernel reports an error once; datagrams may wait behind it
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
            self._sockets.remove(self)
            self.socket.close()
            with contextlib.suppress(RuntimeError):  # the event loop is closed
                asyncio.get_running_loop().call_soon(self._sink.connection_lost, None)

    def abort(self) -> None:
        self.close()
