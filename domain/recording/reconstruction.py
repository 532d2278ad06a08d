"""From slots to sound: decode what came, rebuild what a later packet carries, conceal a little."""

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
"""Concealment fades out within this; silence that calls itself silence is truer after it."""


@dataclass(slots=True, eq=False)
class Run:
    """Sound of one kind, with its place."""

    timestamp: int
    """RTP, 32 bits."""
    pieces: list[Sound]
    length: int
    """Samples per channel, of all pieces."""
    kind: SampleKind
    gap_kind: SampleKind
    """What time is that is missing before them, if there is any."""
    arrived: float
    """When the first of it came (monotonic seconds)."""
    completed: float
    """When the last of it came."""


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
        self._concealable = 0  # samples that concealment may still go on for
        self._lossy = False
        self.rejected: Counter[str] = Counter()

    def restart(self) -> None:
        """What follows has nothing to do with what was; time in between is lost, not DTX."""
        self._expected = None
        self._concealable = 0
        self._lossy = True

    def process(self, slots: Sequence[Slot]) -> list[Run]:
        """The runs that slots make; sound that follows on other sound of its kind is one run."""
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
        """All that has been decoded belongs to the last run."""
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
        # as `_behind`, without the call
        ticks = length * self._clock_rate_hz // self._sample_rate_hz
        self._expected = (packet.timestamp + ticks) % 2**32
        self._concealable = self._max_concealed
        self._lossy = False

    def _keep_alive(self, packet: RtpPacket, runs: list[Run]) -> None:
        """The time up to the packet has gone by without a sound that could be sent."""
        self._lossy = True
        if self._expected is None or signed(packet.timestamp - self._expected, bits=32) <= 0:
            return
        self._expected, self._concealable = packet.timestamp, 0
        self._complete(runs)
        kind, arrived = SampleKind.SILENCE, packet.arrived
        runs.append(Run(packet.timestamp, [], 0, kind, kind, arrived, arrived))

    def _bridge(self, packet: RtpPacket, runs: list[Run]) -> None:
        """What can be said of the time between the last sound and a packet behind a loss.

        That time is accounted for then, whether the packet itself is of any use or not.
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
                runs.append(self._rebuilt(self._expected, concealed, SampleKind.CONCEALED, arrived))
            self._concealable = self._concealable - concealed if concealed == missing else 0
            self._expected = before = self._behind(packet.timestamp, -rebuilt)
            if rebuilt:
                recovered = self._decoder.recover(packet.payload)
                runs.append(self._rebuilt(before, recovered, SampleKind.RECOVERED, arrived))
                self._expected, self._concealable = packet.timestamp, self._max_concealed
        except PayloadInvalid:
            pass  # the packet will be refused by `decode`, and counted there

    def _rebuilt(self, timestamp: int, length: int, kind: SampleKind, arrived: float) -> Run:
        pieces, gap_kind = self._decoder.collect(), SampleKind.SILENCE
        return Run(timestamp, pieces, length, kind, gap_kind, arrived, arrived)

    def _behind(self, timestamp: int, samples: int) -> int:
        return (timestamp + samples * self._clock_rate_hz // self._sample_rate_hz) % 2**32
