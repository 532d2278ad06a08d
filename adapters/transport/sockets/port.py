"""A UDP port that sessions share: reads datagrams, and finds the session of each.

The way of a packet: a few system calls read what has arrived for all sessions. The packets of each
session are put together, and it gets them in one call.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable, Collection, Sequence
from typing import Any, Protocol

from aioice import stun

from adapters.transport.sockets.datagrams import (
    MAX_DATAGRAMS,
    Datagram,
    DatagramReader,
    decode_address,
    encode_address,
)
from adapters.transport.sockets.stun_requests import HEADER_BYTES, username_of

READ_S = 0.04
"""Idle time of the thread between two rounds of reads. What a session costs each time that it gets
packets is more than what a packet costs. So the busier the thread is, the more packets of each
session a round returns, and the less each of them costs."""
HANDSHAKE_S, HURRY_S = 0.002, 0.5
"""The same for so long after a sign of a handshake: DTLS, or a peer's new address."""
MAX_WAIT_S = 0.2
"""The longest time between two reads, however busy the thread is."""
MAX_ROUND = 8192
"""Datagrams of one round of reads at most, so that a flood does not fill the memory."""
SLICE_S = 0.001
"""After so long a round gives the event loop back, and goes on in its next iteration."""
MAX_SHARING = 8
"""Sessions that may use one address of a peer. If there are more, the oldest are forgotten."""
_IS_RESPONSE = 0x0100


class MediaReceiver(Protocol):
    """Receives the datagrams of one connection."""

    on_media: Callable[[Sequence[Datagram]], None]
    """Called with datagrams that may be SRTP or SRTCP, in the order of arrival. They authenticate
    themselves: after a NAT rebinding they come from an address that was not checked."""

    def dtls_received(self, data: bytes) -> None:
        """A datagram that may be DTLS has come from a checked address."""


class IceProtocol(Protocol):
    """One ICE agent on one port: an `asyncio.DatagramProtocol`."""

    transactions: Any

    @property
    def owner(self) -> MediaReceiver: ...

    def connection_made(self, transport: Any) -> None: ...

    def connection_lost(self, exc: Exception | None) -> None: ...

    def error_received(self, exc: Exception) -> None: ...

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        """A STUN request for this agent."""


class Sources:
    """Which connection sends with which SSRC, once a packet has been authenticated."""

    def __init__(self) -> None:
        self._receivers: dict[bytes, MediaReceiver | None] = {}
        self.of = self._receivers.get
        """Returns the connection of an SSRC (4 bytes); None if none or several send with it."""

    def add(self, ssrc: int, receiver: MediaReceiver) -> None:
        """Note that a connection sends with an SSRC."""
        key = ssrc.to_bytes(4, "big")
        # if two connections use one SSRC, their addresses tell them apart
        self._receivers[key] = receiver if self._receivers.get(key, receiver) is receiver else None

    def remove(self, ssrc: int, receiver: MediaReceiver) -> None:
        """Forget that a connection sends with an SSRC."""
        key = ssrc.to_bytes(4, "big")
        if self._receivers.get(key, receiver) in (receiver, None):
            self._receivers.pop(key, None)


class UdpPort:
    """A bound socket, read at the pace that the thread allows.

    - SRTP finds its connection by its SSRC, once it is known, and by its address.
    - DTLS finds it by its address. An address is learned from an authenticated check only.
    - STUN requests name their agent; responses have the id of a request under way.
    - Everything else comes from strangers, and is dropped after a look into a table.
    """

    def __init__(
        self,
        bound: socket.socket,
        reader: DatagramReader,
        sources: Sources,
        *,
        is_paced: bool = True,
    ) -> None:
        """`bound` is non-blocking, and prepared for `reader`, which may be shared by ports.

        Without `is_paced` datagrams are read as soon as they arrive: at a client they are few.
        """
        self.socket = bound
        self.address: tuple[str, int] = bound.getsockname()[:2]
        self.transactions: dict[bytes, Any] = {}
        """STUN transactions of all agents, by their ids."""
        self.is_kept = False
        """Whether the port stays open without an agent."""
        self._descriptor = bound.fileno()
        self._reader = reader
        self._sources = sources
        self._agents: dict[bytes, SharedTransport] = {}  # by user name
        self._checked: dict[bytes, tuple[SharedTransport, ...]] = {}  # by address, newest first
        self._loop = asyncio.get_running_loop()
        self._is_paced = is_paced
        self._is_awaited = False  # whether the event loop tells of the next datagram
        self._timer: asyncio.Handle | None = None
        self._read_at = self._worked_s = 0.0
        self._hurried_until = 0.0
        self._media: dict[MediaReceiver, list[Datagram]] = {}  # received, not yet delivered
        self._count = 0  # datagrams of this round
        self.is_closed = False
        self._await()

    @property
    def buffer_bytes(self) -> int:
        """The size of the receive buffer; the kernel counts twice as much for its own overhead."""
        return self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2

    def attach(self, protocol: IceProtocol, username: str) -> None:
        """Receive for an agent, which checks name by `username`, until its transport is closed."""
        protocol.transactions = self.transactions
        transport = SharedTransport(self, protocol, username)
        self._agents[username.encode()] = transport
        protocol.connection_made(transport)

    def detach(self, transport: SharedTransport) -> None:
        """Forget an agent and its addresses."""
        self._agents.pop(transport.username.encode(), None)
        for key in transport.addresses:
            self._remove(transport, key)
        if not self._agents and not self.is_kept:
            self.close()

    def learn(
        self, transport: SharedTransport, address: tuple[Any, ...], *, is_proven: bool = True
    ) -> None:
        """Note that an agent's peer has authenticated itself from an address.

        The source of a check may be forged. So it takes no other agent's place unless `is_proven`.
        """
        key = encode_address(address)
        users = self._checked.get(key, ())
        if transport not in users and (is_proven or len(users) < MAX_SHARING):
            for forgotten in users[MAX_SHARING - 1 :]:
                forgotten.addresses.discard(key)
            self._checked[key] = (transport, *users[: MAX_SHARING - 1])
            transport.addresses.add(key)
            self._hurry()

    def forget(self, transport: SharedTransport, address: tuple[Any, ...]) -> None:
        """Forget that an agent's peer uses an address."""
        key = encode_address(address)
        if key in transport.addresses:
            transport.addresses.discard(key)
            self._remove(transport, key)

    def read(self) -> bool:
        """Read and deliver what waits; return whether more may wait after `MAX_ROUND` datagrams.

        Not to be called while datagrams are being delivered.
        """
        while (are_more := self._receive()) and self._count < MAX_ROUND:
            pass
        while self._media:
            self._deliver_next()
        self._wait()
        return are_more

    def _remove(self, transport: SharedTransport, key: bytes) -> None:
        others = tuple(item for item in self._checked[key] if item is not transport)
        if others:
            self._checked[key] = others
        else:
            del self._checked[key]

    async def request(self, request: stun.Message, address: tuple[Any, ...]) -> stun.Message:
        """Send a STUN request that is nobody's check, and return the response.

        Raises the errors of aioice's transactions.
        """
        sender = _StunSender(self.socket)
        transaction = stun.Transaction(request, address, sender)
        self.transactions[request.transaction_id] = transaction
        try:
            return (await transaction.run())[0]
        finally:
            del self.transactions[request.transaction_id]

    def close(self) -> None:
        """Close the socket."""
        if not self.is_closed:
            self.is_closed = True
            self._await(False)
            if self._timer is not None:
                self._timer.cancel()
            self.socket.close()

    # -- a round of reads: receive all that waits, deliver it, and wait -------------------------

    def _await(self, is_awaited: bool = True) -> None:
        """Let the event loop tell of the next datagram, or not."""
        if is_awaited and not self._is_awaited:
            self._loop.add_reader(self.socket, self._receive_all)
        elif self._is_awaited and not is_awaited:
            self._loop.remove_reader(self.socket)
        self._is_awaited = is_awaited

    def _receive_all(self) -> None:
        if self._receive() and self._count < MAX_ROUND:
            self._await(False)
            self._timer = self._loop.call_soon(self._receive_all)
        else:
            self._deliver_all()

    def _deliver_all(self) -> None:
        until = time.monotonic() + SLICE_S
        while self._media:
            self._deliver_next()
            if time.monotonic() >= until and not self.is_closed:
                self._await(False)
                self._timer = self._loop.call_soon(self._deliver_all)
                return
        self._wait()

    def _wait(self) -> None:
        """Begin the next round after a while, or when a datagram comes if none was found."""
        if self._timer is not None:
            self._timer.cancel()
        count, self._count = self._count, 0
        if self.is_closed:
            return
        if not (count and self._is_paced):
            self._await()
            return
        self._await(False)
        self._read_at, self._worked_s = time.monotonic(), time.thread_time()
        self._timer = self._loop.call_later(self._idle_s, self._due)

    def _due(self) -> None:
        passed_s = time.monotonic() - self._read_at
        left_s = self._idle_s - (passed_s - (time.thread_time() - self._worked_s))
        if left_s > HANDSHAKE_S and passed_s < MAX_WAIT_S:
            self._timer = self._loop.call_later(min(left_s, MAX_WAIT_S - passed_s), self._due)
        else:
            self._receive_all()

    @property
    def _idle_s(self) -> float:
        """How long the thread must have been idle before the next round."""
        return HANDSHAKE_S if time.monotonic() < self._hurried_until else READ_S

    def _hurry(self) -> None:
        self._hurried_until = time.monotonic() + HURRY_S

    # -- whose datagram it is ------------------------------------------------------------------

    def _receive(self) -> bool:
        """Receive datagrams by one system call, and sort them; return whether more may wait."""
        try:
            datagrams = self._reader.read(self._descriptor)
        except OSError:
            return False  # the network reports an error once; the next round reads on
        self._count += len(datagrams)
        of_source, of_address, media = self._sources.of, self._checked.get, self._media
        source = self._reader.source
        for index, datagram in enumerate(datagrams):
            data = datagram[0]
            first = data[0] if data else 255
            if 128 <= first <= 191:
                receiver, users = of_source(data[8:12]), of_address(source(index), ())
                if receiver is None or not users or users[0].owner is not receiver:
                    for receiver in self._receivers_of(data, users):
                        media.setdefault(receiver, []).append(datagram)
                elif receiver in media:
                    media[receiver].append(datagram)
                else:
                    media[receiver] = [datagram]
            elif first < 4:
                self._guarded(self._deliver_stun, data, index)
            elif 20 <= first <= 63:
                self._guarded(self._deliver_dtls, data, index)
        return len(datagrams) == MAX_DATAGRAMS

    def _deliver_next(self) -> None:
        receiver = next(iter(self._media))
        self._guarded(receiver.on_media, self._media.pop(receiver))

    def _guarded(self, deliver: Callable[..., None], *arguments: Any) -> None:
        """Whatever error there is, it concerns one connection: the others are served on."""
        try:
            deliver(*arguments)
        except Exception as error:
            context = {"message": "a datagram could not be processed", "exception": error}
            self._loop.call_exception_handler(context)

    def _receivers_of(
        self, data: bytes, users: Sequence[SharedTransport]
    ) -> Collection[MediaReceiver]:
        """The connections that a packet may belong to, from an address that has these users.

        If SSRC and address name different ones, a NAT has rebound a peer, or a peer uses the SSRC
        of another: all of them get the packet, and only its own can unprotect it.
        """
        is_rtcp = len(data) > 1 and 192 <= data[1] <= 223
        receiver = self._sources.of(data[4:8] if is_rtcp else data[8:12])
        owners = dict.fromkeys(user.owner for user in users)
        if receiver is None:
            return owners
        return (receiver,) if receiver in owners else (receiver, *owners)

    def _deliver_dtls(self, data: bytes, index: int) -> None:
        for transport in self._checked.get(self._reader.source(index), ()):
            self._hurry()
            receiver = transport.owner
            if receiver in self._media:  # an alert must not overtake the media before it
                receiver.on_media(self._media.pop(receiver))
            receiver.dtls_received(data)

    def _deliver_stun(self, data: bytes, index: int) -> None:
        if int.from_bytes(data[:2], "big") & _IS_RESPONSE:
            if (transaction := self.transactions.get(data[8:HEADER_BYTES])) is not None:
                source = decode_address(self._reader.source(index))
                with contextlib.suppress(Exception):  # aioice raises several for malformed STUN
                    transaction.response_received(stun.parse_message(data), source)
            return
        transport = self._agents.get(username_of(data))
        if transport is not None:
            source = decode_address(self._reader.source(index))
            transport.protocol.datagram_received(data, source)


class SharedTransport(asyncio.DatagramTransport):
    """One agent's use of a port. Sends are not queued: what the kernel has no room for is lost."""

    def __init__(self, port: UdpPort, protocol: IceProtocol, username: str) -> None:
        super().__init__({"socket": port.socket, "sockname": port.address})
        self.port = port
        self.protocol = protocol
        self.owner = protocol.owner
        self.username = username
        self.addresses: set[bytes] = set()
        """Addresses of the peer that `UdpPort.learn` has noted."""
        self._is_closing = False

    def learn(self, address: tuple[Any, ...], *, is_proven: bool = True) -> None:
        """Note that the peer has authenticated itself from an address, see `UdpPort.learn`."""
        if not self._is_closing:
            self.port.learn(self, address, is_proven=is_proven)

    def forget(self, address: tuple[Any, ...]) -> None:
        """Forget that the peer uses an address."""
        self.port.forget(self, address)

    def sendto(self, data: Any, addr: Any = None) -> None:
        if self._is_closing:
            return
        try:
            self.port.socket.sendto(data, addr)
        except BlockingIOError:
            pass
        except OSError as error:
            self.protocol.error_received(error)

    def is_closing(self) -> bool:
        return self._is_closing

    def close(self) -> None:
        if not self._is_closing:
            self._is_closing = True
            self.port.detach(self)
            with contextlib.suppress(RuntimeError):  # the event loop is closed
                asyncio.get_running_loop().call_soon(self._lose_protocol)

    def abort(self) -> None:
        self.close()

    def _lose_protocol(self) -> None:
        protocol = self.protocol
        del self.protocol, self.owner  # they refer to this transport
        protocol.connection_lost(None)


class _StunSender:
    def __init__(self, bound: socket.socket) -> None:
        self._socket = bound

    def send_stun(self, message: stun.Message, addr: tuple[str, int]) -> None:
        with contextlib.suppress(OSError):  # it is sent again
            self._socket.sendto(bytes(message), addr)
