from __future__ import annotations

import asyncio
import datetime
import hashlib
from collections.abc import Sequence

from domain.errors import GaplessError, SessionOver, SpoolFailed
from domain.ports.restoring import Confirmed, Pace, Wanted
from domain.ports.spool import MAX_PIECE_SAMPLES, SpoolDescription, SpoolSession
from domain.recording.ledger import RestoreMode, RestoreState
from domain.recording.ranges import Range, RangeSet
from domain.recording.restoring import Captured
from domain.sound.formats import AudioFormat
from tests.fakes.time import FakeClock

MONO_48K = AudioFormat(48_000, 1)
STEP_BYTES = 400


class FakeSpool:
    """A spool whose FLAC files have one byte for each sample."""

    def __init__(
        self,
        captured: RangeSet,
        *,
        name: str = "",
        session: SpoolSession | None = None,
        audio_format: AudioFormat = MONO_48K,
    ) -> None:
        self.description = SpoolDescription(
            id=f"20260102-030405-{name}",
            format=audio_format,
            started_at=datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC),
            name=name,
            server="http://server",
            rtp_timestamp=1234,
            mode=RestoreMode.ALL,
        )
        self.captured = captured
        self.session = session
        self.damaged = RangeSet()
        self.noted: list[SpoolSession] = []
        self.removed = 0
        self.released = 0

    @property
    def length(self) -> int:
        return self.captured.end

    async def flac(self, start: int, length: int) -> bytes:
        assert 0 < length <= MAX_PIECE_SAMPLES
        assert self.captured.covers(start, start + length)
        if found := self.damaged.within(start, start + length):
            captured = self.captured.minus(RangeSet(found))
            self.captured = captured
            raise SpoolFailed("damaged")
        return bytes(length)

    async def sha256(self) -> str:
        return hashlib.sha256(repr(self.captured).encode()).hexdigest()

    async def export(self, path: str) -> None:
        raise NotImplementedError

    async def note_session(self, session: SpoolSession) -> None:
        self.session = session
        self.noted.append(session)

    async def remove(self) -> None:
        self.removed += 1

    async def release(self) -> None:
        self.released += 1


class FakeRestoring:
    """A server with one session, which wants `wanted` of a spool.

    A request takes `round_trip_s`, and each byte of sound `byte_s`.
    """

    def __init__(
        self,
        wanted: RangeSet,
        clock: FakeClock | None = None,
        *,
        session_id: str = "session",
        limit: int = 10,
        round_trip_s: float = 0.0,
        byte_s: float = 0.0,
    ) -> None:
        self.wanted_ranges = wanted
        self.session_id = session_id
        self.state = RestoreState.WAITING
        """As long as something is wanted, or `captured` was not called."""
        self.last_states = [RestoreState.COMPLETE]
        """What `captured` answers one after another when nothing is wanted."""
        self.errors: list[GaplessError | None] = []
        """Raised by the next requests; None for one that succeeds."""
        self.error: GaplessError | None = None
        """Raised by all requests."""
        self.sha256: str | None = None
        """Of the recording; by default that of what was captured."""
        self.pieces: list[Range] = []
        self.told: list[Captured] = []
        self.asked = 0
        self.paced: list[int] = []
        self.most_at_once = 0
        self.closed = 0
        self.ignores_pieces = False
        self._clock = clock
        self._limit = limit
        self._round_trip_s = round_trip_s
        self._byte_s = byte_s
        self._under_way = 0

    async def wanted(self, session_id: str, resume: str) -> Wanted:
        await self._request(session_id, resume)
        self.asked += 1
        return Wanted(self._first, self.state.value)

    async def put(
        self, session_id: str, resume: str, start: int, flac: bytes, pace: Pace | None = None
    ) -> None:
        self._under_way += 1
        self.most_at_once = max(self.most_at_once, self._under_way)
        try:
            if pace is not None:
                for at in range(0, len(flac), STEP_BYTES):
                    size = min(STEP_BYTES, len(flac) - at)
                    await pace(size)
                    self.paced.append(size)
            await self._request(session_id, resume, len(flac))
        finally:
            self._under_way -= 1
        self.pieces.append(Range(start, len(flac)))
        if not self.ignores_pieces:
            self.wanted_ranges.remove(start, start + len(flac))

    async def captured(self, session_id: str, resume: str, captured: Captured) -> Confirmed:
        await self._request(session_id, resume)
        self.told.append(captured)
        for missing in captured.missing:
            self.wanted_ranges.remove(missing.start, missing.end)
        self.wanted_ranges.remove(captured.length, max(captured.length, self.wanted_ranges.end))
        if len(self.wanted_ranges):
            return Confirmed(self.state.value, None, self._first)
        state = self.last_states.pop(0) if len(self.last_states) > 1 else self.last_states[0]
        return Confirmed(state.value, self.sha256 or captured.sha256)

    async def close(self) -> None:
        self.closed += 1

    @property
    def _first(self) -> Sequence[Range]:
        return list(self.wanted_ranges)[: self._limit]

    async def _request(self, session_id: str, resume: str, size: int = 0) -> None:
        if seconds := self._round_trip_s + size * self._byte_s:
            assert self._clock is not None
            await self._clock.sleep(seconds)
        else:
            await asyncio.sleep(0)
        if self.error is not None:
            raise self.error
        if self.errors and (error := self.errors.pop(0)) is not None:
            raise error
        if (session_id, resume) != (self.session_id, "secret"):
            raise SessionOver("there is no such session")
