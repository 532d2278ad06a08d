"""Counters that wrap (RFC 3550 § 5.1)."""

from __future__ import annotations


def signed(difference: int, *, bits: int) -> int:
    """The difference of two counters that wrap at `bits`, taken the short way round."""
    half = 1 << (bits - 1)
    return (difference + half) % (half << 1) - half


class Unwrapper:
    """Turns a wrapping counter into one that goes on for ever.

    Each value is taken as the one nearest to the value before it.
    """

    def __init__(self, *, bits: int) -> None:
        self._half = 1 << (bits - 1)
        self._last: int | None = None

    def unwrap(self, value: int) -> int:
        """The extended value; the first one comes back unchanged."""
        if self._last is None:
            self._last = value
            return value
        # as `signed`, which a call for each packet would cost more than all the rest
        self._last += (value - self._last + self._half) % (self._half << 1) - self._half
        return self._last
