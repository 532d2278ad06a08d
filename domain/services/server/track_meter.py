"""Measures what is recorded of a track: how loud it is, and of which kinds its samples are.

It is on the way of every packet, so that it only gathers there. Half a second of sound is measured
at once, or what there is when somebody asks. That takes about 1 µs for each packet of 20 ms.
"""

from __future__ import annotations

import math
import operator
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from domain.recording.ledger import SampleKind
from domain.session.status import ChannelLevel
from domain.sound.formats import AudioFormat, Samples
from domain.sound.pieces import EncodedSound, Sound

SLOTS_PER_S = 10
"""Levels are kept for slots of a tenth of a second."""
KEPT_SLOTS = 10 * SLOTS_PER_S
LATEST_SLOTS = SLOTS_PER_S
"""The slots whose levels somebody gets who has not asked before."""
GATHERED_SLOTS = 5
"""Sound is measured when so many slots are gathered."""
RECENT_S = 60
"""What counts as recent: so many seconds, and the one that is being recorded."""
_FULL_SCALE, _LOWEST, _HIGHEST = 2.0**15, -(2**15), 2**15 - 1


@dataclass(slots=True, eq=False)
class _Slot:
    """The levels of a tenth of a second; all lists have one item for each channel."""

    end: int
    """The position behind it."""
    peaks: Sequence[int]
    """Largest absolute values; full scale is 2^15."""
    squares: Sequence[float]
    """Sums of squares, in the same scale."""
    clipped: Sequence[int]


class TrackMeter:
    """Meters one track.

    Levels are asked for from a position on, so that everybody who asks again and again gets each
    slot once, whoever else asks. Sound that is stored undecoded has no levels.
    """

    def __init__(self) -> None:
        self.position = 0
        """Samples per channel that have been recorded, also by the processes before this one."""
        self.stalls = 0
        """How often the sender captured nothing for a time."""
        self._rate_hz = 1
        self._slot = 1  # samples per channel of a slot
        self._channels = 0  # none: levels are not measured
        self._gathered: list[Sound] = []  # s16, not measured yet
        self._measured = 0  # the position up to which sound is measured
        self._measure_at = math.inf  # the position at which sound is measured next
        self._slots: deque[_Slot] = deque(maxlen=KEPT_SLOTS)
        self._kind: SampleKind | None = None  # of the span that is being recorded
        self._span = 0  # its beginning, or up to where its samples are counted
        self._kinds: Counter[SampleKind] = Counter()
        self._seconds: deque[tuple[int, Counter[SampleKind]]] = deque(maxlen=RECENT_S + 1)

    def begin(self, audio_format: AudioFormat, *, position: int, is_decoded: bool) -> None:
        """Expect sound of this format from a position on; it continues what was metered before."""
        self.position = self._span = position
        self._rate_hz = audio_format.sample_rate_hz
        self._slot = max(1, self._rate_hz // SLOTS_PER_S)
        self.change_channels(audio_format.channels if is_decoded else 0)

    def change_channels(self, channels: int) -> None:
        """Expect sound with another number of channels; what is not measured yet is left out."""
        self._channels = channels
        self._slots.clear()
        self._gathered = []
        self._measured = self.position
        self._measure_next()

    def change_kind(self, kind: SampleKind) -> None:
        """Note that what follows is of another kind than what came before."""
        self._count_span()
        self._kind = kind

    def add(self, pieces: Sequence[Sound]) -> int:
        """Add sound that is recorded; return its samples per channel."""
        length = sum(map(len, pieces))
        self.position += length
        if self._channels:
            self._gathered += pieces
            if self.position >= self._measure_at:
                self._measure()
        return length

    def add_silence(self, length: int) -> None:
        """Add silence that is recorded."""
        self.position += length
        if not self._channels:
            return
        if length > KEPT_SLOTS * self._slot:  # it is all that is heard of then
            self._slots.clear()
            self._gathered = []
            length = KEPT_SLOTS * self._slot
            self._measured = self.position - length
        self._gathered.append(np.zeros((length, self._channels), np.int16))
        if self.position >= self._measure_at:
            self._measure()

    def levels(self, *, since: int | None = None) -> tuple[ChannelLevel, ...]:
        """Return the levels of each channel in the slots that were completed after a position.

        Without one, those of the latest second. Empty if there are none.
        """
        self._measure()
        if since is None:
            since = self.position - (LATEST_SLOTS + 1) * self._slot
        slots = [slot for slot in self._slots if slot.end > since]
        if not slots:
            return ()
        count = len(slots) * self._slot
        return tuple(
            ChannelLevel(
                peak_dbfs=_dbfs(max(slot.peaks[channel] for slot in slots)),
                rms_dbfs=_dbfs(math.sqrt(sum(slot.squares[channel] for slot in slots) / count)),
                clipped=sum(slot.clipped[channel] for slot in slots),
            )
            for channel in range(self._channels)
        )

    @property
    def kinds(self) -> Mapping[SampleKind, int]:
        """Samples of each kind since the process began to record it."""
        self._count_span()
        return dict(self._kinds)

    @property
    def recent_kinds(self) -> Mapping[SampleKind, int]:
        """Samples of each kind in the last minute of the recording."""
        self._count_span()
        earliest = self.position // self._rate_hz - RECENT_S
        recent: Counter[SampleKind] = Counter()
        for second, kinds in self._seconds:
            if second >= earliest:
                recent += kinds
        return dict(recent)

    def _count_span(self) -> None:
        """Count the samples of the latest span, as far as they are not counted."""
        start, self._span = self._span, self.position
        if self._kind is None or start == self.position:
            return
        self._kinds[self._kind] += self.position - start
        start = max(start, self.position - (RECENT_S + 1) * self._rate_hz)
        while start < self.position:
            second = start // self._rate_hz
            end = min(self.position, (second + 1) * self._rate_hz)
            if not self._seconds or self._seconds[-1][0] != second:
                self._seconds.append((second, Counter()))
            self._seconds[-1][1][self._kind] += end - start
            start = end

    def _measure(self) -> None:
        """Measure the slots that are complete."""
        count = (self.position - self._measured) // self._slot
        if not (count and self._channels):
            return
        samples, length = self._take_gathered(), count * self._slot
        # a row for each slot of each channel: numpy is fastest along rows
        rows = np.ascontiguousarray(samples[:length].T).reshape(-1, self._slot)
        unit = rows.astype(np.float32)
        squares = [float(np.dot(row, row)) for row in unit]
        lowest, highest = rows.min(axis=1).tolist(), rows.max(axis=1).tolist()
        clipped = [0] * len(rows)
        for n in range(len(rows)):
            if lowest[n] == _LOWEST or highest[n] == _HIGHEST:
                full = (rows[n] == _LOWEST) | (rows[n] == _HIGHEST)
                clipped[n] = int(np.count_nonzero(full))
        peaks = list(map(max, highest, map(operator.neg, lowest)))
        for n in range(count):  # the rows of one channel follow each other
            self._measured += self._slot
            slot = _Slot(self._measured, peaks[n::count], squares[n::count], clipped[n::count])
            self._slots.append(slot)
        if len(samples) > length:
            self._gathered = [samples[length:].copy()]  # a copy: it must not keep all of it
        self._measure_next()

    def _take_gathered(self) -> Samples:
        gathered, self._gathered = self._gathered, []
        if len(gathered) == 1 and not isinstance(gathered[0], EncodedSound):
            return gathered[0]
        try:
            joined = b"".join(gathered)  # type: ignore[arg-type]  # faster than `concatenate`
        except (BufferError, TypeError):  # one of them is not contiguous
            return np.concatenate(gathered)  # type: ignore[arg-type]
        return np.frombuffer(joined, np.int16).reshape(-1, self._channels)

    def _measure_next(self) -> None:
        self._measure_at = self._measured + GATHERED_SLOTS * self._slot


def _dbfs(value: float) -> float:
    return 20 * math.log10(value / _FULL_SCALE) if value > 0 else -math.inf
