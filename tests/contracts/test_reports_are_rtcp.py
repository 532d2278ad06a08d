"""Our packing and parsing of reports agrees with aiortc's."""

from __future__ import annotations

import contextlib
import datetime
from dataclasses import replace

import pytest
from aiortc.clock import datetime_to_ntp
from aiortc.rtp import RtcpByePacket, RtcpPacket, RtcpRrPacket, RtcpSdesPacket
from hypothesis import given
from hypothesis import strategies as st

from adapters.transport.rtcp.reports import (
    MAX_BLOCKS,
    ReportBlock,
    receiver_report,
    sender_report,
    sender_reports,
    source_description,
)
from domain.rtp.reports import ReceptionReport, SenderReport

NOON = datetime.datetime(2026, 3, 20, 12, 0, 0, 250_000, tzinfo=datetime.UTC)
words = st.integers(0, 2**32 - 1)


def report_of(ssrc: int) -> bytes:
    return sender_report(
        ssrc=ssrc, cname="a", rtp_timestamp=2**32 + 5, packets=1, octets=100, at=NOON
    )


@given(ssrc=words, lost=st.integers(-(2**23), 2**23 - 1), fraction=st.integers(0, 255), lsr=words)
def test_a_receiver_report_states_what_was_received(
    ssrc: int, lost: int, fraction: int, lsr: int
) -> None:
    report = ReceptionReport(
        ssrc=9, fraction_lost=fraction, packets_lost=lost, highest_sequence=2**32 - 1, jitter=77
    )
    data = receiver_report(
        ssrc=ssrc,
        description=source_description(ssrc, "b"),
        blocks=[ReportBlock(report, lsr=lsr, dlsr=3)],
    )
    received, description = RtcpPacket.parse(data)
    assert isinstance(received, RtcpRrPacket)
    assert isinstance(description, RtcpSdesPacket)
    assert received.ssrc == description.chunks[0].ssrc == ssrc
    (told,) = received.reports
    assert (told.ssrc, told.fraction_lost, told.packets_lost) == (9, fraction, lost)
    assert (told.highest_sequence, told.jitter, told.lsr, told.dlsr) == (2**32 - 1, 77, lsr, 3)


def test_a_receiver_report_has_a_block_for_each_source() -> None:
    blocks = [
        ReportBlock(
            ReceptionReport(
                ssrc=n, fraction_lost=n, packets_lost=-n, highest_sequence=n << 16, jitter=n
            ),
            lsr=100 + n,
            dlsr=200 + n,
        )
        for n in range(MAX_BLOCKS)
    ]
    for count in (0, 2, MAX_BLOCKS):
        data = receiver_report(
            ssrc=5, description=source_description(5, "b"), blocks=blocks[:count]
        )
        received, _ = RtcpPacket.parse(data)
        assert isinstance(received, RtcpRrPacket)
        assert [
            (told.ssrc, told.fraction_lost, told.packets_lost, told.highest_sequence, told.jitter)
            for told in received.reports
        ] == [(n, n, -n, n << 16, n) for n in range(count)]
        assert [(told.lsr, told.dlsr) for told in received.reports] == [
            (100 + n, 200 + n) for n in range(count)
        ]


@given(ssrc=words)
def test_sender_reports_are_found_anywhere_in_a_compound_packet(ssrc: int) -> None:
    ntp = datetime_to_ntp(NOON)
    report, bye = report_of(ssrc), bytes(RtcpByePacket(sources=[ssrc]))
    other = report_of(ssrc ^ 1)
    found = SenderReport(ssrc, ntp, 5, 7.5)
    assert list(sender_reports(report, 7.5)) == list(sender_reports(bye + report, 7.5)) == [found]
    both = [found, replace(found, ssrc=ssrc ^ 1)]
    assert list(sender_reports(report + other, 7.5)) == both
    assert list(sender_reports(bye, 7.5)) == []


def test_a_truncated_packet_is_an_error() -> None:
    report = report_of(1)
    first = 4 * (1 + int.from_bytes(report[2:4], "big"))  # the packets in the compound packet
    for size in range(1, len(report)):
        if size == first:
            assert len(list(sender_reports(report[:size], 0.0))) == 1
        else:
            found = sender_reports(report[:size], 0.0)
            if size > first:  # reports before the cut are valid
                assert next(found).ssrc == 1
            with pytest.raises(ValueError, match="RTCP"):
                next(found)


@given(data=st.binary(max_size=60))
def test_arbitrary_bytes_raise_nothing_but_value_error(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        list(sender_reports(data, 0.0))
