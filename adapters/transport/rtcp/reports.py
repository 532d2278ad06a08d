"""Sender and receiver reports (RFC 3550 § 6.4), each followed by a CNAME (§ 6.1)."""

from __future__ import annotations

import datetime
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from aiortc.clock import datetime_to_ntp
from aiortc.rtp import (
    RtcpSdesPacket,
    RtcpSenderInfo,
    RtcpSourceInfo,
    RtcpSrPacket,
)

from domain.rtp.reports import ReceptionReport, SenderReport

MAX_BLOCKS = 31
"""Report blocks in one receiver report: their count has 5 bits."""
_CNAME = 1
_SENDER_REPORT, _RECEIVER_REPORT = 200, 201
_HEADER, _SENDER_INFO = struct.Struct("!BBH"), struct.Struct("!4xIQI")
_REPORT_HEADER, _BLOCK = struct.Struct("!BBHI"), struct.Struct("!6I")


@dataclass(frozen=True, slots=True)
class ReportBlock:
    """What a receiver report says of one source (§ 6.4.1)."""

    reception: ReceptionReport
    lsr: int = 0
    """The middle 32 bits of the NTP time in the source's latest sender report; 0 without one."""
    dlsr: int = 0
    """The time since that report arrived, in 1/65536 s."""


def sender_report(
    *, ssrc: int, cname: str, rtp_timestamp: int, packets: int, octets: int, at: datetime.datetime
) -> bytes:
    """A sender report: what was sent, and the RTP timestamp that belongs to the time `at`."""
    info = RtcpSenderInfo(
        ntp_timestamp=datetime_to_ntp(at),
        rtp_timestamp=rtp_timestamp % 2**32,
        packet_count=packets % 2**32,
        octet_count=octets % 2**32,
    )
    return bytes(RtcpSrPacket(ssrc=ssrc, sender_info=info)) + source_description(ssrc, cname)


def lsr_of(at: datetime.datetime) -> int:
    """What a receiver report calls the sender report of the time `at` (its LSR)."""
    return datetime_to_ntp(at) >> 16 & 0xFFFFFFFF


def receiver_report(*, ssrc: int, description: bytes, blocks: Sequence[ReportBlock]) -> bytes:
    """A receiver report with up to `MAX_BLOCKS` blocks; without any it is only a heartbeat.

    `description` is the `source_description` of the receiver. The packet is packed here because a
    server sends two a second for each connection, and aiortc's classes take ten times as long.
    """
    # the length is in words of 4 bytes, without the first one (§ 6.4.1)
    parts = [_REPORT_HEADER.pack(0x80 | len(blocks), _RECEIVER_REPORT, 1 + 6 * len(blocks), ssrc)]
    for block in blocks:
        reception = block.reception
        lost = reception.fraction_lost << 24 | reception.packets_lost & 0xFFFFFF
        parts.append(
            _BLOCK.pack(
                reception.ssrc, lost, reception.highest_sequence, reception.jitter,
                block.lsr, block.dlsr,
            )
        )  # fmt: skip
    return b"".join(parts) + description


def sender_reports(data: bytes, arrived: float) -> Iterator[SenderReport]:
    """The sender reports in a compound packet that arrived at `arrived` (monotonic seconds).

    Raises `ValueError` at the first packet that is not RTCP.
    """
    start, end = 0, len(data)
    while start < end:
        if end - start < _HEADER.size:
            raise ValueError("the RTCP header is cut off")
        first, kind, length = _HEADER.unpack_from(data, start)
        behind = start + 4 * (length + 1)
        if first >> 6 != 2 or behind > end:
            raise ValueError("not an RTCP packet")
        if kind == _SENDER_REPORT and behind - start >= _SENDER_INFO.size:
            ssrc, ntp, rtp_timestamp = _SENDER_INFO.unpack_from(data, start)
            yield SenderReport(ssrc, ntp, rtp_timestamp, arrived)
        start = behind


def source_description(ssrc: int, cname: str) -> bytes:
    """A source description packet with the CNAME of a source (§ 6.5)."""
    chunk = RtcpSourceInfo(ssrc=ssrc, items=[(_CNAME, cname.encode())])
    return bytes(RtcpSdesPacket(chunks=[chunk]))
