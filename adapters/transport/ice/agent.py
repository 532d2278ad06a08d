"""One ICE session: aioice's agent, guarded, and with a way of gathering of its own."""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

import aioice
from aioice import stun
from aioice.candidate import candidate_foundation, candidate_priority
from aioice.ice import (
    CONSENT_FAILURES,
    CONSENT_INTERVAL,
    StunProtocol,
    get_host_addresses,
    relayed_candidate,
    server_reflexive_candidate,
)
from aioice.turn import TurnTransport
from aioice.utils import random_string

from adapters.transport.sockets.datagrams import Datagram
from adapters.transport.sockets.udp import UdpSockets, UdpTransport
from domain.errors import CandidateRejected
from domain.session.addresses import PortRange
from domain.session.ice import IceServer

GATHER_S = 1.0
"""A STUN or TURN server that does not answer holds gathering back by no more than this."""
RELEASE_S = 1.0
"""A TURN server that does not answer holds closing back by no more than this."""
MAX_REMOTE_CANDIDATES = 50
"""Checks are quadratic in candidates, and each is a probe of an address the peer chose."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IceOptions:
    """Where paths are looked for."""

    loopback: Sequence[str] = ()
    """Loopback addresses to gather, too: where both ends are on one machine."""
    relay_only: bool = False
    ports: PortRange | None = None
    receives_media: bool = True
    """Whether packets come by the many, which is worth waiting for some of them."""
    sockets: UdpSockets = field(default_factory=UdpSockets, compare=False)
    """Where the sockets of all connections are read."""


class AgentOwner(Protocol):
    """Whom an agent reports to."""

    on_media: Callable[[Sequence[Datagram]], None]
    """Takes datagrams that may be SRTP or SRTCP, from any address. It must not raise.

    SRTP proves itself: after a NAT rebinding it comes from an address not yet checked.
    """

    def dtls_received(self, data: bytes) -> None:
        """A datagram that may be DTLS, from an address that was checked."""

    def path_lost(self, agent: IceAgent) -> None:
        """The agent has closed, or its selected socket is gone."""


class _Unheard:
    """A queue that nobody asks, in the place of one that takes 3 kB."""

    def put_nowait(self, _item: object) -> None:
        pass


_UNHEARD = _Unheard()


class IceAgent(aioice.Connection):
    """aioice's connection with a guard in front of each of its sockets, and its own gathering.

    aioice finds all candidates before it shows the first; here those of the machine are usable
    at once, and what STUN and TURN servers bring is added to the checks under way.
    """

    def __init__(self, owner: AgentOwner, options: IceOptions, *, ice_controlling: bool) -> None:
        # its user name names an ICE session, so that it has to be no other's
        super().__init__(ice_controlling=ice_controlling, local_username=random_string(12))
        self._queue = _UNHEARD  # type: ignore[assignment]  # what it would bring is our owner's
        self.owner = owner
        self._options = options
        self._gathering = False
        self._offered: set[tuple[str, int]] = set()
        self._ended = False
        self._asking: set[asyncio.Task[None]] = set()
        self._checked_at = 0.0  # when the peer's latest check came
        self.problems: list[str] = []

    @property
    def selected(self) -> aioice.ice.CandidatePair | None:
        """The pair that carries data."""
        return self._nominated.get(1)

    async def take(self, candidate: aioice.Candidate | None) -> None:
        """Take a remote candidate, or None for the end of them."""
        if self._ended:
            return
        if candidate is None:
            self._ended = True
            if not self.ice_controlling:
                return  # its checks may still show us where it is (RFC 8863)
        else:
            place = (candidate.host, candidate.port)
            is_udp = candidate.transport.lower() == "udp" and candidate.component == 1
            # trickled fragments repeat what was said before (RFC 8840 § 4.4)
            if not is_udp or place in self._offered or len(self._offered) >= MAX_REMOTE_CANDIDATES:
                return
            self._offered.add(place)
        with contextlib.suppress(OSError):  # a name cannot be asked for where port 5353 is taken
            await self.add_remote_candidate(candidate)

    async def gather(self, servers: Sequence[IceServer]) -> list[str]:
        candidates: list[str] = []
        self.gather_own(candidates.append)
        await self.ask(servers, candidates.append)
        return candidates

    def gather_own(self, found: Callable[[str], None]) -> None:
        if not self._options.relay_only:
            addresses = get_host_addresses(use_ipv4=True, use_ipv6=True)
            # aioice leaves loopback out; it is wanted where both ends are on one machine, and
            # where there is no other address at all
            for address in [*addresses, *(self._options.loopback or _if_alone(addresses))]:
                if (protocol := self._bind(address)) is not None:
                    self._add_local(protocol.local_candidate, protocol, found)
        self._local_candidates_start = self._local_candidates_end = True

    async def ask(self, servers: Sequence[IceServer], found: Callable[[str], None]) -> None:
        self._gathering = True
        try:
            await self._ask_all(servers, found)
        finally:
            self._gathering = False
        if self._early_checks_done:
            self._check_list_maybe_fail()

    def _bind(self, address: str) -> _Guard | None:
        for port in _ports(self._options.ports):
            try:
                protocol = self._options.sockets.open(lambda: _Guard(self), address, port)
            except OSError:
                continue
            host, port = protocol.transport.get_extra_info("sockname")[:2]
            protocol.local_candidate = aioice.Candidate(
                foundation=candidate_foundation("host", "udp", host),
                component=1,
                transport="udp",
                priority=candidate_priority(1, "host"),
                host=host,
                port=port,
                type="host",
            )
            return protocol
        self.problems.append(f"no UDP port could be bound on {address}")
        return None

    async def _ask_all(self, servers: Sequence[IceServer], found: Callable[[str], None]) -> None:
        """Ask all STUN and TURN servers at once, for at most `GATHER_S`."""

        async def ask(
            server: IceServer, question: Coroutine[Any, Any, tuple[aioice.Candidate, Any]]
        ) -> None:
            try:
                async with asyncio.timeout(GATHER_S):
                    candidate, protocol = await question
            except Exception as error:
                # OSError, TimeoutError and the TransactionErrors of STUN; whatever a server
                # answers, it costs us no more than its candidate
                self.problems.append(f"{server.url} {_reason(error)}")
                return
            if self._closing:
                if protocol is not None:
                    protocol.transport.close()
                return
            self._add_local(candidate, protocol, found)

        questions = []
        hosts = [item for item in self._protocols if ":" not in item.local_candidate.host]
        for server in servers:
            if server.is_turn:
                questions.append(ask(server, self._ask_turn(server)))
            else:
                host, port, _ = _parts(server)
                questions += [
                    ask(server, server_reflexive_candidate(protocol, (host, port)))
                    for protocol in hosts
                    if not self._options.relay_only
                ]
        self._asking = {asyncio.create_task(question) for question in questions}
        try:
            if self._asking:
                await asyncio.wait(self._asking)
        finally:
            for task in self._asking:
                task.cancel()

    def _ask_turn(
        self, server: IceServer
    ) -> Coroutine[Any, Any, tuple[aioice.Candidate, StunProtocol]]:
        host, port, transport = _parts(server)
        return relayed_candidate(
            component=1,
            hide_related_address=self._options.relay_only,
            protocol_factory=lambda: _Guard(self),
            turn_server=(host, port),
            turn_username=server.username,
            turn_password=server.credential,
            turn_ssl=server.url.startswith("turns"),
            turn_transport=transport,
        )

    def _add_local(
        self,
        candidate: aioice.Candidate,
        protocol: StunProtocol | None,
        found: Callable[[str], None],
    ) -> None:
        """Take a candidate into the list, and its socket (if it has one) into the checks."""
        known = {(item.host, item.port) for item in self._local_candidates}
        if (candidate.host, candidate.port) in known:
            return  # no NAT between here and the STUN server
        self._local_candidates.append(candidate)
        if protocol is not None:
            self._protocols.append(protocol)
            if self._early_checks_done:
                for remote in self._remote_candidates:
                    self._pair_remote_candidate(remote)
                self.sort_check_list()
        found(candidate.to_sdp())

    def _remote_candidates_expected(self) -> bool:
        # as long as there may be more pairs, checks go on, and have not failed
        return self._gathering or super()._remote_candidates_expected()

    def check_incoming(
        self, message: stun.Message, addr: tuple[str, int], protocol: StunProtocol
    ) -> None:
        # FFmpeg's first WHIP muxers leave PRIORITY out, which aioice takes for granted
        message.attributes.setdefault("PRIORITY", candidate_priority(1, "prflx"))
        super().check_incoming(message, addr, protocol)
        self._checked_at = asyncio.get_running_loop().time()

    async def query_consent(self) -> None:
        """Keep asking whether we may go on to send (RFC 7675).

        In the place of aioice's own loop, to which each check is a transaction with a timer, and
        with one more proof of consent: FFmpeg's WHIP muxer answers no checks once it sends media,
        but goes on with its own, which are authenticated as well.
        """
        clock, failures = asyncio.get_running_loop(), 0
        asked: _Consent | None = None
        attributes: dict[str, Any] | None = None  # those of every check
        while True:
            await asyncio.sleep(CONSENT_INTERVAL * random.uniform(0.8, 1.2))  # noqa: S311
            if asked is not None:
                asked.withdraw()
                is_alive = asked.is_given or self._checked_at > asked.at - 2 * CONSENT_INTERVAL
                failures = 0 if is_alive else failures + 1
                if failures == CONSENT_FAILURES:
                    break
            pair = self.selected
            assert pair is not None
            if attributes is None:
                attributes = self.build_request(pair, nominate=False).attributes
            asked = self._ask_for_consent(pair, dict(attributes), now=clock.time())
        self._query_consent_task = None
        await self.close()

    def _ask_for_consent(
        self, pair: aioice.ice.CandidatePair, attributes: dict[str, Any], *, now: float
    ) -> _Consent:
        assert self.remote_password is not None
        key = self.remote_password.encode()
        # a number from the system would cost as much as all the rest; it is the key that the
        # answer is known by
        number = random.randbytes(12)  # noqa: S311
        request = stun.Message(stun.Method.BINDING, stun.Class.REQUEST, number, attributes)
        request.add_message_integrity(key)
        asked = _Consent(number, key, pair.protocol, at=now)
        pair.protocol.send_stun(request, pair.remote_addr)
        return asked

    def is_checked(self, address: tuple[Any, ...]) -> bool:
        """Whether a datagram's source is a candidate: signalled, or authenticated by STUN."""
        return any(
            candidate._network_host == address[0] and candidate.port == address[1]
            for candidate in self._remote_candidates
        )

    def protocol_lost(self, protocol: StunProtocol) -> None:
        if any(pair.protocol is protocol for pair in self._nominated.values()):
            self.owner.path_lost(self)

    async def connect(self) -> None:
        await super().connect()
        # it was told how the checks have ended, and early checks are none any more
        self._check_list_state = _UNHEARD  # type: ignore[assignment]
        self._early_checks = ()  # type: ignore[assignment]

    def carry_media(self) -> None:
        """The handshakes are over: what comes now is worth waiting for more of it."""
        if self._options.receives_media:
            for transport in self._sockets():
                transport.carry_media()

    def receive(self) -> None:
        """Read what has come, once; it may be called while another socket is being read."""
        for transport in self._sockets():
            transport.receive(within=True)

    def receive_at_once(self) -> None:
        """Read what has come, and what still comes, without waiting for more of it."""
        for transport in self._sockets():
            transport.receive_at_once()

    def _sockets(self) -> list[UdpTransport]:
        transports = [protocol.transport for protocol in self._protocols]
        return [transport for transport in transports if isinstance(transport, UdpTransport)]

    async def close(self) -> None:
        self._closing = True
        for task in self._asking:
            task.cancel()
        if self._asking:
            await asyncio.wait(self._asking)
        # a TURN server is told that its allocation is not needed any more; one that is gone would
        # be told so for a minute, one allocation after the other
        transports: list[Any] = [item.transport for item in self._protocols]
        relays = [item for item in transports if isinstance(item, TurnTransport)]
        for relay in relays:
            relay.close()

        def give_up() -> None:
            for relay in relays:
                relay._TurnTransport__close_task.cancel()  # type: ignore[attr-defined]

        timer = asyncio.get_running_loop().call_later(RELEASE_S, give_up)
        try:
            await super().close()
        finally:
            timer.cancel()
        self.owner.path_lost(self)


class _Consent:
    """A check whose answer nobody waits for: it is looked at when the next one is due."""

    __slots__ = ("_key", "_number", "_transactions", "at", "is_given")

    def __init__(self, number: bytes, key: bytes, protocol: StunProtocol, *, at: float) -> None:
        self._number = number
        self._key = key
        self._transactions = cast("dict[bytes, Any]", protocol.transactions)
        self._transactions[number] = self
        self.at = at
        self.is_given = False

    def response_received(self, message: stun.Message, _addr: tuple[str, int]) -> None:
        """As aioice calls it for a transaction."""
        if message.message_class == stun.Class.RESPONSE:
            self.is_given = message.check_message_integrity(self._key)

    def withdraw(self) -> None:
        """No answer to it counts any more."""
        del self._transactions[self._number]


class _Guard(StunProtocol):
    """Looks at each datagram before aioice does: STUN goes on to it, the rest is ours.

    The first byte tells them apart (RFC 7983 § 7).
    """

    receiver: IceAgent

    def datagrams_received(
        self, datagrams: Sequence[Datagram], source: Callable[[int], tuple[Any, ...]]
    ) -> None:
        """In their order: a goodbye is not heard before the packets that came before it."""
        media: list[Datagram] = []
        for index, datagram in enumerate(datagrams):
            data = datagram[0]
            if data and 128 <= data[0] <= 191:
                media.append(datagram)
                continue
            if media:
                self.receiver.owner.on_media(media)
                media = []
            self.datagram_received(data, source(index))
        if media:
            self.receiver.owner.on_media(media)

    def datagram_received(self, data: bytes | str, addr: tuple[Any, ...]) -> None:
        """A single one, as TURN hands it over."""
        assert isinstance(data, bytes)
        # an empty datagram is for nobody: one of them closes a stock connection
        first = data[0] if data else 255
        if 128 <= first <= 191:
            self.receiver.owner.on_media([(data, time.monotonic())])
        elif first < 4:
            # aioice raises struct.error, KeyError and more over what strangers call STUN
            with contextlib.suppress(Exception):
                super().datagram_received(data, addr)
        elif 20 <= first <= 63 and self.receiver.is_checked(addr):
            # nobody but a checked address may talk DTLS: one stray ClientHello before the
            # handshake would make it fail for both ends
            self.receiver.owner.dtls_received(data)


def parse_candidate(text: str) -> aioice.Candidate | None:
    """A candidate as SDP or an RTCIceCandidateInit write it; raises `CandidateRejected`.

    None for one that is well formed, and of no use to us.
    """
    value = text.strip().removeprefix("a=").removeprefix("candidate:")
    try:
        candidate = aioice.Candidate.from_sdp(value)
    except (ValueError, AssertionError, IndexError) as error:
        raise CandidateRejected(f"no ICE candidate: {text[:100]!r}") from error
    if not 0 <= candidate.port <= 65535 or not 1 <= candidate.component <= 256:
        raise CandidateRejected(f"no ICE candidate: {text[:100]!r}")
    # an address with a scope is good on its own link only, and asyncio chokes on some
    if candidate.port == 0 or "%" in candidate.host or not candidate.host.isascii():
        return None
    return candidate


def _if_alone(addresses: Sequence[str]) -> Sequence[str]:
    return () if addresses else ("127.0.0.1",)


def _ports(allowed: PortRange | None) -> Iterator[int]:
    """The ports to try: any that is free, or all of a range, beginning somewhere in it."""
    if allowed is None:
        yield 0
        return
    count = allowed.last - allowed.first + 1
    start = secrets.randbelow(count)
    for index in range(count):
        yield allowed.first + (start + index) % count


def _parts(server: IceServer) -> tuple[str, int, str]:
    """Host, port and transport of a STUN or TURN address (RFC 7064, RFC 7065)."""
    scheme, _, rest = server.url.partition(":")
    address, _, query = rest.partition("?")
    secure = scheme.endswith("s")
    host, port = _host_and_port(address, default=5349 if secure else 3478)
    return host, port, "tcp" if secure or query == "transport=tcp" else "udp"


def _host_and_port(address: str, *, default: int) -> tuple[str, int]:
    host, colon, port = address.rpartition(":")
    if colon and port.isdigit() and not host.endswith(":"):
        return host.strip("[]"), int(port)
    return address.strip("[]"), default


def _reason(error: Exception) -> str:
    if isinstance(error, stun.TransactionFailed):
        code, text = error.response.attributes.get("ERROR-CODE", (0, ""))
        return f"refuses the credentials ({code} {text})" if code == 401 else f"says {code} {text}"
    if isinstance(error, TimeoutError | stun.TransactionTimeout):
        return f"has not answered within {GATHER_S:g} s"
    return f"cannot be reached: {error}"
