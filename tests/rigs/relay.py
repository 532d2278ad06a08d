"""A bad network: a UDP relay between client and server that logs what it does.

The client gets the relay's address instead of the server's; the server learns the relay as a
peer-reflexive candidate. RTP headers are not encrypted, so the relay can log every packet.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

_SENDER_REPORT = 200

Plan = Callable[[int], list[float]]
"""Maps the index of an RTP packet to the delays (s) of its copies; without any it is lost."""


@dataclass
class Log:
    """The RTP packets of a client, in order of sending; retransmissions are not packets."""

    sent: list[tuple[int, int]] = field(default_factory=list)
    """Sequence number and timestamp of each packet."""
    indexes: dict[tuple[int, int], int] = field(default_factory=dict)
    """The index of each packet in `sent`."""
    dropped: set[int] = field(default_factory=set)
    """Indexes (into `sent`) of the packets that were lost each time they were sent."""
    arrivals: dict[int, float] = field(default_factory=dict)
    """When each packet that was not lost reached the relay, on the event loop's clock."""
    lost_at_first: int = 0
    """Number of packets that were lost when they were sent for the first time."""
    repeated: int = 0
    """Number of retransmissions, lost ones included."""
    reports: int = 0
    """Number of the client's sender reports."""

    @property
    def delivered(self) -> list[int]:
        return [index for index in range(len(self.sent)) if index not in self.dropped]


class Relay:
    """A relay between one client and one server.

    `plan` is for packets that are sent for the first time, and `again` for those that are sent
    again; without it they share the fate of the latest new packet. `back` is for RTCP packets of
    the server, retransmission requests among them. `delay_s` is added in both directions.
    """

    def __init__(
        self,
        plan: Plan,
        log: Log | None = None,
        *,
        again: Plan | None = None,
        back: Plan | None = None,
        delay_s: float = 0.0,
    ) -> None:
        self.log = log or Log()
        self._again = again
        self._back_plan = back or clean
        self._delay_s = delay_s
        self._from_server_count = 0
        self.is_blackhole = False
        """Whether everything is dropped, including STUN and DTLS."""
        self._plan = plan
        self._server: tuple[str, int] | None = None
        self._client: tuple[str, int] | None = None
        self._front: asyncio.DatagramTransport | None = None
        self._back: asyncio.DatagramTransport | None = None

    async def intercept(self, answer_sdp: str) -> str:
        """Listen, and return the answer with the relay's address in place of the server's."""
        addresses = re.findall(r"a=candidate:\S+ 1 udp \d+ (\S+) (\d+) typ host", answer_sdp)
        host, port = next((host, port) for host, port in addresses if ":" not in host)
        self._server = (host, int(port))
        loop = asyncio.get_running_loop()
        self._front, _ = await loop.create_datagram_endpoint(
            lambda: _Side(self._from_client), local_addr=(host, 0)
        )
        await self.rebind()
        own_host, own_port = self._front.get_extra_info("sockname")
        stripped = re.sub(r"a=(candidate:.*|end-of-candidates)\r\n", "", answer_sdp)
        return (
            f"{stripped}a=candidate:1 1 udp 2130706431 {own_host} {own_port} typ host\r\n"
            "a=end-of-candidates\r\n"
        )

    async def rebind(self) -> None:
        """Send to the server from another port, as after a NAT rebinding."""
        assert self._server is not None
        old = self._back
        self._back, _ = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: _Side(self._from_server), local_addr=(self._server[0], 0)
        )
        if old is not None:
            old.close()

    def close(self) -> None:
        for transport in (self._front, self._back):
            if transport is not None:
                transport.close()

    def _from_client(self, data: bytes, address: tuple[str, int]) -> None:
        self._client = address
        is_rtp = len(data) >= 12 and 128 <= data[0] <= 191 and not 192 <= data[1] <= 223
        if not is_rtp:
            self.log.reports += len(data) > 2 and data[1] == _SENDER_REPORT
            if not self.is_blackhole:
                is_report = len(data) > 1 and 192 <= data[1] <= 223 and 128 <= data[0] <= 191
                self._after(self._delay_s if is_report else 0.0, self._to_server, data)
            return
        self._rtp_from_client(data)

    def _rtp_from_client(self, data: bytes) -> None:
        log = self.log
        sequence, timestamp = int.from_bytes(data[2:4], "big"), int.from_bytes(data[4:8], "big")
        index = log.indexes.setdefault((sequence, timestamp), len(log.sent))
        is_new = index == len(log.sent)
        if is_new:
            log.sent.append((sequence, timestamp))
            delays = self._plan(index)
        elif self._again is not None:
            delays = self._again(log.repeated)
        else:
            delays = self._plan(len(log.sent) - 1)
        log.repeated += not is_new
        if self.is_blackhole:
            delays = []
        log.lost_at_first += is_new and not delays
        if delays:
            log.arrivals.setdefault(index, asyncio.get_running_loop().time())
            log.dropped.discard(index)
        elif index not in log.arrivals:
            log.dropped.add(index)
        for delay in delays:
            self._after(delay + self._delay_s, self._to_server, data)

    def _after(self, delay_s: float, call: Callable[[bytes], None], data: bytes) -> None:
        if delay_s:
            asyncio.get_running_loop().call_later(delay_s, call, data)
        else:
            call(data)

    def _to_server(self, data: bytes) -> None:
        if self._back is not None and not self._back.is_closing():
            self._back.sendto(data, self._server)

    def _from_server(self, data: bytes, _address: tuple[str, int]) -> None:
        if self.is_blackhole:
            return
        if not (len(data) >= 8 and 128 <= data[0] <= 191 and 192 <= data[1] <= 223):
            self._to_client(data)
            return
        index, self._from_server_count = self._from_server_count, self._from_server_count + 1
        for delay in self._back_plan(index):
            self._after(delay + self._delay_s, self._to_client, data)

    def _to_client(self, data: bytes) -> None:
        if self._client is not None and self._front is not None and not self._front.is_closing():
            self._front.sendto(data, self._client)


class _Side(asyncio.DatagramProtocol):
    def __init__(self, received: Callable[[bytes, tuple[str, int]], None]) -> None:
        self._received = received

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        self._received(data, (addr[0], addr[1]))


# -- plans -------------------------------------------------------------------------------------


def clean(_index: int) -> list[float]:
    return [0.0]


def random_loss(share: float, *, seed: int = 1) -> Plan:
    """Lose each packet with the same probability; the same seed loses the same packets."""
    dice = random.Random(seed)
    fates = _drawn(lambda: dice.random() < share)
    return lambda index: [] if fates(index) else [0.0]


def burst_loss(share: float, *, mean_length: float = 4.0, seed: int = 1) -> Plan:
    """Lose `share` of all packets in bursts of `mean_length` on average (Gilbert-Elliott)."""
    dice = random.Random(seed)
    leave = 1 / mean_length
    enter = leave * share / (1 - share)
    bad = False

    def step() -> bool:
        nonlocal bad
        bad = dice.random() >= leave if bad else dice.random() < enter
        return bad

    fates = _drawn(step)
    return lambda index: [] if fates(index) else [0.0]


def bursts_in_time(share: float, *, mean_s: float, seed: int = 1) -> Plan:
    """Lose everything during `share` of the time, for `mean_s` at a time on average."""
    slot_s = 0.02
    slots = burst_loss(share, mean_length=mean_s / slot_s, seed=seed)
    began: list[float] = []

    def plan(_index: int) -> list[float]:
        now = asyncio.get_running_loop().time()
        began.append(now)
        return slots(int((now - began[0]) / slot_s))

    return plan


def reordering(packets: int, *, seed: int = 1) -> Plan:
    """Delay packets so that up to `packets` others (of 20 ms) overtake each."""
    dice = random.Random(seed)
    delays = _drawn(lambda: dice.uniform(0, 0.02 * packets * 0.95))
    return lambda index: [delays(index)]


def duplicates(share: float, *, seed: int = 1) -> Plan:
    dice = random.Random(seed)
    fates = _drawn(lambda: dice.random() < share)
    return lambda index: [0.0, dice.uniform(0, 0.1)] if fates(index) else [0.0]


def jitter(most_s: float, *, seed: int = 1) -> Plan:
    dice = random.Random(seed)
    delays = _drawn(lambda: dice.uniform(0, most_s))
    return lambda index: [delays(index)]


def both(first: Plan, second: Plan) -> Plan:
    """Combine two plans: a packet is lost if either loses it; the second decides its delays."""
    return lambda index: second(index) if first(index) else []


def _drawn(draw: Callable[[], Any]) -> Callable[[int], Any]:
    """Return a function from n to the n-th draw, which remembers earlier draws."""

    def endless() -> Iterator[Any]:
        while True:
            yield draw()

    source, drawn = endless(), []

    def at(index: int) -> Any:
        while len(drawn) <= index:
            drawn.append(next(source))
        return drawn[index]

    return at
