"""Follows where the samples of a live recording are in its client's spool."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from domain.recording.effects import Placed
from domain.recording.ledger import LedgerEvent, RestoreMode, SampleKind
from domain.recording.restoring import (
    ABOUT,
    LOOK_AHEAD,
    PLACED,
    TICK_RATE_HZ,
    Segment,
    SpoolInfo,
    SpoolMap,
)
from domain.rtp.counters import signed

_EARLY = 48_000 * 60
"""Ticks: a first timestamp that is earlier than position 0 of the spool by less is just that."""
_FRAME = 960
"""Ticks (20 ms): a packet is sent when its frame is full; the first sample is older by so much."""


class SpoolTracker:
    """Turns RTP timestamps into positions of a spool, and tells what a recording lacks of it.

    Each connection may number its timestamps anew; its offer says which one belongs to position 0.
    If it says in place of that how much was captured when it was sent, the time that has passed
    since then tells where the first sound is, to about a tenth of a second. From there on, the
    recording and the spool both have time as their axis.
    """

    def __init__(self, mode: RestoreMode, need: Callable[[Sequence[Segment]], None]) -> None:
        """`need` is called with the segments of what was recorded, in order."""
        self.mode = mode
        self._need = need
        self._map = SpoolMap()
        self._origin: int | None = None  # the timestamp of position 0
        self._reached: int | None = None  # the latest timestamp, extended, since the origin
        self._timed: SpoolInfo | None = None  # an offer that tells a position instead
        self._shift: int | None = None  # from positions of the recording to that spool's ticks

    def connect(self, spool: SpoolInfo | None) -> None:
        """Expect sound of another source, with what its connection's offer said of the spool."""
        self._origin = None if spool is None else spool.rtp_timestamp
        self._timed = None if spool is None or spool.position is None else spool
        self._shift = None

    def resume(self, event: LedgerEvent | None, length: int) -> None:
        """Continue after another process, which had recorded `length` samples.

        `event` is the latest of the type `spool` in the ledger, if there is one.
        """
        if event is None:
            return
        gap, ticks = int(event.details["gap"]), int(event.details["ticks"])
        self._map.continue_at(length, ticks + max(0, length - event.position - gap))
        self._reached = ticks + LOOK_AHEAD

    def placed(self, effect: Placed) -> LedgerEvent | None:
        """Return the event that ties a position of the recording to one of the spool."""
        if self._timed is not None:
            return self._estimated(effect, self._timed)
        if self._origin is None:
            return None
        ticks = self._extended(effect.rtp_timestamp - self._origin) - LOOK_AHEAD
        self._need(self._map.placed(gap=effect.gap, ticks=ticks))
        return LedgerEvent(PLACED, effect.position, {"gap": effect.gap, "ticks": ticks})

    def _estimated(self, effect: Placed, spool: SpoolInfo) -> LedgerEvent:
        position = effect.position + effect.gap
        if self._shift is None:
            self._shift = _captured_at(effect.arrived, spool) - position
        ticks = position + self._shift
        self._need(self._map.placed(gap=effect.gap, ticks=ticks, about=ABOUT))
        details = {"gap": effect.gap, "ticks": ticks, "about": ABOUT}
        return LedgerEvent(PLACED, effect.position, details)

    def recorded(self, length: int, kind: SampleKind) -> None:
        """Note samples that were appended to the recording."""
        self._need(self._map.recorded(length, kind))

    def _extended(self, ticks: int) -> int:
        """Return the ticks since position 0, which wrap at 32 bits, extended.

        Sound may wait for a server for 24 hours: until then the first ones are not ambiguous.
        """
        if self._reached is None:
            ticks %= 2**32
            self._reached = ticks if ticks < 2**32 - _EARLY else ticks - 2**32
        else:
            self._reached += signed(ticks - self._reached, bits=32)
        return self._reached


def _captured_at(arrived: float, spool: SpoolInfo) -> int:
    """Estimate at which ticks the sound of a packet was captured that `arrived` then."""
    assert spool.position is not None
    since_s = 0.0 if spool.told_at is None else max(0.0, arrived - spool.told_at)
    captured = spool.position * TICK_RATE_HZ // spool.format.sample_rate_hz
    return max(0, captured + round(since_s * TICK_RATE_HZ) - _FRAME - LOOK_AHEAD)
