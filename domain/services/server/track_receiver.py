"""One track's packets, brought into order. Pure: nothing is decoded or stored here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from domain.errors import PayloadInvalid
from domain.recording.restoring import SpoolInfo
from domain.rtp.order import RESTART_S, ReorderBuffer, Restarted, Slot
from domain.rtp.packets import RtpPacket
from domain.rtp.redundancy import split_red
from domain.rtp.reports import Reception, ReceptionReport, ReceptionStatistics, SenderReport
from domain.rtp.retransmission import ASKED_WITHIN, RetransmissionRequests, Retransmitted
from domain.rtp.sources import SourceGate
from domain.sound.detection import CodecParameters


@dataclass(frozen=True, slots=True)
class SourceChanged:
    """Packets of another source (SSRC) follow, with their own sequence and clock (RFC 3550 § 3)."""

    ssrc: int


@dataclass(frozen=True, slots=True)
class ConnectionChanged:
    """Packets of another connection follow, with the payload types of that connection."""

    codecs: Mapping[int, CodecParameters]
    number: int
    """Number of the connection in its session, from 1."""
    at: float
    """Monotonic seconds."""
    spool: SpoolInfo | None = None
    """What the offer of the connection says of the client's spool."""


@dataclass(frozen=True, slots=True)
class RetransmissionRequest:
    """A request to a source to send packets again (NACK, RFC 4585 § 6.2.1)."""

    ssrc: int
    sequences: Sequence[int]
    """16 bits each, in order; at least one."""


@dataclass(frozen=True, slots=True)
class PacketWaits:
    """A packet has arrived, but waits for others before it."""

    packet: RtpPacket


TrackItem: TypeAlias = Slot | SourceChanged | ConnectionChanged | SenderReport | PacketWaits
"""An item of a track. Slots are in order; the others come when they happened between them."""


class TrackReceiver:
    """Filters a track's packets by payload type and source, and puts them in order.

    `rejected` counts packets that cannot be used; `left_out` counts late, duplicate and stray
    packets.
    """

    def __init__(self, *, reorder_hold_s: float) -> None:
        self._reorder_hold_s = reorder_hold_s
        self._codecs: Mapping[int, CodecParameters] = {}
        self._codec: CodecParameters | None = None
        self._gate = SourceGate()
        self._unwrapped: RtpPacket | None = None  # the latest packet out of RED
        self._ssrc: int | None = None
        self._reorder = ReorderBuffer(hold_s=reorder_hold_s)
        self._statistics: ReceptionStatistics | None = None
        self._earlier = Reception()  # by the statistics before these
        self._sent_again = 0  # packets that came in a retransmission stream, and were missing
        self._requests = RetransmissionRequests()
        self._items: list[TrackItem] = []
        self._rejected: Counter[str] = Counter()
        self._left_out: Counter[str] = Counter()

    def connect(
        self,
        codecs: Mapping[int, CodecParameters],
        *,
        codec: CodecParameters | None,
        number: int,
        now: float,
        spool: SpoolInfo | None = None,
    ) -> None:
        """Expect packets of the session's `number`th connection; admit its first source.

        `codec` is the recording's codec with its payload type on this connection; None until the
        first packet decides the codec.
        """
        if self._codecs and codec is not None and codec == self._codec:
            # The same source may go on: packets that were lost on the old connection can be asked
            # for on this one. RTCP reports are about one connection each.
            self._begin_statistics_anew()
        elif self._codecs or number > 1:
            self._restart_order()  # the old connection's packets come first
        self._codecs = codecs
        self._codec = codec
        self._gate.reopen()
        self._items.append(ConnectionChanged(codecs, number, now, spool))

    def accept_only(self, codec: CodecParameters) -> None:
        """Accept only packets of this codec from now on: it is the recording's."""
        self._codec = codec

    def packets_received(self, packets: Sequence[RtpPacket]) -> bool:
        """Add packets in the order of arrival; return whether packets are missing before them."""
        gate, codecs = self._gate, self._codecs
        passed: list[RtpPacket] = []
        for packet in packets:
            codec = codecs.get(packet.payload_type)
            if codec is None or codec is not self._codec:
                if codec is not None and codec.name == "red":
                    try:
                        packet = self._unwrap(packet)
                    except PayloadInvalid:
                        self._rejected["redundancy"] += 1
                        continue
                    codec = codecs.get(packet.payload_type)
                if not self._is_acceptable(codec):
                    self._rejected["payload type"] += 1
                    continue
            if packet.ssrc == gate.current and self._reorder.pass_in_order(packet):
                passed.append(packet)
                continue
            if passed:
                self._pass_on(passed)
                passed = []
            for admitted in gate.admit(packet):
                if self._ssrc != admitted.ssrc:
                    self._change_source(admitted.ssrc, codecs[packet.payload_type])
                self._order(admitted)
        if passed:
            self._pass_on(passed)
        return self._reorder.has_hole

    def request_missing(self, *, now: float) -> RetransmissionRequest | None:
        """Return the request to send now for packets that are missing, if any is due."""
        requests, order = self._requests, self._reorder
        if now < requests.ask_at or self._ssrc is None:
            return None
        sequences = requests.ask(
            order.missing(within=ASKED_WITHIN),
            highest=order.highest,
            hold_s=self._reorder_hold_s,
            now=now,
        )
        return RetransmissionRequest(self._ssrc, sequences) if sequences else None

    def packet_repeated(self, ssrc: int, sequence: int, *, now: float) -> None:
        """Note that a packet has arrived again: a request for it was needless."""
        if ssrc == self._ssrc:
            self._requests.note_repeated(sequence, at=now)

    @property
    def is_incomplete(self) -> bool:
        """Whether packets are missing, or have just arrived on request: call `request_missing`."""
        return self._reorder.has_hole or self._requests.has_news

    @property
    def retransmitted(self) -> int:
        """The number of packets that were missing and have been sent again on request."""
        return self._requests.answered

    def sender_reported(self, report: SenderReport) -> bool:
        """Add a sender report; return whether it is about the source that is received."""
        is_ours = report.ssrc == self._ssrc
        if is_ours:
            self._items.append(report)
        return is_ours

    def poll(self, *, now: float) -> bool:
        """Release packets whose predecessors are overdue; return whether there are any."""
        due = self._reorder.poll(now=now)
        self._items += due
        return bool(due)

    def flush(self) -> None:
        """Release all waiting packets, because no more follow."""
        self._items += self._reorder.flush()

    def collect(self) -> list[TrackItem]:
        """Return the items that are in order since the last call."""
        items, self._items = self._items, []
        return items

    def reception_report(self) -> ReceptionReport | None:
        """Return what to report to the sender; None before the first packet."""
        return self._statistics.report() if self._statistics else None

    @property
    def reception(self) -> Reception:
        """What has become of the packets of all sources, over all connections."""
        reception = self._earlier_and_latest()
        return replace(reception, received=reception.received + self._sent_again)

    @property
    def left_out(self) -> Counter[str]:
        """Numbers of late, duplicate and stray packets, by reason, without zeros."""
        return +(self._left_out + self._dropped_by_order())

    @property
    def rejected(self) -> Counter[str]:
        """Numbers of packets that could not be used, by reason."""
        return self._rejected + self._gate.rejected

    def _unwrap(self, packet: RtpPacket) -> RtpPacket:
        """Unwrap a RED packet. Raises `PayloadInvalid`.

        Chromium probes the bandwidth with packets of padding, which have the payload type of RED
        where RED is used. They have a number of their own, no payload at all, and the timestamp of
        the packet before them.
        """
        before = self._unwrapped
        if not packet.payload and before is not None and packet.timestamp == before.timestamp:
            return replace(packet, payload_type=before.payload_type)
        self._unwrapped = packet = split_red(packet)
        return packet

    def _is_acceptable(self, codec: CodecParameters | None) -> bool:
        return codec is not None and codec.name != "red" and self._codec in (None, codec)

    def _restart_order(self) -> None:
        """Begin a new order: what follows has unrelated sequence numbers."""
        self.flush()
        self._left_out += self._dropped_by_order()
        self._reorder = ReorderBuffer(hold_s=self._reorder_hold_s, start_s=RESTART_S)
        self._requests.forget()
        self._begin_statistics_anew()

    def _begin_statistics_anew(self) -> None:
        if self._statistics is not None:
            self._earlier = self._earlier_and_latest()
            self._statistics = self._statistics.begin_anew()

    def _earlier_and_latest(self) -> Reception:
        latest = self._statistics
        return self._earlier if latest is None else self._earlier + latest.reception

    def _dropped_by_order(self) -> Counter[str]:
        order = self._reorder
        return Counter(late=order.late, duplicates=order.duplicates, strays=order.strays)

    def _change_source(self, ssrc: int, codec: CodecParameters) -> None:
        self._restart_order()
        self._ssrc = ssrc
        self._statistics = ReceptionStatistics(ssrc, clock_rate_hz=codec.clock_rate_hz)
        self._items.append(SourceChanged(ssrc))

    def _pass_on(self, packets: Sequence[RtpPacket]) -> None:
        """Pass on packets of the current source that are next in order: the usual case."""
        assert self._statistics is not None
        self._gate.active_at = packets[-1].arrived
        self._statistics.received(packets)
        self._items += packets

    def _order(self, packet: RtpPacket) -> None:
        assert self._statistics is not None
        expected_at = self._requests.note_arrived(packet)
        if expected_at is not None:
            # the time of a retransmission says nothing about the pace of the sender
            packet = replace(packet, arrived=min(packet.arrived, expected_at))
        useless = self._reorder.duplicates + self._reorder.late
        slots = self._reorder.push(packet)
        if any(isinstance(slot, Restarted) for slot in slots):
            # a new sequence begins, and its statistics with it (RFC 3550 § A.1)
            self._begin_statistics_anew()
            self._requests.forget()
        if isinstance(packet, Retransmitted):
            # the retransmission stream has statistics of its own (RFC 4588 § 6.2)
            if self._reorder.duplicates + self._reorder.late == useless:
                self._sent_again += 1
        elif expected_at is not None:
            self._statistics.received_again(packet)
        elif self._reorder.suspect is not packet:
            self._statistics.received([packet])
        self._items += slots
        if not slots and self._reorder.has_hole and self._reorder.has_begun:
            self._items.append(PacketWaits(packet))
