"""A track receiver passes on the packets of one codec and one source, in order."""

from __future__ import annotations

from dataclasses import replace

from domain.rtp.order import Lost, Restarted
from domain.rtp.packets import RtpPacket
from domain.rtp.redundancy import Recovered
from domain.services.server.track_receiver import (
    ConnectionChanged,
    PacketWaits,
    SourceChanged,
    TrackItem,
    TrackReceiver,
)
from domain.sound.detection import CodecParameters

OPUS = CodecParameters("opus", 111, 48_000, 2)
PCMU = CodecParameters("pcmu", 0, 8_000, 1)
RED = CodecParameters("red", 63, 48_000, 2)
CODECS = {codec.payload_type: codec for codec in (OPUS, PCMU, RED)}


def packet(
    n: int, *, ssrc: int = 1, at: float = 0.0, payload_type: int = 111, payload: bytes = b"x"
) -> RtpPacket:
    return RtpPacket(payload_type, n % 2**16, n * 960 % 2**32, ssrc, payload, arrived=at)


def red(n: int, *, payload: bytes = b"\x6fx") -> RtpPacket:
    return packet(n, payload_type=63, payload=payload)


def collected(receiver: TrackReceiver) -> list[TrackItem]:
    """The items that are in order, without the news of packets that wait."""
    return [item for item in receiver.collect() if not isinstance(item, PacketWaits)]


def started(*, known: bool = True, hold_s: float = 0.2) -> TrackReceiver:
    """A receiver that has passed packets 0 and 1; if `known`, the codec is Opus."""
    receiver = TrackReceiver(reorder_hold_s=hold_s)
    receiver.connect(CODECS, codec=None, number=1, now=5.0)
    receiver.packets_received([packet(0, at=-9.0)])
    receiver.poll(now=0.0)
    receiver.packets_received([packet(1)])
    assert collected(receiver) == [
        ConnectionChanged(CODECS, 1, 5.0), SourceChanged(1), packet(0, at=-9.0), packet(1),
    ]  # fmt: skip
    assert collected(receiver) == []
    if known:
        receiver.accept_only(OPUS)
    return receiver


# -- what is acceptable ----------------------------------------------------------------------------


def test_packets_of_payload_types_that_were_not_negotiated_are_rejected() -> None:
    for known in (True, False):
        receiver = started(known=known)
        receiver.packets_received([packet(2), packet(3, payload_type=96), packet(3)])
        assert collected(receiver) == [packet(2), packet(3)]
        assert receiver.rejected == {"payload type": 1}


def test_once_the_codec_is_known_packets_of_others_are_rejected() -> None:
    receiver = started()
    pcmu = [packet(n, payload_type=0) for n in (2, 3)]
    receiver.packets_received([*pcmu, packet(2)])
    assert collected(receiver) == [packet(2)]
    assert receiver.rejected == {"payload type": 2}


def test_padding_in_red_is_a_packet_without_sound() -> None:
    """Chromium probes the bandwidth with it."""
    receiver = started()
    padding = [replace(red(n, payload=b""), timestamp=packet(2).timestamp) for n in (3, 4)]
    behind = replace(red(5), timestamp=packet(3).timestamp)
    receiver.packets_received([red(2), *padding, behind])
    assert [(item.sequence, item.payload_type, item.payload) for item in receiver.collect()] == [
        (2, 111, b"x"), (3, 111, b""), (4, 111, b""), (5, 111, b"x"),
    ]  # fmt: skip
    assert +receiver.rejected == {}


def test_before_that_packets_of_any_codec_pass() -> None:
    receiver = started(known=False)
    pcmu = packet(2, payload_type=0)
    receiver.packets_received([pcmu, packet(3)])
    assert collected(receiver) == [pcmu, packet(3)]
    assert +receiver.rejected == {}


def test_red_is_unwrapped_and_its_payload_type_is_checked() -> None:
    for known in (True, False):
        receiver = started(known=known)
        in_red = red(3, payload=b"\x60x")  # payload type 96
        itself = red(3, payload=b"\x3f\x3fx")  # RED in RED
        receiver.packets_received([red(2), in_red, itself, red(3), packet(4)])
        passed = collected(receiver)
        assert [(item.sequence, item.payload_type) for item in passed] == [
            (2, 111), (3, 111), (4, 111),
        ]  # fmt: skip
        assert receiver.rejected == {"payload type": 2}


def test_broken_red_is_rejected_without_losing_later_packets() -> None:
    receiver = started()
    receiver.packets_received([red(2, payload=b""), red(2, payload=b"\xef"), packet(2)])
    assert collected(receiver) == [packet(2)]
    assert receiver.rejected == {"redundancy": 2}


def test_copies_in_red_stand_in_for_lost_packets() -> None:
    receiver = started()
    header = (0x80 | 111) << 24 | 960 << 10 | 3
    carrier = red(3, payload=header.to_bytes(4, "big") + b"\x6foldnew")
    receiver.packets_received([carrier])
    assert receiver.poll(now=0.3)
    copy, last = collected(receiver)
    assert isinstance(copy, Recovered)
    assert (copy.sequence, copy.payload) == (2, b"old")
    assert isinstance(last, RtpPacket)
    assert (last.sequence, last.payload) == (3, b"new")


# -- order -----------------------------------------------------------------------------------------


def test_packets_pass_in_order_with_holes_as_losses() -> None:
    receiver = started()
    receiver.packets_received([packet(2), packet(4), packet(3), packet(5), packet(7)])
    assert collected(receiver) == [packet(n) for n in (2, 3, 4, 5)]
    assert not receiver.poll(now=0.1)
    assert receiver.poll(now=0.2)
    assert collected(receiver) == [Lost(1), packet(7)]
    assert not receiver.poll(now=9.9)


def test_a_flush_releases_waiting_packets() -> None:
    receiver = started()
    receiver.packets_received([packet(3)])
    receiver.flush()
    assert collected(receiver) == [Lost(1), packet(3)]


def test_left_out_packets_are_counted_without_zeros() -> None:
    receiver = started()
    assert receiver.left_out == {}
    receiver.packets_received([packet(3)])
    receiver.poll(now=1.0)
    receiver.packets_received([packet(2), packet(2), packet(3)])
    receiver.packets_received([replace(packet(9), sequence=30_000, timestamp=5), packet(4)])
    assert receiver.left_out == {"late": 1, "duplicates": 2, "strays": 1}


def test_the_counts_outlive_the_order_that_made_them() -> None:
    receiver = started()
    receiver.packets_received([packet(1)])
    receiver.connect(CODECS, codec=OPUS, number=2, now=9.0)
    receiver.packets_received([packet(50), packet(50)])
    receiver.flush()
    receiver.packets_received([packet(50)])
    assert receiver.left_out == {"duplicates": 3}


# -- connections and sources -----------------------------------------------------------------------


def test_another_connection_brings_its_packets_behind_those_of_the_old_one() -> None:
    receiver = started()
    receiver.packets_received([packet(3)])
    theirs = {100: replace(OPUS, payload_type=100)}
    receiver.connect(theirs, codec=theirs[100], number=2, now=7.0)
    renumbered = packet(9, ssrc=5, payload_type=100)
    receiver.packets_received([packet(4), renumbered])
    receiver.flush()
    assert collected(receiver) == [
        Lost(1), packet(3), ConnectionChanged(theirs, 2, 7.0), SourceChanged(5), renumbered,
    ]  # fmt: skip
    assert +receiver.rejected == {"payload type": 1}


def test_the_same_source_on_another_connection_does_not_change() -> None:
    receiver = started()
    receiver.connect(CODECS, codec=OPUS, number=2, now=7.0)
    receiver.packets_received([packet(50, at=7.0)])
    assert receiver.poll(now=7.2)
    assert collected(receiver) == [
        ConnectionChanged(CODECS, 2, 7.0), Lost(48), packet(50, at=7.0)
    ]  # fmt: skip


def test_what_the_old_connection_lost_is_waited_for_on_the_new_one() -> None:
    receiver = started(hold_s=1.0)
    receiver.packets_received([packet(3, at=6.9)])
    receiver.connect(CODECS, codec=OPUS, number=2, now=7.0)
    receiver.packets_received([packet(5, at=7.0)])
    assert collected(receiver) == [ConnectionChanged(CODECS, 2, 7.0)]
    request = receiver.request_missing(now=7.1)
    assert request is not None
    assert request.sequences == [2, 4]
    receiver.packets_received([packet(n, at=7.2) for n in (2, 4)])
    passed = [item.sequence for item in collected(receiver) if isinstance(item, RtpPacket)]
    assert passed == [2, 3, 4, 5]
    report = receiver.reception_report()
    assert report is not None
    assert (report.packets_lost, report.highest_sequence) == (0, 5)


def test_another_source_takes_over_with_its_second_packet() -> None:
    receiver = started()
    receiver.packets_received([packet(3), packet(70, ssrc=2), packet(71, ssrc=2)])
    receiver.flush()
    assert collected(receiver) == [
        Lost(1), packet(3), SourceChanged(2), packet(70, ssrc=2), packet(71, ssrc=2),
    ]  # fmt: skip


def test_the_latest_packet_says_how_long_a_source_has_been_silent() -> None:
    receiver = started()
    takes_over = [packet(n, ssrc=2, at=10.0) for n in (1, 2)]
    receiver.packets_received(takes_over)
    receiver.poll(now=11.0)
    receiver.packets_received([packet(3, ssrc=2, at=11.0), packet(4, ssrc=2, at=20.0)])
    receiver.packets_received([packet(5, at=20.9), packet(6, at=20.9)])
    assert receiver.rejected["left source"] == 2
    receiver.packets_received([packet(7, at=21.0), packet(8, at=21.0)])
    assert receiver.rejected["left source"] == 2


# -- reports ---------------------------------------------------------------------------------------


def test_reports_are_of_the_source_that_is_received() -> None:
    receiver = TrackReceiver(reorder_hold_s=0.2)
    assert receiver.reception_report() is None
    receiver = started()
    receiver.packets_received([packet(2), packet(5)])
    report = receiver.reception_report()
    assert report is not None
    assert (report.ssrc, report.packets_lost, report.highest_sequence) == (1, 2, 5)
    receiver.packets_received([packet(n, ssrc=2) for n in (70, 71)])
    report = receiver.reception_report()
    assert report is not None
    assert (report.ssrc, report.packets_lost, report.highest_sequence) == (2, 0, 71)


def test_reports_start_again_with_a_connection_and_with_a_sequence() -> None:
    receiver = started()
    receiver.packets_received([packet(2), packet(5)])
    receiver.connect(CODECS, codec=OPUS, number=2, now=7.0)
    receiver.packets_received([packet(90)])
    report = receiver.reception_report()
    assert report is not None
    assert (report.packets_lost, report.highest_sequence) == (0, 90)
    receiver = started()
    again = [replace(packet(n), sequence=30_000 + n, timestamp=5 + n) for n in (2, 3)]
    receiver.packets_received(again[:1])
    report = receiver.reception_report()
    assert report is not None
    assert report.highest_sequence == 1  # stray packets are not counted
    receiver.packets_received(again[1:])
    assert collected(receiver) == [Restarted(), *again]
    report = receiver.reception_report()
    assert report is not None
    assert (report.packets_lost, report.highest_sequence) == (0, 30_003)


# -- packets that wait -----------------------------------------------------------------------------


def test_a_packet_that_waits_for_others_is_news() -> None:
    """It shows that the network delayed the others."""
    receiver = started()
    receiver.packets_received([packet(3, at=0.1), packet(4, at=0.12)])
    assert receiver.collect() == [PacketWaits(packet(3, at=0.1)), PacketWaits(packet(4, at=0.12))]
    receiver.packets_received([packet(2, at=0.15)])
    assert receiver.collect() == [
        packet(2, at=0.15), packet(3, at=0.1), packet(4, at=0.12),
    ]  # fmt: skip


def test_the_first_packets_are_no_news_while_they_wait() -> None:
    receiver = TrackReceiver(reorder_hold_s=0.2)
    receiver.connect(CODECS, codec=None, number=1, now=5.0)
    receiver.packets_received([packet(1)])
    assert not any(isinstance(item, PacketWaits) for item in receiver.collect())
