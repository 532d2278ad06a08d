"""Connects scripted senders, and sends everything they have to send from one loop."""

from __future__ import annotations

import asyncio
import datetime
import gc
import heapq
import re
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from aiortc import RTCCertificate

from adapters.transport.dtls.transport import DtlsTransport
from adapters.transport.ice.options import IceOptions
from adapters.transport.rtcp.reports import sender_report
from adapters.transport.sdp.parsing import parse_answer
from benchmarks.senders.script import Connect, Item, Packet, Report

CONNECTING_AT_ONCE = 6
PHASES, PHASE_S = 10, 0.002
"""The senders are spread over the 20 ms of a packet, so that they do not send in step."""
WAKE_UP_S = 0.001
CAPTURE_TIME_URI = "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time"
_CAPTURE_TIME_OFFERED_AS = 4
_NTP_EPOCH = datetime.datetime(1900, 1, 1, tzinfo=datetime.UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Offered:
    """What a sender offers."""

    codecs: Sequence[str] = ("111 opus/48000/2",)
    fmtp: str = "minptime=10;useinbandfec=1"
    """The parameters of Opus."""
    attributes: Sequence[str] = ()
    """Further lines of the m-line."""
    capture_time: bool = False


@dataclass(frozen=True, slots=True)
class Negotiated:
    """What the server answered."""

    payload_types: frozenset[int]
    capture_time: int | None
    """The id of the header extension; None if it was not accepted."""
    is_stereo: bool


def write_packet(
    packet: Packet, capture_time: int | None, captured_at: datetime.datetime | None
) -> bytes:
    """Serialize a packet, with ``abs-capture-time`` if it has an id and there is a time."""
    extension = b""
    if capture_time is not None and captured_at is not None:
        # a one-byte header (RFC 8285 § 4.2) and the 8 bytes of a UQ32.32 NTP time
        seconds = (captured_at - _NTP_EPOCH).total_seconds()
        element = bytes([capture_time << 4 | 7]) + round(seconds * 2**32).to_bytes(8, "big")
        extension = struct.pack("!HH", 0xBEDE, 3) + element.ljust(12, b"\0")
    header = struct.pack(
        "!BBHII",
        0x90 if extension else 0x80,
        packet.payload_type | (0x80 if packet.marker else 0),
        packet.sequence,
        packet.timestamp,
        packet.ssrc,
    )
    return header + extension + packet.payload


class _Link:
    """One connection of a sender."""

    def __init__(self, offered: Offered) -> None:
        self._transport = DtlsTransport(
            IceOptions(loopback=("127.0.0.1",)),
            controlling=True,
            certificate=RTCCertificate.generateCertificate(),
        )
        self.offer = _offer(self._transport, offered)
        self.negotiated = Negotiated(frozenset(), None, False)
        self._packets = 0
        self._octets = 0

    async def connect(self, answer_sdp: str) -> None:
        self.negotiated = _negotiated(answer_sdp)
        answer = parse_answer(answer_sdp)
        transport = self._transport
        transport.ice.set_remote(answer.username, answer.password)
        # the server learns the candidates from the checks
        transport.ice.gather_host(lambda _candidate: None)
        async with asyncio.timeout(30):
            await transport.connect(
                answer.dtls,
                role=answer.dtls_role,
                candidates=answer.candidates,
                candidates_complete=answer.candidates_complete,
            )
        transport.ice.on_media = lambda _datagrams: None

    def send(self, packet: Packet, utc: Callable[[float], datetime.datetime]) -> None:
        self._packets += 1
        self._octets += len(packet.payload)
        at = utc(packet.captured) if packet.is_capture_time_due else None
        self._transport.send(write_packet(packet, self.negotiated.capture_time, at))

    def report(self, report: Report, utc: Callable[[float], datetime.datetime]) -> None:
        self._transport.send_reports(
            sender_report(
                ssrc=report.ssrc,
                cname="scripted",
                rtp_timestamp=report.rtp_timestamp,
                packets=self._packets,
                octets=self._octets,
                at=_NTP_EPOCH if report.ntp is None else utc(report.ntp),
            )
        )

    async def close(self) -> None:
        await self._transport.close()


@dataclass(slots=True)
class Sender:
    """A scripted sender with its session."""

    name: str
    offered: Offered
    script: Callable[[Negotiated], Sequence[Item]]
    items: list[Item] = field(default_factory=list)
    session: str = ""
    negotiated: Negotiated = field(default_factory=lambda: Negotiated(frozenset(), None, False))
    behind_s: float = 0.0
    """The longest time by which something was sent too late."""
    problems: list[str] = field(default_factory=list)
    began_at: float = 0.0
    """When its script began, in monotonic seconds; 0 before."""
    _links: dict[int, _Link] = field(default_factory=dict)
    _resume: str = ""
    _began_utc: datetime.datetime = _NTP_EPOCH

    async def connect(self, url: str, http: aiohttp.ClientSession) -> None:
        await self._connect(url, http, 0)
        self.negotiated = self._links[0].negotiated
        self.items = sorted(self.script(self.negotiated), key=lambda item: item.at)

    def begin(self, at: float) -> None:
        self.began_at = at
        self._began_utc = datetime.datetime.now(datetime.UTC) + datetime.timedelta(
            seconds=at - time.monotonic()
        )

    def schedule(self) -> Iterator[tuple[float, int, Item, Sender]]:
        for number, item in enumerate(self.items):
            yield self.began_at + item.at, number, item, self

    def do(self, item: Item, url: str, http: aiohttp.ClientSession) -> asyncio.Task[None] | None:
        match item:
            case Connect(connection=number):
                return asyncio.create_task(self._connect(url, http, number))
            case Packet(connection=number):
                if (link := self._links.get(number)) is not None:
                    link.send(item, self._utc)
                else:
                    self.problems.append(f"connection {number} was too late")
            case Report(connection=number):
                if (link := self._links.get(number)) is not None:
                    link.report(item, self._utc)
        return None

    async def close(self) -> None:
        for number in sorted(self._links):
            await self._links[number].close()

    def _utc(self, seconds: float) -> datetime.datetime:
        return self._began_utc + datetime.timedelta(seconds=seconds)

    async def _connect(self, url: str, http: aiohttp.ClientSession, number: int) -> None:
        link = _Link(self.offered)
        body: dict[str, Any] = {"sdp": link.offer, "type": "offer", "name": self.name}
        if self._resume:
            body["resume"] = self._resume
        async with http.post(f"{url}/offer", json=body) as response:
            assert response.status == 200, await response.text()
            answer = await response.json()
        self.session, self._resume = answer["id"], answer["resume"]
        await link.connect(answer["sdp"])
        self._links[number] = link


async def play(url: str, senders: Sequence[Sender]) -> None:
    """Connect all senders, let them send at the same time, and close each when it is done."""
    async with aiohttp.ClientSession() as http:
        gate = asyncio.Semaphore(CONNECTING_AT_ONCE)

        async def connect(sender: Sender) -> None:
            async with gate:
                await sender.connect(url, http)

        await asyncio.gather(*map(connect, senders))
        began = time.monotonic() + 0.2
        for number, sender in enumerate(senders):
            sender.begin(began + number % PHASES * PHASE_S)
        gc.collect()
        gc.disable()  # a full collection would delay packets
        try:
            await asyncio.gather(*await _send(senders, url, http))
        finally:
            gc.enable()


async def _send(
    senders: Sequence[Sender], url: str, http: aiohttp.ClientSession
) -> list[asyncio.Task[None]]:
    tasks: list[asyncio.Task[None]] = []
    left = {id(sender): len(sender.items) for sender in senders}
    schedules = [sender.schedule() for sender in senders]
    for due, _, item, sender in heapq.merge(*schedules, key=lambda entry: entry[0]):
        now = time.monotonic()
        if due > now:
            await asyncio.sleep(max(WAKE_UP_S, due - now))
            now = time.monotonic()
        sender.behind_s = max(sender.behind_s, now - due)
        if (task := sender.do(item, url, http)) is not None:
            tasks.append(task)
        left[id(sender)] -= 1
        if not left[id(sender)]:
            tasks.append(asyncio.create_task(sender.close()))
    return tasks


def _offer(transport: DtlsTransport, offered: Offered) -> str:
    ice, fingerprint = transport.ice, transport.fingerprint
    payload_types = [codec.split()[0] for codec in offered.codecs]
    lines = [
        "v=0", "o=- 1 1 IN IP4 0.0.0.0", "s=-", "t=0 0", "a=group:BUNDLE 0",
        f"m=audio 9 UDP/TLS/RTP/SAVPF {' '.join(payload_types)}",
        "c=IN IP4 0.0.0.0", "a=mid:0", "a=sendonly", "a=rtcp-mux",
        *(f"a=rtpmap:{codec}" for codec in offered.codecs),
        *([f"a=fmtp:111 {offered.fmtp}"] if "111" in payload_types else []),
        *offered.attributes,
        f"a=ice-ufrag:{ice.username}", f"a=ice-pwd:{ice.password}", "a=ice-options:trickle",
        f"a=fingerprint:{fingerprint.algorithm} {fingerprint.value}", "a=setup:actpass",
    ]  # fmt: skip
    if offered.capture_time:
        lines.append(f"a=extmap:{_CAPTURE_TIME_OFFERED_AS} {CAPTURE_TIME_URI}")
    return "\r\n".join(lines) + "\r\n"


def _negotiated(answer: str) -> Negotiated:
    media = re.search(r"^m=audio \d+ \S+ ([\d ]+)", answer, re.M)
    assert media is not None, answer
    extension = re.search(rf"^a=extmap:(\d+)\S* {re.escape(CAPTURE_TIME_URI)}", answer, re.M)
    return Negotiated(
        frozenset(map(int, media[1].split())),
        int(extension[1]) if extension else None,
        re.search(r"^a=fmtp:111 .*\bstereo=1", answer, re.M) is not None,
    )
