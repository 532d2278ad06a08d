from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from domain.ports.restoring import Pieces, PieceStore, Restored, RestoreKey
from domain.recording.ledger import RestoreMode, RestoreState
from domain.recording.ranges import Range, RangeSet
from domain.recording.restoring import Captured, Restoration, Segment
from domain.services.server.restoring import RestoreService


class FakePieces:
    """Keeps which ranges have come; a piece is a number of samples, as text."""

    def __init__(self, key: RestoreKey) -> None:
        self.key = key
        self.live: list[Segment] = []
        """What the complete recording consists of."""
        self.captured: Captured | None = None
        self.ended_at: Any = None
        self.outcome: Restored | None = None
        self.states: list[RestoreState] = []
        self.errors: list[Exception] = []
        """Raised by the next calls of `restore`."""
        self.comparisons = 0
        self.may_go_on = asyncio.Event()
        """Until then, `restore` waits."""
        self.may_go_on.set()
        self.was_discarded = False
        self._held = RangeSet()

    @property
    def held(self) -> Sequence[Range]:
        return list(self._held)

    async def put(self, start: int, flac: bytes, wanted: Sequence[Range]) -> Sequence[Range]:
        end = start + int(flac)
        for item in wanted:
            self._held.add(max(start, item.start), min(end, item.end))
        return self._held.within(start, end)

    async def note_captured(self, captured: Captured) -> None:
        await asyncio.sleep(0)
        self.captured = captured

    async def note_end(self, ended_at: Any) -> None:
        self.ended_at = ended_at

    async def compare(self) -> Restoration:
        self.comparisons += 1
        await asyncio.sleep(0)
        restoration = Restoration(self.key.spool.format, self.key.mode, self._held)
        restoration.begin_anew(self.live, self.captured)
        return restoration

    async def restore(self, state: RestoreState) -> Restored:
        await self.may_go_on.wait()
        if self.errors:
            raise self.errors.pop(0)
        self.states.append(state)
        if state is RestoreState.COMPLETE:
            self.outcome = Restored("hash", 48_000, 480, 48_000)
        return Restored("hash", 48_000, 480, 48_000)

    async def forget(self) -> None:
        self._held = RangeSet()

    async def discard(self) -> None:
        self.was_discarded = True


class FakePieceStore:
    """Makes `FakePieces`; `left` are those of an earlier process."""

    def __init__(self) -> None:
        self.left: list[FakePieces] = []
        self.pieces: dict[str, FakePieces] = {}
        self.error: Exception | None = None
        self.is_waiting = False
        """Whether `begin` was called and has not returned."""
        self.may_go_on = asyncio.Event()
        """Until then, `begin` waits."""
        self.may_go_on.set()

    def pending(self) -> Sequence[Pieces]:
        return self.left

    async def begin(self, key: RestoreKey) -> Pieces:
        self.is_waiting = True
        await self.may_go_on.wait()
        self.is_waiting = False
        if self.error is not None:
            raise self.error
        pieces = self.pieces[key.session_id] = FakePieces(key)
        return pieces


def restoring(*, clock: Any, spawner: Any, events: Any, **changes: Any) -> RestoreService:
    """Return a service that restores nothing, unless `changes` say otherwise."""
    store: PieceStore | None = changes.pop("store", None)
    settings = {"mode": RestoreMode.LOST, "window_s": 3600.0, **changes}
    return RestoreService(store=store, clock=clock, spawner=spawner, events=events, **settings)
