"""Reports (RFC 3550 § 6.4), each with the CNAME that has to go with it (§ 6.1)."""

from __future__ import annotations

import datetime
import struct

from aiortc.clock import datetime_to_ntp
from aiortc.rtp import (
    RtcpSdesPacket,
    RtcpSenderInfo,
    RtcpSourceInfo,
    RtcpSrPacket,
)

from domain.rtp.reports import ReceptionReport

_CNAME = 1
_SENDER_REPORT, _RECEIVER_REPORT = 200, 201
_HEADER, _SENDER_INFO = struct.Struct("!BBH"), struct.Struct("!4xIII")
_EMPTY_REPORT, _REPORT = struct.Struct("!BBHI"), struct.Struct("!BBHI6I")


def sender_report(
    *, ssrc: int, cname: str, rtp_timestamp: int, packets: int, octets: int, at: datetime.datetime
) -> bytes:
    """What a sender has sent, and which RTP timestamp belongs to the moment `at`."""
    info = RtcpSenderInfo(
        ntp_timestamp=datetime_to_ntp(at),
        rtp_timestamp=rtp_timestamp % 2**32,
        packet_count=packets % 2**32,
        octet_count=octets % 2**32,
    )
    return bytes(RtcpSrPacket(ssrc=ssrc, sender_info=info)) + source_description(ssrc, cname)


def receiver_report(
    *, ssrc: int, description: bytes, report: ReceptionReport | None, lsr: int, dlsr: int
) -> bytes:
    """What a receiver has received; without a `report` it says that it is there.

    `description` is its `source_description`; `lsr` and `dlsr` are the middle of the latest sender
    report's time, and the time since it came, in 1/65536 s. Written here, since a server sends
    two for each stream and second, and a packet of objects takes ten times as long.
    """
    if report is None:
        return _EMPTY_REPORT.pack(0x80, _RECEIVER_REPORT, 1, ssrc) + description
    lost = report.fraction_lost << 24 | report.packets_lost & 0xFFFFFF
    return (
        _REPORT.pack(
            0x81, _RECEIVER_REPORT, 7, ssrc,
            report.ssrc, lost, report.highest_sequence, report.jitter, lsr, dlsr,
        )
        + description
    )  # fmt: skip


def sender_time(data: bytes) -> tuple[int, int] | None:
    """The SSRC of a sender report, and the middle of its NTP time (16.16 bits of seconds).

    `data` is a compound packet; None without a sender report. Raises `ValueError` for what is no
    RTCP.
    """
    start, end = 0, len(data)
    while start < end:
        if end - start < _HEADER.size:
            raise ValueError("an RTCP header is cut off")
        first, kind, length = _HEADER.unpack_from(data, start)
        behind = start + 4 * (length + 1)
        if first >> 6 != 2 or behind > end:
            raise ValueError("no RTCP packet")
        if kind == _SENDER_REPORT and behind - start >= _SENDER_INFO.size:
            ssrc, seconds, fraction = _SENDER_INFO.unpack_from(data, start)
            return ssrc, (seconds & 0xFFFF) << 16 | fraction >> 16
        start = behind
    return None


def source_description(ssrc: int, cname: str) -> bytes:
    """The CNAME of a source (§ 6.5)."""
    chunk = RtcpSourceInfo(ssrc=ssrc, items=[(_CNAME, cname.encode())])
    return bytes(RtcpSdesPacket(chunks=[chunk]))
