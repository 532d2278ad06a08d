"""RTP packets from strangers: parsed or refused."""

from __future__ import annotations

import contextlib

import pytest
from aiortc.rtcrtpparameters import RTCRtpHeaderExtensionParameters, RTCRtpReceiveParameters
from aiortc.rtp import HeaderExtensions, HeaderExtensionsMap
from aiortc.rtp import RtpPacket as TheirPacket
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import PacketInvalid
from domain.rtp.packets import RtpPacket, is_rtcp, parse_rtp
from domain.rtp.reports import ReceptionStatistics


@given(
    payload_type=st.integers(0, 127),
    sequence=st.integers(0, 2**16 - 1),
    timestamp=st.integers(0, 2**32 - 1),
    ssrc=st.integers(0, 2**32 - 1),
    marker=st.booleans(),
    payload=st.binary(max_size=100),
    csrc=st.lists(st.integers(0, 2**32 - 1), max_size=15),
    padding=st.integers(0, 255),
    mid=st.none() | st.text("abc", min_size=1, max_size=10),
)
def test_packets_of_another_stack_are_read_correctly(
    payload_type: int,
    sequence: int,
    timestamp: int,
    ssrc: int,
    marker: bool,
    payload: bytes,
    csrc: list[int],
    padding: int,
    mid: str | None,
) -> None:
    theirs = TheirPacket(payload_type, int(marker), sequence, timestamp, ssrc, payload)
    theirs.csrc, theirs.padding_size = csrc, padding
    theirs.extensions = HeaderExtensions(mid=mid)
    extensions = HeaderExtensionsMap()
    extensions.configure(
        RTCRtpReceiveParameters(
            headerExtensions=[
                RTCRtpHeaderExtensionParameters(id=1, uri="urn:ietf:params:rtp-hdrext:sdes:mid")
            ]
        )
    )
    assert parse_rtp(theirs.serialize(extensions)) == RtpPacket(
        payload_type, sequence, timestamp, ssrc, payload, marker
    )


@given(st.binary(max_size=200))
def test_garbage_is_a_packet_or_an_error_and_nothing_else(data: bytes) -> None:
    with contextlib.suppress(PacketInvalid):
        parse_rtp(data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x80" * 11,
        b"\x40" + bytes(11),
        b"\x8f" + bytes(11),
        b"\x90" + bytes(13) + b"\xff\xff",
        b"\xa0" + bytes(11) + b"\x00",
        b"\xa0" + bytes(11) + b"\xff",
    ],
    ids=["empty", "short", "version", "csrc", "extension", "no padding", "long padding"],
)
def test_a_broken_header_is_refused(data: bytes) -> None:
    with pytest.raises(PacketInvalid):
        parse_rtp(data)


def test_rtcp_is_distinguished_from_rtp_by_its_second_byte() -> None:
    assert is_rtcp(b"\x80\xc8") and is_rtcp(b"\x81\xc9")
    assert not is_rtcp(b"\x80\x6f") and not is_rtcp(b"\x80\xef")


def packet(sequence: int, timestamp: int, arrived: float) -> RtpPacket:
    return RtpPacket(111, sequence % 2**16, timestamp % 2**32, 7, b"", arrived=arrived)


def test_reports_count_loss_through_the_wrap() -> None:
    statistics = ReceptionStatistics(7, clock_rate_hz=48_000)
    assert statistics.report() is None
    for n in [0, 1, 3, 4]:
        statistics.received([packet(65_534 + n, n * 960, n * 0.02)])
    report = statistics.report()
    assert report is not None
    assert (report.packets_lost, report.fraction_lost) == (1, 256 // 5)
    assert report.highest_sequence == 65_538
    statistics.received([packet(65_539, 4800, 0.1)])
    again = statistics.report()
    assert again is not None
    assert (again.packets_lost, again.fraction_lost) == (1, 0)


def test_jitter_is_that_of_rfc_3550_and_survives_the_timestamp_wrap() -> None:
    statistics = ReceptionStatistics(7, clock_rate_hz=48_000)
    expected, packets = 0.0, []
    for n in range(200):
        late = 0.005 if n % 2 else 0.0
        packets.append(packet(n, 2**32 - 96_000 + n * 960, n * 0.02 + late))
        if n:
            expected += (0.005 * 48_000 - expected) / 16
    for start in range(0, 200, 7):  # for any number of packets per call
        statistics.received(packets[start : start + 7])
    report = statistics.report()
    assert report is not None
    assert report.jitter == pytest.approx(expected, abs=1)
