"""Reports (RFC 3550 § 6.4), each with the CNAME that has to go with it (§ 6.1)."""

from __future__ import annotations

import datetime

from aiortc.clock import datetime_to_ntp
from aiortc.rtp import (
    RtcpReceiverInfo,
    RtcpRrPacket,
    RtcpSdesPacket,
    RtcpSenderInfo,
    RtcpSourceInfo,
    RtcpSrPacket,
)

from domain.rtp import ReceptionReport

_CNAME = 1


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
    return bytes(RtcpSrPacket(ssrc=ssrc, sender_info=info)) + _description(ssrc, cname)


def receiver_report(
    *, ssrc: int, cname: str, report: ReceptionReport | None, lsr: int, dlsr: int
) -> bytes:
    """What a receiver has received; without a `report` it says that it is there.

    `lsr` and `dlsr` are the middle of the latest sender report's time, and the time since it
    came, in 1/65536 s.
    """
    blocks = []
    if report is not None:
        blocks.append(
            RtcpReceiverInfo(
                ssrc=report.ssrc,
                fraction_lost=report.fraction_lost,
                packets_lost=report.packets_lost,
                highest_sequence=report.highest_sequence,
                jitter=report.jitter,
                lsr=lsr,
                dlsr=dlsr,
            )
        )
    return bytes(RtcpRrPacket(ssrc=ssrc, reports=blocks)) + _description(ssrc, cname)


def _description(ssrc: int, cname: str) -> bytes:
    chunk = RtcpSourceInfo(ssrc=ssrc, items=[(_CNAME, cname.encode())])
    return bytes(RtcpSdesPacket(chunks=[chunk]))
