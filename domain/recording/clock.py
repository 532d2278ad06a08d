"""Estimates the skew of a sender's clock relative to ours."""

from __future__ import annotations

WINDOW_S = 5.0
MIN_WINDOWS = 6
"""Half a minute: with fewer windows, jitter would look like skew."""


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
        self._origin: tuple[float, float] | None = None
        self._window = 0
        self._best: tuple[float, float] | None = None
        self._count = 0
        self._sum_x = self._sum_y = self._sum_xx = self._sum_xy = 0.0

    def observe(self, *, media_s: float, arrived_s: float) -> None:
        """Add sound that ends at `media_s` (sender's clock) and arrived at `arrived_s` (ours)."""
        if self._origin is None:
            self._origin = (media_s, arrived_s)
        elapsed = arrived_s - self._origin[1]
        lead = media_s - self._origin[0] - elapsed
        window = int(elapsed / WINDOW_S)
        if window > self._window:  # a reordered packet may belong to the previous window
            self._close_window()
            self._window = window
        if self._best is None or lead > self._best[1]:
            self._best = (elapsed, lead)

    @property
    def ppm(self) -> float | None:
        """Parts per million by which the sender's clock is fast; None until enough is observed."""
        if self._count < MIN_WINDOWS:
            return None
        spread = self._count * self._sum_xx - self._sum_x**2
        slope = (self._count * self._sum_xy - self._sum_x * self._sum_y) / spread
        return slope * 1e6

    def _close_window(self) -> None:
        if self._best is not None:
            x, y = self._best
            self._count += 1
            self._sum_x += x
            self._sum_y += y
            self._sum_xx += x * x
            self._sum_xy += x * y
        self._best = None
