"""Restoring a recording from its client's spool, at both ends."""

from __future__ import annotations

import datetime
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from domain.recording.ledger import RestoreMode, RestoreState
from domain.recording.ranges import Range
from domain.recording.restoring import Captured, Restoration, SpoolInfo

# -- at the server -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RestoreKey:
    """Which recording is restored from which spool."""

    session_id: str
    """Also the id of the recording: a spool belongs to the first track of its session."""
    resume_digest: str
    """SHA-256 (hex) of the secret that opens the session."""
    name: str
    """The name that the client gave its recording."""
    spool: SpoolInfo
    mode: RestoreMode
    """What is restored, as server and client have agreed."""
    opened_at: datetime.datetime
    """When the session was opened, UTC."""
    room: str = ""
    """The room of the session; empty if there is none."""


@dataclass(frozen=True, slots=True)
class Restored:
    """A recording that was rewritten, or that its store left as it is."""

    sha256: str
    """If the recording has become what was captured (mode `all`), of that PCM, with silence for
    what was never captured. Otherwise of the PCM in the recording; empty if it has several parts or
    holds packets."""
    length: int
    """Of the recording, in samples per channel."""
    restored: int
    """Samples of the kind `restored`."""
    sample_rate_hz: int
    """Of the recording."""

    @property
    def seconds(self) -> float:
        return self.length / self.sample_rate_hz

    @property
    def restored_s(self) -> float:
        return self.restored / self.sample_rate_hz


class Pieces(Protocol):
    """What has arrived of one spool, kept on disk until its recording is restored."""

    @property
    def key(self) -> RestoreKey: ...

    @property
    def held(self) -> Sequence[Range]:
        """What has arrived, in samples of the spool."""

    @property
    def captured(self) -> Captured | None:
        """What the client has captured, once `note_captured` was called."""

    @property
    def ended_at(self) -> datetime.datetime | None:
        """When the session ended, once `note_end` was called."""

    @property
    def outcome(self) -> Restored | None:
        """The result of a complete restoration."""

    async def put(self, start: int, flac: bytes, wanted: Sequence[Range]) -> Sequence[Range]:
        """Keep what is wanted of a piece and was not there; return what is held of it now.

        `start` is the position of the FLAC file's first sample. Raises `PieceInvalid` if it is not
        a complete FLAC file in the format of the spool, or longer than `MAX_PIECE_SAMPLES`, and
        `StorageFull` or `StorageFailed`. Nothing has changed then.
        """

    async def note_captured(self, captured: Captured) -> None:
        """Keep what the client has captured. Raises `StorageFailed`."""

    async def note_end(self, ended_at: datetime.datetime) -> None:
        """Keep when the session ended. Raises `StorageFailed`."""

    async def compare(self) -> Restoration:
        """Return what is wanted for the complete recording, and is not held.

        If there is no recording, that is everything that was captured. Raises `StorageFailed`.
        """

    async def restore(self, state: RestoreState) -> Restored:
        """Rewrite the recording with what is held; make it, if nothing of it was received live.

        `state` (`complete` or `expired`) is what the ledger says afterwards. The recording is the
        one before or the one after, whenever the process is killed; calling it again is harmless.
        Raises `CapturedInvalid` if everything is there and is not what was captured,
        `RecordingRemoved`, and `StorageFull` or `StorageFailed`; the recording is the one before
        then.
        """

    async def forget(self) -> None:
        """Forget all that is held: a piece of it is wrong. Raises `StorageFailed`."""

    async def discard(self) -> None:
        """Delete what is kept; the recording stays as it is."""


class PieceStore(Protocol):
    """Keeps pieces beside the recordings."""

    def pending(self) -> Sequence[Pieces]:
        """Return what earlier processes have left. Call it before the first `begin`."""

    async def begin(self, key: RestoreKey) -> Pieces:
        """Begin to keep pieces for a session. Raises `StorageFull` or `StorageFailed`."""


# -- at the client -------------------------------------------------------------------------------

Pace = Callable[[int], Awaitable[None]]
"""Waits until that many bytes may be sent."""
PACED_BYTES = 400
"""A paced piece is sent in steps of at most this: at 64 kbit/s, a live packet then waits for 57 ms
behind one of them, instead of 188 ms behind a whole packet."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a server wants of a spool."""

    ranges: Sequence[Range]
    """The first of them, in samples of the spool."""
    state: str
    """A value of `RestoreState`."""
    until: datetime.datetime | None = None
    """When the server stops waiting; None while the session lives."""
    held: Sequence[Range] = ()
    """The first ranges that the server has, in samples of the spool."""


@dataclass(frozen=True, slots=True)
class Confirmed:
    """A server's answer to what a client has captured."""

    state: str
    """A value of `RestoreState`."""
    sha256: str | None
    """As in `Restored`; None while the recording is being rewritten."""
    ranges: Sequence[Range] = ()
    """What is still wanted."""


class RestoringClient(Protocol):
    """Gives a server what it wants of a spool.

    Calls raise `SessionOver` when the server does not know the session (any more),
    `ServerUnreachable` when no server answers, and `ServerRefused` when it refuses.
    """

    async def wanted(self, session_id: str, resume: str) -> Wanted:
        """Ask what is wanted."""

    async def put(
        self, session_id: str, resume: str, start: int, flac: bytes, pace: Pace | None = None
    ) -> None:
        """Send a piece. With `pace`, its bytes are sent as they may be."""

    async def captured(self, session_id: str, resume: str, captured: Captured) -> Confirmed:
        """Say that everything is captured."""

    async def close(self) -> None:
        """Release the connections."""
