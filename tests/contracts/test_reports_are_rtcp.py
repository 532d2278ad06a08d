"""The reports that are written and read by hand are what aiortc makes of them."""

from __future__ import annotations

import contextlib
import datetime

import pytest
from aiortc.clock import datetime_to_ntp
from aiortc.rtp import RtcpByePacket, RtcpPacket, RtcpRrPacket, RtcpSdesPacket
from hypothesis import given
from hypothesis import strategies as st

from adapters.transport.rtcp.reports import (
    receiver_report,
    sender_report,
    sender_time,
    source_description,
)
from domain.rtp.reports import ReceptionReport

NOON = datetime.datetime(2026, 3, 20, 12, 0, 0, 250_000, tzinfo=datetime.UTC)
words = st.integers(0, 2**32 - 1)


def report_of(ssrc: int) -> bytes:
    return sender_report(
        ssrc=ssrc, cname="a", rtp_timestamp=2**32 + 5, packets=1, octets=100, at=NOON
    )


@given(ssrc=words, lost=st.integers(-(2**23), 2**23 - 1), fraction=st.integers(0, 255), lsr=words)
def test_a_receiver_report_says_what_was_received(
    ssrc: int, lost: int, fraction: int, lsr: int
) -> None:
    report = ReceptionReport(
        ssrc=9, fraction_lost=fraction, packets_lost=lost, highest_sequence=2**32 - 1, jitter=77
    )
    data = receiver_report(
        ssrc=ssrc, description=source_description(ssrc, "b"), report=report, lsr=lsr, dlsr=3
    )
    received, description = RtcpPacket.parse(data)
    assert isinstance(received, RtcpRrPacket)
    assert isinstance(description, RtcpSdesPacket)
    assert received.ssrc == description.chunks[0].ssrc == ssrc
    (told,) = received.reports
    assert (told.ssrc, told.fraction_lost, told.packets_lost) == (9, fraction, lost)
    assert (told.highest_sequence, told.jitter, told.lsr, told.dlsr) == (2**32 - 1, 77, lsr, 3)


@given(ssrc=words)
def test_the_time_of_a_sender_report_is_found_wherever_it_is(ssrc: int) -> None:
    middle = datetime_to_ntp(NOON) >> 16 & 0xFFFFFFFF
    report, bye = report_of(ssrc), bytes(RtcpByePacket(sources=[ssrc]))
    assert sender_time(report) == sender_time(bye + report) == (ssrc, middle)
    assert sender_time(bye) is None


def test_what_is_cut_off_is_no_report() -> None:
    report = report_of(1)
    first = 4 * (1 + int.from_bytes(report[2:4], "big"))  # the packets of which it is made
    for size in range(1, len(report)):
        if size == first:
            assert sender_time(report[:size]) is not None
        elif size < first:
            with pytest.raises(ValueError, match="RTCP"):
                sender_time(report[:size])


@given(data=st.binary(max_size=60))
def test_whatever_bytes_there_are_it_raises_nothing_else(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        sender_time(data)
