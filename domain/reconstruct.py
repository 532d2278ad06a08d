"""From slots to sound: decode what came, rebuild what a later packet carries, conceal a little."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from domain.audio import Samples
from domain.errors import PayloadInvalid
from domain.ledger import SampleKind
from domain.ports.codec import Decoder
from domain.reorder import Lost, Received, Recovered, Slot
from domain.rtp import RtpPacket, signed

MAX_CONCEALED_S = 0.1
"""Concealment fades out within this; silence that calls itself silence is truer after it."""


@dataclass(slots=True, eq=False)
class Run:
    """Samples with their place and their kind."""

    timestamp: int
    """RTP, 32 bits."""
    samples: Samples
    kind: SampleKind
    gap_kind: SampleKind
    """What time is that is missing before them, if there is any."""
    arrived: float


class Reconstructor:
    """Turns the slots of one source, in order, into runs of samples.

    Behind a loss: concealment right after the last sound, up to `MAX_CONCEALED_S`; the time
    directly before the next packet from that packet's FEC, where it carries any; silence in
    between. A jump of the timestamps without a loss is DTX. A payload that cannot be decoded is
    as good as lost; an empty one says that its sender lives and has had no sound (RFC 6263).
    """

    def __init__(
        self, decoder: Decoder, *, clock_rate_hz: int, sample_rate_hz: int, max_gap_s: float
    ) -> None:
        self._decoder = decoder
        self._clock_rate_hz = clock_rate_hz
        self._sample_rate_hz = sample_rate_hz
        self._max_gap = round(max_gap_s * sample_rate_hz)
        self._max_concealed = round(MAX_CONCEALED_S * sample_rate_hz)
        self._expected: int | None = None  # the timestamp behind what there was last
        self._was_sound = False
        self._lossy = False
        self.rejected: Counter[str] = Counter()

    def restart(self) -> None:
        """What follows has nothing to do with what was; time in between is lost, not DTX."""
        self._expected = None
        self._was_sound = False
        self._lossy = True

    def process(self, slot: Slot) -> list[Run]:
        """The runs that a slot makes."""
        if isinstance(slot, Received):
            is_copy = isinstance(slot, Recovered)
            kind = SampleKind.RECOVERED if is_copy else SampleKind.RECEIVED
            return self._packet(slot.packet, kind, slot.arrived)
        if isinstance(slot, Lost):
            self._lossy = True
        else:
            self.restart()
        return []

    def _packet(self, packet: RtpPacket, kind: SampleKind, arrived: float) -> list[Run]:
        if not packet.payload:
            return self._keep_alive(packet, arrived)
        is_lossy = self._lossy
        runs = self._bridge(packet, arrived) if is_lossy else []
        try:
            samples = self._decoder.decode(packet.payload)
        except PayloadInvalid:
            self.rejected["payload"] += 1
            self._lossy = True
            return runs
        gap_kind = SampleKind.SILENCE if is_lossy else SampleKind.DTX
        runs.append(Run(packet.timestamp, samples, kind, gap_kind, arrived))
        self._expected = self._behind(packet.timestamp, len(samples))
        self._was_sound = True
        self._lossy = False
        return runs

    def _keep_alive(self, packet: RtpPacket, arrived: float) -> list[Run]:
        """The time up to the packet has gone by without a sound that could be sent."""
        self._lossy = True
        if self._expected is None or signed(packet.timestamp - self._expected, bits=32) <= 0:
            return []
        self._expected, self._was_sound = packet.timestamp, False
        nothing = self._decoder.conceal(0)
        return [Run(packet.timestamp, nothing, SampleKind.SILENCE, SampleKind.SILENCE, arrived)]

    def _bridge(self, packet: RtpPacket, arrived: float) -> list[Run]:
        """What can be said of the time between the last sound and a packet behind a loss."""
        if self._expected is None:
            return []
        ticks = signed(packet.timestamp - self._expected, bits=32)
        gap = ticks * self._sample_rate_hz // self._clock_rate_hz
        if not 0 < gap <= self._max_gap:
            return []
        runs: list[Run] = []
        try:
            rebuilt = self._decoder.recoverable(packet.payload)
            rebuilt = rebuilt if rebuilt <= gap else 0
            most = self._max_concealed if self._was_sound else 0
            concealed = self._decoder.conceal(min(gap - rebuilt, most))
            if len(concealed):
                runs.append(
                    Run(
                        self._expected,
                        concealed,
                        SampleKind.CONCEALED,
                        SampleKind.SILENCE,
                        arrived,
                    )
                )
            if rebuilt:
                before = self._behind(packet.timestamp, -rebuilt)
                samples = self._decoder.recover(packet.payload)
                runs.append(Run(before, samples, SampleKind.RECOVERED, SampleKind.SILENCE, arrived))
        except PayloadInvalid:
            pass  # the packet will be refused by `decode`, and counted there
        return runs

    def _behind(self, timestamp: int, samples: int) -> int:
        return (timestamp + samples * self._clock_rate_hz // self._sample_rate_hz) % 2**32
