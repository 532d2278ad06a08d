"""The UDP sockets of a process: those that carry media are read in bursts.

asyncio wakes up for each datagram, which costs more than all that is then done with a packet but
decoding it. Here all sockets that carry media are one event source: once something has come, they
are read every few milliseconds, each by one system call, until there is nothing more.
"""

from __future__ import annotations

import asyncio
import contextlib
import selectors
import socket
import time
from collections.abc import Callable
from typing import Any, TypeVar

BURST_S = 0.01
"""A datagram may wait so long for others: less than a packet is long."""
SLICE_S = 0.003
"""Whatever has come, the event loop has others to serve after so long."""
_MAX_BYTES = 2048  # RTP, STUN and DTLS keep to an MTU; what is longer is cut off, and invalid
_Protocol = TypeVar("_Protocol", bound=asyncio.DatagramProtocol)


class UdpSockets:
    """Opens sockets on the running event loop."""

    def __init__(self) -> None:
        self._selector: selectors.DefaultSelector | None = None  # as long as there are any in it
        self._timer: asyncio.TimerHandle | None = None

    def open(self, make: Callable[[], _Protocol], host: str, port: int) -> _Protocol:
        """Bind a socket for a protocol, as `create_datagram_endpoint` does; raises `OSError`."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        bound = socket.socket(family, socket.SOCK_DGRAM)
        try:
            bound.setblocking(False)
            bound.bind((host, port))
        except BaseException:
            bound.close()
            raise
        protocol = make()
        transport = UdpTransport(bound, protocol, self)
        protocol.connection_made(transport)
        asyncio.get_running_loop().add_reader(bound, transport.receive)
        return protocol

    def join(self, transport: UdpTransport) -> None:
        """Read a socket in bursts from now on."""
        asyncio.get_running_loop().remove_reader(transport.socket)
        if self._selector is None:
            selector = selectors.DefaultSelector()
            self._listen(selector)
            self._selector = selector
        self._selector.register(transport.socket, selectors.EVENT_READ, transport.receive)

    def leave(self, transport: UdpTransport) -> None:
        """Read a socket no more."""
        if self._selector is None or transport.socket not in self._selector.get_map():
            asyncio.get_running_loop().remove_reader(transport.socket)
            return
        self._selector.unregister(transport.socket)
        if not self._selector.get_map():
            asyncio.get_running_loop().remove_reader(self._selector)
            if self._timer is not None:
                self._timer.cancel()
            self._selector.close()
            self._selector = self._timer = None

    def _listen(self, selector: selectors.DefaultSelector) -> None:
        asyncio.get_running_loop().add_reader(selector, self._awake, selector)

    def _awake(self, selector: selectors.DefaultSelector) -> None:
        asyncio.get_running_loop().remove_reader(selector)
        self._read(selector)

    def _read(self, selector: selectors.DefaultSelector) -> None:
        """Read all there is, and again in a while; once there is nothing, wait to be woken."""
        loop = asyncio.get_running_loop()
        self._timer = None
        pause = BURST_S if (ready := selector.select(0)) else None
        until = time.monotonic() + SLICE_S
        while ready:
            for key, _ in ready:
                try:
                    key.data()
                except Exception as error:
                    # whatever it is, it is this socket's: the others are served on
                    context = {"message": "a datagram could not be taken", "exception": error}
                    loop.call_exception_handler(context)
                if time.monotonic() >= until:
                    pause = 0.0  # the others come first in the next round
                    break
            if selector is not self._selector:
                return  # what was received has closed the last socket
            ready = selector.select(0) if pause else []
        if pause is None:
            self._listen(selector)
        else:
            self._timer = loop.call_later(pause, self._read, selector)


class UdpTransport(asyncio.DatagramTransport):
    """One socket. Nothing is queued: what the kernel has no room for is lost, as on any network."""

    def __init__(
        self,
        bound: socket.socket,
        protocol: asyncio.DatagramProtocol,
        sockets: UdpSockets,
    ) -> None:
        super().__init__({"socket": bound, "sockname": bound.getsockname()})
        self.socket = bound
        self._protocol = protocol
        self._sockets = sockets
        self._is_closing = False

    def carry_media(self) -> None:
        """The handshakes, for which every millisecond counts, are over."""
        if not self._is_closing:
            self._sockets.join(self)

    def receive(self) -> None:
        try:
            data, address = self.socket.recvfrom(_MAX_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            if not self._is_closing:
                self._protocol.error_received(error)
            return
        self._protocol.datagram_received(data, address)

    def sendto(self, data: Any, addr: Any = None) -> None:
        if self._is_closing:
            return
        try:
            self.socket.sendto(data, addr)
        except BlockingIOError:
            pass
        except OSError as error:
            self._protocol.error_received(error)

    def is_closing(self) -> bool:
        return self._is_closing

    def close(self) -> None:
        if not self._is_closing:
            self._is_closing = True
            self._sockets.leave(self)
            self.socket.close()
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                asyncio.get_running_loop().call_soon(self._protocol.connection_lost, None)

    def abort(self) -> None:
        self.close()
