"""Which pieces of a spool are sent, for what a server wants of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from domain.ports.spool import MAX_PIECE_SAMPLES
from domain.recording.ranges import Range, RangeSet
from domain.sound.formats import AudioFormat

MAX_PIECE_BYTES = 1 << 20
"""PCM in one piece."""
REQUEST_BYTES = 600
"""What a request and its answer cost beside their sound: with headers, on a connection that is
open."""
REQUEST_S = 3.0
"""How long sending a piece should take: little is sent again when the path breaks, and no server
waits long for the rest of it."""
LONGEST_GAP_S = 1.0
"""Wanted sound is sent in separate pieces if there is more than this between."""
WORTH = 0.25
"""How much of a round trip may go into sound that is not wanted. A whole one would save no time:
other requests are under way meanwhile."""
SHORTEST_S = 0.02
FIRST_SPEED = 20_000.0
WEIGHT = 0.25
TELLING_BYTES = 8192
"""Smaller pieces tell the round trip, and larger ones the speed."""
TRIAL_EVERY = 64
"""Of so many pieces one is as long as on the fastest path, so that it tells the speed."""


class PiecePlan:
    """Divides wanted sound into pieces, by how long requests have taken.

    Packets lost here and there leave many short ranges, and a request for each takes a round trip.
    So the sound between two ranges is sent along if that takes a part of a round trip only: on a
    slow path that is little sound, and on a fast one with a long round trip it is much. Calculated
    for an hour that lost every fifth packet, with 30 ms and 10 Mbit/s: each range by itself takes
    234 s and 71 MB, with gaps of up to a second 148 s and 180 MB, and so 112 s and 99 MB.
    """

    def __init__(self, audio_format: AudioFormat) -> None:
        self._rate_hz = audio_format.sample_rate_hz
        frame_bytes = audio_format.bytes_per_frame
        self._most = min(MAX_PIECE_SAMPLES, MAX_PIECE_BYTES // frame_bytes)
        self._sent_samples = self._rate_hz  # of which FLAC makes half, as long as nothing is known
        self._sent_bytes = self._rate_hz * frame_bytes // 2
        self._round_trip_s: float | None = None
        self._speed = FIRST_SPEED  # bytes per second of one request
        self._runs_begun = 0
        self.limit: float | None = None
        """Bytes per second that may be sent, if that is less than what can be."""

    @property
    def _sample_bytes(self) -> float:
        return self._sent_bytes / self._sent_samples

    @property
    def _allowed(self) -> float:
        return self._speed if self.limit is None else min(self._speed, self.limit)

    @property
    def gap(self) -> int:
        """The samples between two wanted ranges up to which both are sent as one."""
        if self.limit is None and self._runs_begun % TRIAL_EVERY == 1:
            return round(LONGEST_GAP_S * self._rate_hz)
        worth = max(REQUEST_BYTES, WORTH * (self._round_trip_s or 0.0) * self._allowed)
        return round(min(LONGEST_GAP_S * self._rate_hz, worth / self._sample_bytes))

    @property
    def size(self) -> int:
        """How many samples are sent at once, at most."""
        least = round(SHORTEST_S * self._rate_hz)
        return max(least, min(self._most, round(REQUEST_S * self._allowed / self._sample_bytes)))

    def answered(self, seconds: float) -> None:
        """Note how long a request with little or no sound has taken."""
        self._round_trip_s = min(seconds, self._round_trip_s or seconds)

    def sent(self, samples: int, size: int, seconds: float | None) -> None:
        """Note that `samples` were sent in `size` bytes, and how long that has taken.

        `seconds` is None if the bytes were held back.
        """
        self._sent_samples += samples
        self._sent_bytes += size
        if seconds is None:
            return
        if size < TELLING_BYTES:
            self.answered(seconds)
        else:
            sending_s = max(seconds - (self._round_trip_s or 0.0), seconds / 10, 1e-4)
            self._speed += WEIGHT * (size / sending_s - self._speed)

    def failed(self) -> None:
        """Note that a request with sound has failed: the next ones are shorter."""
        self._speed /= 2

    def pieces(self, wanted: Iterable[Range], captured: RangeSet) -> Iterator[Range]:
        """Yield the pieces for what is wanted, in order, without what was not captured."""
        for run in self._runs(RangeSet(wanted), captured):
            start = run.start
            while start < run.end:
                piece = Range(start, min(self.size, run.end - start))
                yield piece
                start = piece.end

    def _runs(self, wanted: RangeSet, captured: RangeSet) -> Iterator[Range]:
        run: Range | None = None
        for item in wanted:
            for part in captured.within(item.start, item.end):
                if run is not None:
                    if part.start - run.end <= self.gap and captured.covers(run.end, part.start):
                        run = Range(run.start, part.end - run.start)
                        continue
                    yield run
                run = part
                self._runs_begun += 1
        if run is not None:
            yield run
