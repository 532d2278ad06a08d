"""Turns slots into sound: decodes packets, recovers losses by FEC, conceals short gaps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from domain.errors import PayloadInvalid
from domain.recording.ledger import SampleKind
from domain.recording.timestamps import Miscount, TimestampReader
from domain.rtp.counters import signed
from domain.rtp.order import Lost, Slot
from domain.rtp.packets import RtpPacket
from domain.rtp.redundancy import Recovered
from domain.sound.decoding import Decoder
from domain.sound.pieces import Sound

MAX_CONCEALED_S = 0.1
"""Concealment fades out within this time. After it, silence marked as silence is more honest."""
MAX_SPACING_S = 0.08
"""A run ends when the next packet arrives so much later: the sender may have stalled meanwhile.

It also ends before a packet that states when it was captured."""


@dataclass(slots=True, eq=False)
class Run:
    """Consecutive sound of one kind, with its RTP timestamp."""

    timestamp: int
    """RTP timestamp of the first sample, corrected where the sender miscounts; 32 bits."""
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
    sent_timestamp: int | None = None
    """The timestamp as it was sent, if it was corrected."""
    miscounts: Counter[Miscount] | None = None
    """Numbers of packets whose timestamps were corrected, if any were."""
    captured_s: float | None = None
    """When its first packet was captured, by the sender's clock; see `RtpPacket`."""
    channels: int | None = None
    """The number of channels from this run on, if it changes."""
    first_length: int = 0
    """Samples per channel of its first packet."""


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
        self._timestamps = TimestampReader(clock_rate_hz=clock_rate_hz)
        self._nominal_hz = clock_rate_hz
        self._clock_rate_hz = clock_rate_hz  # at which the sender really counts
        self._sample_rate_hz = sample_rate_hz
        self._max_gap = round(max_gap_s * sample_rate_hz)
        self._max_concealed = round(MAX_CONCEALED_S * sample_rate_hz)
        self._expected: int | None = None  # the timestamp right after the latest sound
        self._ticks = 0  # length of the latest packet
        self._arrived = 0.0  # when the latest packet arrived
        self._concealable = 0  # samples that may still be concealed
        self._is_lossy = False
        self._lost = 0  # packets lost since the latest one
        self._changed_channels: int | None = None  # not stated in a run yet
        self.rejected: Counter[str] = Counter()

    def restart(self) -> None:
        """Expect a stream unrelated to the previous one; a gap in between is a loss, not DTX."""
        self._timestamps.restart()
        self._clock_rate_hz = self._nominal_hz
        self._expected = None
        self._concealable = 0
        self._is_lossy = True

    def corrected(self, timestamp: int) -> int:
        """Return a packet's timestamp, corrected as that of a run would be."""
        return self._timestamps.corrected(timestamp)

    def change_decoder(self, decoder: Decoder, *, channels: int | None) -> None:
        """Decode with another decoder from now on.

        The next run states that the recording has so many `channels` from there on, unless None.
        """
        self._decoder = decoder
        self._changed_channels = channels

    def process(self, slots: Sequence[Slot]) -> list[Run]:
        """Return the runs of the slots; contiguous sound of one kind forms one run."""
        runs: list[Run] = []
        for slot in slots:
            if isinstance(slot, RtpPacket):
                self._packet(slot, runs)
            elif isinstance(slot, Lost):
                self._is_lossy = True
                self._lost += slot.count
            else:
                self.restart()
        self._complete(runs)
        if self._changed_channels is not None and runs:
            runs[0].channels, self._changed_channels = self._changed_channels, None
        return runs

    def _complete(self, runs: list[Run]) -> None:
        """Move everything decoded so far into the last run."""
        if runs:
            runs[-1].pieces += self._decoder.collect()

    def _packet(self, packet: RtpPacket, runs: list[Run]) -> None:
        kind = SampleKind.RECOVERED if isinstance(packet, Recovered) else SampleKind.RECEIVED
        arrived, timestamp = packet.arrived, packet.timestamp
        if not packet.payload:
            self._keep_alive(packet, runs)
            return
        is_lossy, miscount = self._is_lossy, None
        follows = not is_lossy and timestamp == self._expected
        if not follows and self._expected is not None:
            if is_lossy:
                miscount = self._bridge(packet, self._expected, runs)
            else:
                step = self._timestamps.follow(
                    timestamp,
                    expected=self._expected,
                    length=self._ticks,
                    now=arrived,
                    spacing_s=arrived - self._arrived,
                )
                follows, miscount = not step.gap, step.miscount
                self._clock_rate_hz = self._timestamps.clock_rate_hz
        continues = (
            follows
            and bool(runs)
            and runs[-1].kind is kind
            and arrived - self._arrived < MAX_SPACING_S
            and packet.captured_s is None
        )
        if not continues:
            self._complete(runs)
        try:
            length = self._decoder.decode(packet.payload)
        except PayloadInvalid:
            self.rejected["payload"] += 1
            self._is_lossy = True
            self._lost += 1
            return
        if continues:
            run = runs[-1]
            run.length += length
            run.completed = arrived
        else:
            gap_kind = SampleKind.SILENCE if is_lossy else SampleKind.DTX
            run = self._run(timestamp, length, kind, gap_kind, arrived)
            self._timestamps.observe(run.timestamp, arrived=arrived)
            run.captured_s, run.first_length = packet.captured_s, length
            runs.append(run)
        if miscount is not None:
            _count(runs[-1], miscount)
        # `_timestamp_after`, inlined for speed
        self._ticks = ticks = length * self._clock_rate_hz // self._sample_rate_hz
        self._expected = (timestamp + ticks) % 2**32
        self._arrived = arrived
        self._concealable = self._max_concealed
        self._is_lossy = False
        self._lost = 0

    def _run(
        self, timestamp: int, length: int, kind: SampleKind, gap_kind: SampleKind, arrived: float
    ) -> Run:
        corrected = self._timestamps.corrected(timestamp)
        sent = None if corrected == timestamp else timestamp
        return Run(corrected, [], length, kind, gap_kind, arrived, arrived, sent)

    def _keep_alive(self, packet: RtpPacket, runs: list[Run]) -> None:
        """Add a run without samples: the time up to the packet passed without sound."""
        if self._expected is None:
            self._is_lossy = True
            return
        ahead = signed(packet.timestamp - self._expected, bits=32)
        if ahead < 0:
            return  # padding has the timestamp of the packet before it
        self._is_lossy = True
        if not ahead:
            return
        self._expected, self._concealable = packet.timestamp, 0
        self._complete(runs)
        kind = SampleKind.SILENCE
        runs.append(self._run(packet.timestamp, 0, kind, kind, packet.arrived))

    def _bridge(self, packet: RtpPacket, expected: int, runs: list[Run]) -> Miscount | None:
        """Fill the loss between the last sound and `packet` by concealment and FEC.

        Afterwards that time is accounted for, even if the packet itself cannot be decoded.
        Returns how the packet's timestamp miscounts that time, if it does.
        """
        before = self._timestamps.corrected(expected)
        step = self._timestamps.follow_loss(
            packet.timestamp, expected=expected, length=self._ticks, lost=self._lost
        )
        gap = step.gap * self._sample_rate_hz // self._clock_rate_hz
        if not 0 < gap <= self._max_gap:
            return step.miscount
        self._complete(runs)
        arrived = packet.arrived
        try:
            rebuilt = self._decoder.recoverable(packet.payload)
            rebuilt = rebuilt if rebuilt <= gap else 0
            missing = gap - rebuilt
            concealed = self._decoder.conceal(min(missing, self._concealable))
            if concealed:
                runs.append(self._rebuilt_run(before, concealed, SampleKind.CONCEALED, arrived))
            self._concealable = self._concealable - concealed if concealed == missing else 0
            self._expected = self._timestamp_after(packet.timestamp, -rebuilt)
            if rebuilt:
                before = self._timestamps.corrected(self._expected)
                recovered = self._decoder.recover(packet.payload)
                runs.append(self._rebuilt_run(before, recovered, SampleKind.RECOVERED, arrived))
                self._expected, self._concealable = packet.timestamp, self._max_concealed
            self._lost = 0
        except PayloadInvalid:
            pass  # `decode` will refuse the packet and count it
        return step.miscount

    def _rebuilt_run(self, timestamp: int, length: int, kind: SampleKind, arrived: float) -> Run:
        pieces, gap_kind = self._decoder.collect(), SampleKind.SILENCE
        return Run(timestamp, pieces, length, kind, gap_kind, arrived, arrived)

    def _timestamp_after(self, timestamp: int, samples: int) -> int:
        return (timestamp + samples * self._clock_rate_hz // self._sample_rate_hz) % 2**32


def _count(run: Run, miscount: Miscount) -> None:
    if run.miscounts is None:
        run.miscounts = Counter()
    run.miscounts[miscount] += 1
