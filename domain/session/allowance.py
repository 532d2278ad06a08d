"""How often something may happen that a stranger can cause."""

from __future__ import annotations


class Allowance:
    """So much at once, and so much more each second (a token bucket)."""

    __slots__ = ("_at", "_per_s", "left", "most")

    def __init__(self, most: float, per_s: float) -> None:
        self.most = most
        self.left = most
        self._per_s = per_s
        self._at: float | None = None

    def has(self, amount: float = 1.0, *, now: float) -> bool:
        """Whether so much is left."""
        if self._at is not None and self.left < self.most:
            self.left = min(self.most, self.left + (now - self._at) * self._per_s)
        self._at = now
        return self.left >= amount

    def take(self, amount: float = 1.0, *, now: float) -> bool:
        """Take so much if it is left; return whether it was."""
        if not self.has(amount, now=now):
            return False
        self.left -= amount
        return True

    def give_back(self, amount: float = 1.0) -> None:
        """Give back what was taken; no more than `most` is left then."""
        self.left = min(self.most, self.left + amount)
