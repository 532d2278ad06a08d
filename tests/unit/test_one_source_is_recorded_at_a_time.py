"""Only one of several sources (SSRCs) is recorded: the first, until another one takes over."""

from __future__ import annotations

from domain.rtp.packets import RtpPacket
from domain.rtp.sources import SourceGate


def packet(ssrc: int, sequence: int = 0, *, at: float = 0.0) -> RtpPacket:
    return RtpPacket(111, sequence, sequence * 960, ssrc, b"x", arrived=at)


def counted(gate: SourceGate) -> dict[str, int]:
    return dict(+gate.rejected)


def take_over(gate: SourceGate, ssrc: int, *, at: float = 0.0) -> None:
    """Send two packets of a new source."""
    gate.admit(packet(ssrc, 1, at=at))
    assert gate.admit(packet(ssrc, 2, at=at)) == [packet(ssrc, 1, at=at), packet(ssrc, 2, at=at)]
    assert gate.current == ssrc


def test_the_first_packet_decides() -> None:
    gate = SourceGate()
    assert gate.current is None
    assert gate.admit(packet(7)) == [packet(7)]
    assert gate.current == 7
    assert gate.admit(packet(7, 1)) == [packet(7, 1)]
    assert counted(gate) == {}


def test_another_source_takes_over_with_its_second_packet_and_loses_none() -> None:
    gate = SourceGate()
    gate.admit(packet(1))
    assert gate.admit(packet(2, 10)) == []
    assert gate.admit(packet(1, 1)) == [packet(1, 1)]
    assert gate.current == 1
    assert gate.admit(packet(2, 11)) == [packet(2, 10), packet(2, 11)]
    assert gate.current == 2
    assert counted(gate) == {}


def test_each_stray_packet_is_counted_when_another_one_comes() -> None:
    gate = SourceGate()
    gate.admit(packet(1))
    for ssrc in (2, 3, 4):
        assert gate.admit(packet(ssrc)) == []
    assert counted(gate) == {"stray source": 2}
    assert gate.current == 1


def test_the_packet_that_led_to_a_take_over_is_not_used_again() -> None:
    gate = SourceGate()
    gate.admit(packet(1))
    take_over(gate, 2)
    take_over(gate, 3)
    assert counted(gate) == {}
    assert gate.admit(packet(4, 5, at=9.0)) == []  # only one packet of this source is known
    assert counted(gate) == {}


def test_a_source_that_was_left_may_return_after_a_second_of_silence() -> None:
    gate = SourceGate()
    gate.admit(packet(1))
    take_over(gate, 2, at=10.0)
    assert gate.admit(packet(2, 3, at=11.0)) == [packet(2, 3, at=11.0)]
    for _ in range(3):
        assert gate.admit(packet(1, 9, at=11.99)) == []
    assert counted(gate) == {"left source": 3}
    take_over(gate, 1, at=12.0)
    assert counted(gate) == {"left source": 3}


def test_the_latest_sixteen_sources_that_were_left_are_known() -> None:
    gate = SourceGate()
    gate.admit(packet(0))
    for ssrc in range(1, 18):  # sources 0 to 16 are replaced, 0 is forgotten
        take_over(gate, ssrc)
    gate.admit(packet(1))
    assert counted(gate) == {"left source": 1}
    take_over(gate, 0)


def test_another_connection_brings_its_source_with_the_first_packet() -> None:
    gate = SourceGate()
    gate.admit(packet(1))
    gate.admit(packet(2))
    gate.reopen()
    assert gate.current is None
    assert gate.admit(packet(3)) == [packet(3)]
    assert gate.current == 3
    assert gate.admit(packet(2, 1)) == []  # the earlier packet of the old connection is forgotten
    assert counted(gate) == {}
