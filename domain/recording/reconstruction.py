"""Turns slots into sound: decodes packets, recovers losses by FEC, conceals short gaps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from domain.errors import PayloadInvalid
from domain.recording.ledger import SampleKind
from domain.rtp.counters import signed
from domain.rtp.order import Lost, Slot
from domain.rtp.packets import RtpPacket
from domain.rtp.redundancy import Recovered
from domain.sound.decoding import Decoder
from domain.sound.pieces import Sound

MAX_CONCEALED_S = 0.1
"""Concealment fades out within this time. After it, silence marked as silence is more honest."""


@dataclass(slots=True, eq=False)
class Run:
    """Consecutive sound of one kind, with its RTP timestamp."""

    timestamp: int
    """RTP timestamp of the first sample; 32 bits."""
    pieces: list[Sound]
    length: int
    """Samples per channel of all pieces together."""
    kind: SampleKind
    gap_kind: SampleKind
    """The kind of a gap before this run, if there is one."""
    arrived: float
    """When its first packet arrived (monotonic seconds)."""
    completed: float
    """When its last packet arrived."""


class Reconstructor:
    """Turns the ordered slots of one source into runs of samples.

    A loss is filled with concealment right after the last sound, up to `MAX_CONCEALED_S`, with
    the FEC of the next packet (if any) right before that packet, and with silence in between. A
    timestamp jump without a loss is DTX. A payload that cannot be decoded counts as lost. An
    empty payload is a keepalive: the sender had no sound (RFC 6263).
    """

    def __init__(
        self, decoder: Decoder, *, clock_rate_hz: int, sample_rate_hz: int, max_gap_s: float
    ) -> None:
        self._decoder = decoder
        self._clock_rate_hz = clock_rate_hz
        self._sample_rate_hz = sample_rate_hz
        self._max_gap = round(max_gap_s * sample_rate_hz)
        self._max_concealed = round(MAX_CONCEALED_S * sample_rate_hz)
        self._expected: int | None = None  # the timestamp right after the latest sound
        self._concealable = 0  # samples that may still be concealed
        self._lossy = False
        self.rejected: Counter[str] = Counter()

    def restart(self) -> None:
        """Expect a stream unrelated to the previous one; a gap in between is a loss, not DTX."""
        self._expected = None
        self._concealable = 0
        self._lossy = True

    def process(self, slots: Sequence[Slot]) -> list[Run]:
        """Return the runs of the slots; contiguous sound of one kind forms one run."""
        runs: list[Run] = []
        for slot in slots:
            if isinstance(slot, RtpPacket):
                self._packet(slot, runs)
            elif isinstance(slot, Lost):
                self._lossy = True
            else:
                self.restart()
        self._complete(runs)
        return runs

    def _complete(self, runs: list[Run]) -> None:
        """Move everything decoded so far into the last run."""
        if runs:
            runs[-1].pieces += self._decoder.collect()

    def _packet(self, packet: RtpPacket, runs: list[Run]) -> None:
        kind = SampleKind.RECOVERED if isinstance(packet, Recovered) else SampleKind.RECEIVED
        arrived = packet.arrived
        if not packet.payload:
            self._keep_alive(packet, runs)
            return
        is_lossy = self._lossy
        if is_lossy:
            self._bridge(packet, runs)
        follows = not is_lossy and packet.timestamp == self._expected
        continues = follows and bool(runs) and runs[-1].kind is kind
        if not continues:
            self._complete(runs)
        try:
            length = self._decoder.decode(packet.payload)
        except PayloadInvalid:
            self.rejected["payload"] += 1
            self._lossy = True
            return
        if continues:
            run = runs[-1]
            run.length += length
            run.completed = arrived
        else:
            gap_kind = SampleKind.SILENCE if is_lossy else SampleKind.DTX
            runs.append(Run(packet.timestamp, [], length, kind, gap_kind, arrived, arrived))
        # `_timestamp_after`, inlined for speed
        ticks = length * self._clock_rate_hz // self._sample_rate_hz
        self._expected = (packet.timestamp + ticks) % 2**32
        self._concealable = self._max_concealed
        self._lossy = False

    def _keep_alive(self, packet: RtpPacket, runs: list[Run]) -> None:
        """Add a run without samples: the time up to the packet passed without sound."""
        self._lossy = True
        if self._expected is None or signed(packet.timestamp - self._expected, bits=32) <= 0:
            return
        self._expected, self._concealable = packet.timestamp, 0
        self._complete(runs)
        kind, arrived = SampleKind.SILENCE, packet.arrived
        runs.append(Run(packet.timestamp, [], 0, kind, kind, arrived, arrived))

    def _bridge(self, packet: RtpPacket, runs: list[Run]) -> None:
        """Fill the loss between the last sound and `packet` by concealment and FEC.

        Afterwards that time is accounted for, even if the packet itself cannot be decoded.
        """
        if self._expected is None:
            return
        ticks = signed(packet.timestamp - self._expected, bits=32)
        gap = ticks * self._sample_rate_hz // self._clock_rate_hz
        if not 0 < gap <= self._max_gap:
            return
        self._complete(runs)
        arrived = packet.arrived
        try:
            rebuilt = self._decoder.recoverable(packet.payload)
            rebuilt = rebuilt if rebuilt <= gap else 0
            missing = gap - rebuilt
            concealed = self._decoder.conceal(min(missing, self._concealable))
            if concealed:
                runs.append(
                    self._rebuilt_run(self._expected, concealed, SampleKind.CONCEALED, arrived)
                )
            self._concealable = self._concealable - concealed if concealed == missing else 0
            self._expected = before = self._timestamp_after(packet.timestamp, -rebuilt)
            if rebuilt:
                recovered = self._decoder.recover(packet.payload)
                runs.append(self._rebuilt_run(before, recovered, SampleKind.RECOVERED, arrived))
                self._expected, self._concealable = packet.timestamp, self._max_concealed
        except PayloadInvalid:
            pass  # `decode` will refuse the packet and count it

    def _rebuilt_run(self, timestamp: int, length: int, kind: SampleKind, arrived: float) -> Run:
        pieces, gap_kind = self._decoder.collect(), SampleKind.SILENCE
        return Run(timestamp, pieces, length, kind, gap_kind, arrived, arrived)

    def _timestamp_after(self, timestamp: int, samples: int) -> int:
        return (timestamp + samples * self._clock_rate_hz // self._sample_rate_hz) % 2**32
