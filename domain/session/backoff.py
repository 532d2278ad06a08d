"""Delays between retries."""

from __future__ import annotations

from collections.abc import Callable

FIRST_S = 0.5
LONGEST_S = 8.0


class Backoff:
    """Delays that double from `FIRST_S` to `LONGEST_S`, each shortened at random.

    `random` returns numbers in [0, 1). The jitter keeps many clients that lost the same network
    from reconnecting at the same moment.
    """

    def __init__(self, random: Callable[[], float]) -> None:
        self._random = random
        self._next_s = FIRST_S

    def next_delay_s(self) -> float:
        """Return 50 % to 95 % of the current delay (the attempt itself takes time), and double it.

        The delay never exceeds `LONGEST_S`.
        """
        delay = self._next_s * (0.5 + 0.45 * self._random())
        self._next_s = min(self._next_s * 2, LONGEST_S)
        return delay

    def reset(self) -> None:
        """Start again with the shortest delay, after a success."""
        self._next_s = FIRST_S
