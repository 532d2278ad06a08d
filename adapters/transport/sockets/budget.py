"""How often something may happen that a stranger can cause."""

from __future__ import annotations


class Budget:
    """Allows `burst` things at once, and `per_second` of them in the long run."""

    __slots__ = ("_at", "_burst", "_left", "_per_second")

    def __init__(self, *, per_second: float, burst: float) -> None:
        self._per_second = per_second
        self._burst = self._left = burst
        self._at = 0.0  # when `_left` was counted

    def is_left(self, *, now: float) -> bool:
        """Return whether one more thing may happen now."""
        self._left = min(self._burst, self._left + (now - self._at) * self._per_second)
        self._at = now
        return self._left >= 1

    def take(self, *, now: float) -> bool:
        """Return whether one more thing may happen now, and count it if so."""
        is_left = self.is_left(now=now)
        if is_left:
            self._left -= 1
        return is_left
