"""A UDP port that sessions share: reads datagrams, and finds the session of each.

The way of a packet: a few system calls read what has arrived for all sessions. The packets of each
session are put together, and it gets them in one call. Strangers come last: what is known to come
from a peer is delivered first.
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
from adapters.transport.sockets.faults import Faults
from adapters.transport.sockets.rounds import MAX_ROUND, PacedSocket
from adapters.transport.sockets.sources import Sources
from adapters.transport.sockets.stun_requests import HEADER_BYTES, is_authentic, username_of
from domain.session.allowance import Allowance

CONNECTING_S = 30.0
"""For how long DTLS is a sign of a handshake. Later, strangers could keep the port in a hurry."""
MAX_SHARING = 8
"""Sessions that may use one address of a peer. If there are more, the oldest are forgotten."""
MAX_STRANGE = 512
"""Packets of one session from addresses that were not checked, in one round of reads."""
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

    @property
    def password(self) -> str:
        """The password by which requests for this agent are authenticated."""
        ...

    def connection_made(self, transport: Any) -> None: ...

    def connection_lost(self, exc: Exception | None) -> None: ...

    def error_received(self, exc: Exception) -> None: ...

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        """An authentic STUN request for this agent."""


class UdpPort(PacedSocket):
    """A bound socket, read at the pace that the thread allows.

    - SRTP finds its connection by its SSRC, once it is known, and by its address.
    - DTLS finds it by its address. An address is learned from an authenticated check only.
    - STUN requests name their agent, and are authentic; responses have the id of a request under
      way.
    - Everything else comes from strangers, and is dropped after a look into a table.

    What strangers can make expensive is limited: packets with the SSRC of a session
    (`MAX_STRANGE`), requests with the user name of an agent, and DTLS from the forged address of a
    peer (see `SharedTransport`).
    """

    def __init__(
        self,
        bound: socket.socket,
        reader: DatagramReader,
        sources: Sources,
        *,
        is_paced: bool = True,
    ) -> None:
        """`bound` is non-blocking, has the kernel's filter, and is prepared for `reader`, which may
        be shared by ports.

        Without `is_paced` datagrams are read as soon as they arrive: at a client they are few.
        """
        super().__init__(bound, is_paced=is_paced)
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
        self._media: dict[MediaReceiver, list[Datagram]] = {}  # received, not yet delivered
        self._strange: dict[MediaReceiver, list[Datagram]] = {}  # from unchecked addresses
        self._faults = Faults(self._loop)
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
        self._buffer.measure()
        while (are_more := self._receive()) and self._count < MAX_ROUND:
            pass
        while self._has_next:
            self._deliver_next()
        self._are_more = are_more
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

    # -- whose datagram it is ------------------------------------------------------------------

    def _receive(self) -> bool:
        """Receive datagrams by one system call, and sort them; return whether more may wait."""
        reader = self._reader
        try:
            heads = reader.read(self._descriptor)
        except OSError:
            return False  # the network reports an error once; the next round reads on
        of_source, of_address, media = self._sources.of, self._checked.get, self._media
        index = -1
        for index, (first, second, reporting, sending), source in heads:
            if 128 <= first <= 191:
                receiver, users = of_source(sending), of_address(source)
                if users is None or users[0].owner is not receiver:
                    if 192 <= second <= 223:  # RTCP
                        receiver = of_source(reporting)
                    if receiver is not None or users is not None:
                        self._sort(receiver, users, index)
                elif receiver in media:
                    media[receiver].append(reader.datagram(index))
                else:
                    media[receiver] = [reader.datagram(index)]
            elif first < 4:
                self._guarded(self._deliver_stun, index, source)
            elif 20 <= first <= 63 and source in self._checked:
                self._guarded(self._deliver_dtls, index, source)
        self._count += index + 1
        return index + 1 == MAX_DATAGRAMS

    def _sort(
        self,
        receiver: MediaReceiver | None,
        users: Sequence[SharedTransport] | None,
        index: int,
    ) -> None:
        """Note a packet for the connections that it may belong to.

        They are that of its SSRC, and those of its address. If these differ, a NAT has rebound a
        peer, or a peer uses the SSRC of another. The packet authenticates itself.
        """
        datagram = self._reader.datagram(index)
        if users is None:
            assert receiver is not None
            strange = self._strange.setdefault(receiver, [])
            if len(strange) < MAX_STRANGE:
                strange.append(datagram)
            return
        receivers: Collection[MediaReceiver] = dict.fromkeys(user.owner for user in users)
        if receiver is not None:
            receivers = (receiver,) if receiver in receivers else (receiver, *receivers)
        for one in receivers:
            self._media.setdefault(one, []).append(datagram)

    @property
    def _has_next(self) -> bool:
        return bool(self._media or self._strange)

    def _deliver_next(self) -> None:
        waiting = self._media or self._strange
        receiver = next(iter(waiting))
        self._guarded(receiver.on_media, waiting.pop(receiver))

    def _guarded(self, deliver: Callable[..., None], *arguments: Any) -> None:
        """Whatever error there is, it concerns one connection: the others are served on."""
        try:
            deliver(*arguments)
        except Exception as error:
            self._faults.tell(error)

    def _deliver_dtls(self, index: int, source: bytes) -> None:
        now = time.monotonic()
        takers = [item for item in self._checked[source] if item.dtls.take(now=now)]
        if not takers:
            return
        data, _ = self._reader.datagram(index)
        for transport in takers:
            if now < transport.made_at + CONNECTING_S:
                self._hurry()
            receiver = transport.owner
            for waiting in (self._media, self._strange):
                if receiver in waiting:  # an alert must not overtake the media before it
                    receiver.on_media(waiting.pop(receiver))
            receiver.dtls_received(data)

    def _deliver_stun(self, index: int, source: bytes) -> None:
        data, _ = self._reader.datagram(index)
        if int.from_bytes(data[:2], "big") & _IS_RESPONSE:
            if (transaction := self.transactions.get(data[8:HEADER_BYTES])) is not None:
                with contextlib.suppress(Exception):  # aioice raises several for malformed STUN
                    transaction.response_received(stun.parse_message(data), decode_address(source))
            return
        transport = self._agents.get(username_of(data))
        if transport is None:
            return
        is_known, now = source in transport.addresses, time.monotonic()
        if not is_known and not transport.guesses.has(now=now):
            return
        if is_authentic(data, transport.password):
            transport.protocol.datagram_received(data, decode_address(source))
        elif not is_known:
            transport.guesses.take(now=now)


class SharedTransport(asyncio.DatagramTransport):
    """One agent's use of a port. Sends are not queued: what the kernel has no room for is lost."""

    DTLS_PER_S, DTLS_AT_ONCE = 20, 100
    """Datagrams of DTLS that an agent processes. A handshake takes about ten, an end one."""
    GUESSES_PER_S = 1000
    """Requests with a wrong password from unchecked addresses that an agent looks at. If there are
    more, the peer's own requests from a new address have to be among those that are looked at."""

    def __init__(self, port: UdpPort, protocol: IceProtocol, username: str) -> None:
        super().__init__({"socket": port.socket, "sockname": port.address})
        self.port = port
        self.protocol = protocol
        self.owner = protocol.owner
        self.username = username
        self.password = protocol.password.encode()
        self.made_at = time.monotonic()
        self.dtls = Allowance(self.DTLS_AT_ONCE, self.DTLS_PER_S)
        self.guesses = Allowance(self.GUESSES_PER_S, self.GUESSES_PER_S)
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
