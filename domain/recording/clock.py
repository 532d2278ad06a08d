"""How fast a sender's clock runs against ours."""

from __future__ import annotations

WINDOW_S = 5.0
MIN_WINDOWS = 6
"""Half a minute: below that, jitter would be taken for skew."""


class SkewEstimator:
    """Estimates skew from the times at which a steady stream arrives.

    Delay varies, but it is never less than the path needs: the earliest packet of each window
    stands for it, and a line through those (least squares, sums only) has the skew as its slope.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """The stream broke off; media time before and after do not belong together."""
        self._origin: tuple[float, float] | None = None
        self._window = 0
        self._best: tuple[float, float] | None = None
        self._count = 0
        self._sum_x = self._sum_y = self._sum_xx = self._sum_xy = 0.0

    def observe(self, *, media_s: float, arrived_s: float) -> None:
        """Sound that ends at `media_s` of the sender's clock arrived at `arrived_s` of ours."""
        if self._origin is None:
            self._origin = (media_s, arrived_s)
        elapsed = arrived_s - self._origin[1]
        lead = media_s - self._origin[0] - elapsed
        window = int(elapsed / WINDOW_S)
        if window > self._window:  # a packet that was overtaken may belong to the one before
            self._close_window()
            self._window = window
        if self._best is None or lead > self._best[1]:
            self._best = (elapsed, lead)

    @property
    def ppm(self) -> float | None:
        """Parts per million by which the sender's clock is fast; None while nothing is known."""
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
