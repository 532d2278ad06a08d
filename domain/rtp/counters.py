"""Counters that wrap (RFC 3550 § 5.1)."""

from __future__ import annotations


def signed(difference: int, *, bits: int) -> int:
    """Return the smallest signed difference of two counters that wrap at `bits`, modulo 2^bits."""
    half = 1 << (bits - 1)
    return (difference + half) % (half << 1) - half


class Unwrapper:
    """Extends a wrapping counter to one that never wraps.

    Each value is interpreted as the one nearest to the previous value.
    """

    def __init__(self, *, bits: int) -> None:
        self._half = 1 << (bits - 1)
        self._last: int | None = None

    def unwrap(self, value: int) -> int:
        """Return the extended value; the first value is returned unchanged."""
        if self._last is None:
            self._last = value
            return value
        # `signed`, inlined: a call per packet would cost more than the rest of this method
        self._last += (value - self._last + self._half) % (self._half << 1) - self._half
        return self._last
