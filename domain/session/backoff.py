"""How long to wait before trying again."""

from __future__ import annotations

from collections.abc import Callable

FIRST_S = 0.5
LONGEST_S = 8.0


class Backoff:
    """Delays that double from `FIRST_S` to `LONGEST_S`, each shortened by chance.

    `random` gives numbers from [0, 1): many clients that lost the same network do not come back
    all in one moment.
    """

    def __init__(self, random: Callable[[], float]) -> None:
        self._random = random
        self._next_s = FIRST_S

    def next_delay_s(self) -> float:
        """Between half of the current delay and nearly all of it: the attempt takes time, too."""
        delay = self._next_s * (0.5 + 0.45 * self._random())
        self._next_s = min(self._next_s * 2, LONGEST_S)
        return delay

    def reset(self) -> None:
        """It has worked: begin again with the shortest delay when it next does not."""
        self._next_s = FIRST_S
