"""Follows where the samples of a live recording are in its client's spool."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from domain.recording.effects import Placed
from domain.recording.ledger import LedgerEvent, RestoreMode, SampleKind
from domain.recording.restoring import LOOK_AHEAD, PLACED, Segment, SpoolInfo, SpoolMap
from domain.rtp.counters import signed

_EARLY = 48_000 * 60
"""Ticks: a first timestamp that is earlier than position 0 of the spool by less is just that."""


class SpoolTracker:
    """Turns RTP timestamps into positions of a spool, and tells what a recording lacks of it.

    Each connection may number its timestamps anew; its offer says which one belongs to position 0.
    """

    def __init__(self, mode: RestoreMode, need: Callable[[Sequence[Segment]], None]) -> None:
        """`need` is called with the segments of what was recorded, in order."""
        self.mode = mode
        self._need = need
        self._map = SpoolMap()
        self._origin: int | None = None  # the timestamp of position 0
        self._reached: int | None = None  # the latest timestamp, extended, since the origin

    def connect(self, spool: SpoolInfo | None) -> None:
        """Expect sound of another source, with what its connection's offer said of the spool."""
        self._origin = None if spool is None else spool.rtp_timestamp

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
        if self._origin is None:
            return None
        ticks = self._extended(effect.rtp_timestamp - self._origin) - LOOK_AHEAD
        self._need(self._map.placed(gap=effect.gap, ticks=ticks))
        return LedgerEvent(PLACED, effect.position, {"gap": effect.gap, "ticks": ticks})

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
