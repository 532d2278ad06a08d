"""Tells by the capture times in packets how much time a sender did not capture."""

from __future__ import annotations

from domain.recording.reconstruction import MAX_SPACING_S, Run
from domain.rtp.counters import signed

MIN_PROVEN_S = 0.03
"""The shortest stall that capture times show."""
MAX_AHEAD_S = 2.0
"""How far capture times may put the recording ahead of its best lead, all of them together."""
_SHORTEST_S = 0.2
"""What timestamps must count between two capture times for them to tell the sender's rate."""


class CaptureTimes:
    """Compares capture times (RTP header extension abs-capture-time) with RTP timestamps."""

    def __init__(self, *, clock_rate_hz: int, sample_rate_hz: int) -> None:
        self._clock_rate_hz = clock_rate_hz
        self._sample_rate_hz = sample_rate_hz
        # these outlast restarts, so that a sender cannot claim more time after each
        self._best_s = float("-inf")  # the best lead ever, without `_claimed_s`
        self._claimed_s = 0.0  # how far capture times have put the recording ahead of it
        self.restart()

    def restart(self) -> None:
        """Expect an unrelated stream."""
        self._latest: tuple[float, int] | None = None  # capture time, and timestamp
        self._drift: float | None = None  # seconds per second that a wrong clock does not count

    def observe(self, run: Run) -> None:
        """Note a recorded run with a capture time."""
        assert run.captured_s is not None
        self._latest = run.captured_s, run.timestamp

    def note_best(self, lead_s: float) -> None:
        """Note a lead of the recording over the wall clock."""
        self._best_s = max(self._best_s, lead_s - self._claimed_s)

    def inserted(self, length_s: float) -> None:
        """Note a stall that is inserted: later capture times must not tell of it again."""
        if self._latest is not None:
            captured_s, timestamp = self._latest
            self._latest = captured_s + length_s, timestamp

    def stalled_s(self, run: Run, lead_s: float, *, before: float) -> float | None:
        """Return how much time was not captured before a run; None without capture times.

        It is 0 if it is short, if the capture times claim more time than has passed, or if a
        sender's clock that is wrong explains it. The run has the lead `lead_s` over the wall
        clock, and the packet before it arrived at `before`.
        """
        if self._latest is None or run.captured_s is None:
            return None
        captured_s, timestamp = self._latest
        counted_s = signed(run.timestamp - timestamp, bits=32) / self._clock_rate_hz
        uncounted_s = run.captured_s - captured_s - counted_s
        drift = self._drift
        first_s = run.first_length / self._sample_rate_hz
        is_paused = run.arrived - before - first_s >= MAX_SPACING_S
        if not is_paused and counted_s >= _SHORTEST_S:
            self._drift = uncounted_s / counted_s
            if drift is None:
                return 0.0
        stalled_s = uncounted_s - (drift or 0.0) * counted_s
        ahead_s = lead_s + stalled_s - self._best_s
        if stalled_s < MIN_PROVEN_S or ahead_s > MAX_AHEAD_S:
            return 0.0
        self._claimed_s = max(self._claimed_s, ahead_s)
        return stalled_s
