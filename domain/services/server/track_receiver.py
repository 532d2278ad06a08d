"""One track's packets, brought into order. Pure: nothing is decoded or stored here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from domain.errors import PayloadInvalid
from domain.rtp.order import ReorderBuffer, Restarted, Slot
from domain.rtp.packets import RtpPacket
from domain.rtp.redundancy import split_red
from domain.rtp.reports import ReceptionReport, ReceptionStatistics
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


TrackItem: TypeAlias = Slot | SourceChanged | ConnectionChanged
"""An item of a track, in order: a slot, or a change of source or connection."""


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
        self._ssrc: int | None = None
        self._reorder = ReorderBuffer(hold_s=reorder_hold_s)
        self._statistics: ReceptionStatistics | None = None
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
    ) -> None:
        """Expect packets of the session's `number`th connection; admit its first source.

        `codec` is the recording's codec with its payload type on this connection; None until the
        first packet decides the codec.
        """
        if self._codecs:
            self._restart_order()  # the old connection's packets come first
        self._codecs = codecs
        self._codec = codec
        self._gate.reopen()
        self._items.append(ConnectionChanged(codecs, number, now))

    def accept_only(self, codec: CodecParameters) -> None:
        """Accept only packets of this codec from now on: it is the recording's."""
        self._codec = codec

    def packets_received(self, packets: Sequence[RtpPacket]) -> None:
        """Add packets in the order of arrival."""
        gate, codecs = self._gate, self._codecs
        passed: list[RtpPacket] = []
        for packet in packets:
            codec = codecs.get(packet.payload_type)
            if codec is None or codec is not self._codec:
                if codec is not None and codec.name == "red":
                    try:
                        packet = split_red(packet)
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
    def left_out(self) -> Counter[str]:
        """Numbers of late, duplicate and stray packets, by reason, without zeros."""
        return +(self._left_out + self._dropped_by_order())

    @property
    def rejected(self) -> Counter[str]:
        """Numbers of packets that could not be used, by reason."""
        return self._rejected + self._gate.rejected

    def _is_acceptable(self, codec: CodecParameters | None) -> bool:
        return codec is not None and codec.name != "red" and self._codec in (None, codec)

    def _restart_order(self) -> None:
        """Begin a new order: what follows has unrelated sequence numbers."""
        self.flush()
        self._left_out += self._dropped_by_order()
        self._reorder = ReorderBuffer(hold_s=self._reorder_hold_s)
        if self._statistics is not None:
            self._statistics = self._statistics.begin_anew()

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
        slots = self._reorder.push(packet)
        if any(isinstance(slot, Restarted) for slot in slots):
            # a new sequence begins, and its statistics with it (RFC 3550 § A.1)
            self._statistics = self._statistics.begin_anew()
        if self._reorder.suspect is not packet:
            self._statistics.received([packet])
        self._items += slots
