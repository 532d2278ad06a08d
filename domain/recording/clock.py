"""Estimates the skew of a sender's clock relative to ours."""

from __future__ import annotations

import math
from collections.abc import Sequence

EARLY_WINDOW_S, EARLY_WINDOWS = 1.0, 10
"""A first estimate after ten seconds."""
WINDOW_S, MIN_WINDOWS = 5.0, 6
"""The estimate from half a minute on: longer windows leave less jitter."""
MAX_POINTS = 40
WRONG_PPM = 1000.0
"""A clock that is further off is wrong. Crystals are off by 100 ppm at most."""


class SkewEstimator:
    """Estimates skew from the arrival times of a steady stream.

    Delay varies, but never falls below the minimum of the path. The earliest packet of each
    window represents that minimum; the slope of a least-squares line through these packets is
    the skew. Only the sums are kept.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget all observations, because media time was interrupted."""
        self._early = _Line(EARLY_WINDOW_S)
        self._steady = _Line(WINDOW_S)
        self._origin: tuple[float, float] | None = None

    def observe(self, *, media_s: float, arrived_s: float) -> bool:
        """Add sound that ends at `media_s` (sender's clock) and arrived at `arrived_s` (ours).

        Return whether there may be a new estimate.
        """
        if self._origin is None:
            self._origin = (media_s, arrived_s)
        elapsed = arrived_s - self._origin[1]
        lead = media_s - self._origin[0] - elapsed
        is_new = self._steady.add(elapsed, lead)
        if self._steady.count < MIN_WINDOWS:
            is_new |= self._early.add(elapsed, lead)
        return is_new

    @property
    def ppm(self) -> float | None:
        """Parts per million by which the sender's clock is fast; None until enough is observed."""
        if self._steady.count >= MIN_WINDOWS:
            return self._steady.slope * 1e6
        return self._early.slope * 1e6 if self._early.count >= EARLY_WINDOWS else None

    @property
    def is_wrong(self) -> bool:
        """Whether the clock is certainly further off than `WRONG_PPM`.

        A clock is steady, and delays are not. So each third of the time must show it.
        """
        if self._steady.count >= MIN_WINDOWS:
            return _is_wrong(self._steady)
        points, count = self._early.points, self._early.count
        if count < EARLY_WINDOWS or not _is_wrong(self._early):
            return False
        thirds = [points[count * n // 3 : count * (n + 1) // 3] for n in range(3)]
        slopes = [_Line.through(third).slope for third in thirds]
        least = abs(self._early.slope) / 2
        return min(slopes) > least or max(slopes) < -least


def _is_wrong(line: _Line) -> bool:
    return abs(line.slope) - 3 * line.slope_error > WRONG_PPM * 1e-6


class _Line:
    """A least-squares line through the best lead of each window."""

    def __init__(self, window_s: float) -> None:
        self.points: list[tuple[float, float]] = []
        """The best lead of each of the first `MAX_POINTS` windows, and when it was."""
        self._window_s = window_s
        self._window = 0
        self._best: tuple[float, float] | None = None
        self.count = 0
        """Windows that are complete."""
        self._sum_x = self._sum_y = self._sum_xx = self._sum_xy = self._sum_yy = 0.0

    @classmethod
    def through(cls, points: Sequence[tuple[float, float]]) -> _Line:
        line = cls(1.0)
        for point in points:
            line._add_point(*point)
        return line

    def add(self, x: float, y: float) -> bool:
        """Add a point; return whether a window is complete."""
        window = int(x / self._window_s)
        is_complete = window > self._window
        if is_complete:  # a reordered packet may belong to the previous window
            self._close_window()
            self._window = window
        if self._best is None or y > self._best[1]:
            self._best = (x, y)
        return is_complete

    @property
    def slope(self) -> float:
        """Needs two windows."""
        return (self.count * self._sum_xy - self._sum_x * self._sum_y) / self._spread

    @property
    def slope_error(self) -> float:
        """The standard error of the slope. Needs three windows."""
        variance_y = self.count * self._sum_yy - self._sum_y**2
        residual = max(0.0, variance_y - self.slope**2 * self._spread)
        return math.sqrt(residual / (self._spread * (self.count - 2)))

    @property
    def _spread(self) -> float:
        return self.count * self._sum_xx - self._sum_x**2

    def _close_window(self) -> None:
        if self._best is not None:
            self._add_point(*self._best)
        self._best = None

    def _add_point(self, x: float, y: float) -> None:
        if len(self.points) < MAX_POINTS:
            self.points.append((x, y))
        self.count += 1
        self._sum_x += x
        self._sum_y += y
        self._sum_xx += x * x
        self._sum_xy += x * y
        self._sum_yy += y * y
