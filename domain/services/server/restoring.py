"""Restores recordings from what their clients have captured."""

from __future__ import annotations

import datetime
from collections.abc import Container, Sequence
from dataclasses import dataclass

from domain.errors import (
    CapturedInvalid,
    GaplessError,
    OfferRejected,
    PeerError,
    RecordingRemoved,
    StorageFailed,
    StorageFull,
    Unauthorized,
)
from domain.events.server import (
    RecordingRestored,
    RestoringFailed,
)
from domain.ports.clock import Clock, Spawner, Work
from domain.ports.events import EventPublisher
from domain.ports.restoring import Confirmed, Pieces, PieceStore, RestoreKey, Wanted
from domain.ports.spool import MAX_PIECE_SAMPLES
from domain.recording.ledger import RestoreMode, RestoreState
from domain.recording.ranges import Range
from domain.recording.restoring import Captured, Restoration, SpoolInfo, agreed
from domain.services.server.spool_tracker import SpoolTracker
from domain.session.session import digest_of

MAX_RANGES = 1000
"""Ranges in one answer; there may be more."""
MAX_EARLIER_S = 7 * 86_400.0
"""How long a client can have captured before its session was opened."""
MAX_MISSING_S = 3600.0
"""How much may be missing of what a client captured, in any case: a device may be away for long."""
MAX_MISSING_RATIO = 10
"""How many times what was captured may be missing beyond that: silence that nobody captured must
not fill a disk."""
MAX_HELD = 20
"""Ranges that are held, in one answer: a client that sends everything in order needs the first."""
ANSWER_S = 8.0
"""How long an answer may wait for a recording that is being rewritten."""
EMPTY_S = 600.0
"""How long a session without any sound can get some after its end, unless its client says before
that what it has captured."""
RETRY_S = 600.0
"""How long after a fault of the storage a recording is rewritten again whose window is over."""
_POLL_S = 0.05


@dataclass(slots=True)
class _Unrestored:
    """A session whose client keeps what it captures, but whose recording is not restored."""

    resume_digest: str
    until: datetime.datetime | None = None
    """When it is forgotten; None while the session lives."""


@dataclass(slots=True, eq=False)
class _Restore:
    """One recording that is restored."""

    pieces: Pieces
    restoration: Restoration
    window_ends: datetime.datetime | None = None
    """When the window is over; None while the session lives."""
    until: datetime.datetime | None = None
    """When nothing is waited for any more; None while the session lives."""
    work: Work | None = None
    """Reads or rewrites the recording."""
    late: list[Range] | None = None
    """What has arrived while the recording is compared."""
    error: GaplessError | None = None
    """Why the recording could not be rewritten."""

    def arrived(self, ranges: Sequence[Range]) -> None:
        """Note what is held from now on."""
        self.restoration.arrived(ranges)
        if self.late is not None:
            self.late += ranges

    @property
    def is_busy(self) -> bool:
        return self.work is not None and not self.work.done

    def lacks_of(self, captured: Captured) -> bool:
        """Return whether it is known that some of what was captured is wanted."""
        restoration = self.restoration
        return restoration.captured == captured and not restoration.is_satisfied

    @property
    def state(self) -> RestoreState:
        if self.pieces.outcome is not None:
            return RestoreState.COMPLETE
        if self.until is None:
            return RestoreState.LIVE
        is_rewritten = self.is_busy and self.restoration.is_satisfied
        return RestoreState.RESTORING if is_rewritten else RestoreState.WAITING


class RestoreService:
    """Asks clients for what their recordings lack, while sessions live and after their end.

    The live recording is there first. When its session has ended, and the client has said what it
    captured and sent what is wanted of that, the recording is rewritten. If that does not happen
    within a time (`window_s`), the recording gets what has come.

    Call `tick` a few times a second.
    """

    def __init__(
        self,
        *,
        mode: RestoreMode,
        window_s: float,
        store: PieceStore | None,
        clock: Clock,
        spawner: Spawner,
        events: EventPublisher,
    ) -> None:
        """`store` is None if recordings cannot be restored."""
        self._mode = mode if store is not None else RestoreMode.OFF
        self._window = datetime.timedelta(seconds=window_s)
        self._store = store
        self._clock = clock
        self._spawner = spawner
        self._events = events
        self._restores: dict[str, _Restore] = {}  # by session
        self._unrestored: dict[str, _Unrestored] = {}  # by session
        self._is_closing = False

    # -- a session's life ----------------------------------------------------------------------

    def recover(self, live: Container[str]) -> None:
        """Continue what earlier processes have left; `live` are the sessions that go on.

        Call it before the first offer.
        """
        if self._store is None:
            return
        for pieces in self._store.pending():
            restore = self._keep(pieces)
            session_id = pieces.key.session_id
            if pieces.ended_at is not None:
                restore.until = restore.window_ends = pieces.ended_at + self._window
            if session_id not in live and pieces.outcome is None:
                self.session_ended(session_id)

    async def begin(
        self, *, session_id: str, resume_digest: str, name: str, room: str = "", spool: SpoolInfo
    ) -> None:
        """Prepare to restore the recording of a session, if client and server want that.

        If it is impossible, the session goes on without it.
        """
        mode = agreed(self._mode, spool.mode)
        if self._store is not None and mode is not RestoreMode.OFF:
            at = self._clock.utc()
            key = RestoreKey(session_id, resume_digest, name, spool, mode, at, room)
            try:
                self._keep(await self._store.begin(key))
                return
            except (StorageFull, StorageFailed) as error:
                self._events.publish(RestoringFailed(session_id, error))
        self._unrestored[session_id] = _Unrestored(resume_digest)

    def check_spool(self, session_id: str, spool: SpoolInfo | None) -> None:
        """Raise `OfferRejected` if a session's client has another spool than it had before."""
        restore = self._restores.get(session_id)
        if spool is None or restore is None:
            return
        known = restore.pieces.key.spool.format
        if spool.format != known:
            raise OfferRejected(f"the spool of this session has {known}, not {spool.format}")

    def tracker(self, session_id: str) -> SpoolTracker | None:
        """Return what follows the recording of a session; None if it is not restored."""
        restore = self._restores.get(session_id)
        if restore is None:
            return None
        return SpoolTracker(restore.pieces.key.mode, restore.restoration.need)

    def wanted_length(self, session_id: str) -> int:
        """Return how many samples of a session's spool are wanted."""
        restore = self._restores.get(session_id)
        return 0 if restore is None else restore.restoration.wanted_length

    def session_ended(self, session_id: str) -> None:
        """Note that a session has ended, and that its recording is complete if there is one."""
        if (unrestored := self._unrestored.get(session_id)) is not None:
            unrestored.until = self._clock.utc() + datetime.timedelta(seconds=EMPTY_S)
        restore = self._restores.get(session_id)
        if restore is not None:
            ended_at = restore.pieces.ended_at or self._clock.utc()
            restore.until = restore.window_ends = ended_at + self._window
            restore.work = self._spawner.spawn(
                self._compare(restore, ended_at), name=f"restore {session_id}"
            )

    def tick(self) -> None:
        """Apply the deadlines."""
        now = self._clock.utc()
        for session_id, unrestored in list(self._unrestored.items()):
            if unrestored.until is not None and now >= unrestored.until:
                del self._unrestored[session_id]
        for session_id, restore in self._restores.items():
            if restore.until is not None and now >= restore.until and not restore.is_busy:
                restore.work = self._spawner.spawn(
                    self._expire(restore), name=f"expire {session_id}"
                )

    async def shut_down(self) -> None:
        """Let go of what is being rewritten: the next process does it, however long it takes."""
        self._is_closing = True
        for restore in list(self._restores.values()):
            if restore.work is not None:
                await restore.work.cancel()

    # -- what clients ask and send -------------------------------------------------------------

    async def wanted(self, session_id: str, secret: str) -> Wanted:
        """Return what is wanted of a session's spool.

        Raises `Unauthorized` if the secret is not that session's, there is no such session, or its
        client has no spool.
        """
        restore = self._find(session_id, secret)
        if restore is None:
            return Wanted([], RestoreState.OFF.value)
        restoration, state = restore.restoration, restore.state.value
        ranges = [] if restore.pieces.outcome else restoration.first(MAX_RANGES)
        return Wanted(ranges, state, restore.until, restoration.first_held(MAX_HELD))

    async def put(self, session_id: str, secret: str, start: int, flac: bytes) -> None:
        """Keep a piece, as far as it is wanted. Raises as `wanted`, and as `Pieces.put`."""
        restore = self._find(session_id, secret)
        if restore is None or restore.state in (RestoreState.COMPLETE, RestoreState.RESTORING):
            return  # late, or sent again
        wanted = restore.restoration.within(start, MAX_PIECE_SAMPLES)
        held = await restore.pieces.put(start, flac, wanted)
        restore.arrived(held)

    async def captured(self, session_id: str, secret: str, captured: Captured) -> Confirmed:
        """Note what was captured; restore the recording if nothing is wanted any more.

        Raises as `wanted`, as `Pieces.restore`, and `CapturedInvalid`.
        """
        restore = self._find(session_id, secret)
        if restore is None:
            return Confirmed(RestoreState.OFF.value, None)
        self._check(restore, captured)
        if restore.state is RestoreState.LIVE:
            ranges = restore.restoration.first(MAX_RANGES)
            return Confirmed(RestoreState.LIVE.value, None, ranges)
        until = self._clock.monotonic() + ANSWER_S
        await self._finished(restore, until)
        is_idle = not (restore.is_busy or self._is_closing)
        if is_idle and restore.pieces.outcome is None and not restore.lacks_of(captured):
            restore.work = self._spawner.spawn(
                self._settle(restore, captured), name=f"restore {session_id}"
            )
            await self._finished(restore, until)
        self._find(session_id, secret)  # it may have expired meanwhile
        if restore.error is not None:
            raise restore.error
        if restore.lacks_of(captured):
            ranges = restore.restoration.first(MAX_RANGES)
            return Confirmed(restore.state.value, None, ranges)
        outcome = restore.pieces.outcome
        return Confirmed(restore.state.value, None if outcome is None else outcome.sha256)

    # -- the work ------------------------------------------------------------------------------

    def _keep(self, pieces: Pieces) -> _Restore:
        key = pieces.key
        restoration = Restoration(key.spool.format, key.mode, pieces.held)
        restore = self._restores[key.session_id] = _Restore(pieces, restoration)
        return restore

    def _find(self, session_id: str, secret: str) -> _Restore | None:
        """Return what is restored; None if the session is known, and nothing is restored.

        A stranger does not learn which sessions there are. Raises `Unauthorized`.
        """
        restore = self._restores.get(session_id)
        unrestored = self._unrestored.get(session_id)
        digest = ""
        if restore is not None:
            digest = restore.pieces.key.resume_digest
        elif unrestored is not None:
            digest = unrestored.resume_digest
        if digest_of(secret) != digest:
            raise Unauthorized(
                "the bearer token is not the secret of this session, the session is over, "
                "or its client keeps no sound"
            )
        return restore

    def _check(self, restore: _Restore, captured: Captured) -> None:
        """Raise `CapturedInvalid` if so much cannot have been captured."""
        key = restore.pieces.key
        ended_at = restore.pieces.ended_at or self._clock.utc()
        longest_s = (ended_at - key.opened_at).total_seconds() + MAX_EARLIER_S
        if self._window:
            longest_s += self._window.total_seconds()  # captured on after the session's end
        if captured.length > longest_s * key.spool.format.sample_rate_hz:
            raise CapturedInvalid("so much cannot have been captured in a session of this age")
        missing = sum(item.length for item in captured.missing)
        most = MAX_MISSING_S * key.spool.format.sample_rate_hz
        if missing > most + MAX_MISSING_RATIO * (captured.length - missing):
            raise CapturedInvalid("too much of it is missing")

    async def _ask(self, restore: _Restore) -> None:
        """Ask for what the complete recording lacks."""
        restore.late = []
        try:
            restoration = await restore.pieces.compare()
            restoration.arrived(restore.late)
        finally:
            restore.late = None
        restore.restoration = restoration

    async def _compare(self, restore: _Restore, ended_at: datetime.datetime) -> None:
        """Find out what a complete recording lacks, and rewrite it if everything has come."""
        pieces = restore.pieces
        try:
            if pieces.ended_at is None:
                await pieces.note_end(ended_at)
            await self._ask(restore)
            if restore.restoration.is_satisfied:
                await self._restore(restore, RestoreState.COMPLETE)
            elif pieces.captured is None and not restore.restoration.has_sound:
                empty = datetime.timedelta(seconds=EMPTY_S)
                restore.until = min(ended_at + self._window, ended_at + empty)
        except (PeerError, StorageFailed) as error:
            self._failed(restore, error)

    async def _settle(self, restore: _Restore, captured: Captured) -> None:
        """Note what was captured, and rewrite the recording if nothing of it is wanted."""
        is_repeated = captured == restore.pieces.captured
        is_another, restore.error = isinstance(restore.error, CapturedInvalid), None
        try:
            if is_another and is_repeated:
                # the client insists on its hash: a piece is wrong, and nobody knows which one
                await restore.pieces.forget()
            await restore.pieces.note_captured(captured)
            assert restore.until is not None and restore.window_ends is not None
            restore.until = max(restore.until, restore.window_ends)  # so there is some sound
            await self._ask(restore)
        except (PeerError, StorageFailed) as error:
            self._failed(restore, error)
        else:
            if restore.restoration.is_satisfied:
                await self._restore(restore, RestoreState.COMPLETE)

    async def _restore(self, restore: _Restore, state: RestoreState) -> None:
        """Rewrite the recording with what is held."""
        key = restore.pieces.key
        restore.error = None
        try:
            restored = await restore.pieces.restore(state)
        except (PeerError, StorageFailed) as error:
            self._failed(restore, error)
        else:
            event = RecordingRestored(key.session_id, state, restored.seconds, restored.restored_s)
            self._events.publish(event)

    async def _expire(self, restore: _Restore) -> None:
        """Give a recording what has come for it, and forget what was kept for it."""
        if restore.pieces.outcome is None and restore.restoration.has_sound:
            await self._restore(restore, RestoreState.EXPIRED)
            if _may_pass(restore.error):  # nobody else may have this sound any more
                restore.until = self._clock.utc() + datetime.timedelta(seconds=RETRY_S)
                return
        try:
            await restore.pieces.discard()
        except StorageFailed as error:
            self._failed(restore, error)
        del self._restores[restore.pieces.key.session_id]

    def _failed(self, restore: _Restore, error: GaplessError) -> None:
        restore.error = error
        self._events.publish(RestoringFailed(restore.pieces.key.session_id, error))

    async def _finished(self, restore: _Restore, until: float) -> None:
        """Wait until the work on a recording is done, or until a time in monotonic seconds."""
        while restore.is_busy and self._clock.monotonic() < until:
            await self._clock.sleep(_POLL_S)


def _may_pass(error: GaplessError | None) -> bool:
    """Return whether a recording can perhaps be rewritten later."""
    is_storage = isinstance(error, StorageFull | StorageFailed)
    return is_storage and not isinstance(error, RecordingRemoved)
