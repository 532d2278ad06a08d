"""Where a client keeps what it captures until the server has it."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from domain.errors import SpoolFailed
from domain.recording.ledger import RestoreMode
from domain.recording.ranges import RangeSet
from domain.sound.formats import AudioFormat, AudioFrame

MAX_PIECE_SAMPLES = 480_000
"""The longest piece that is sent at once, in samples per channel: ten seconds at 48 kHz."""


@dataclass(frozen=True, slots=True)
class SpoolSession:
    """The session whose recording gets a spool's sound."""

    server: str
    """Address of the server."""
    session_id: str
    resume: str = field(repr=False)
    """The secret that opens the session."""


@dataclass(frozen=True, slots=True)
class SpoolDescription:
    """What is known of a spool when it begins."""

    id: str
    """Unique and safe as a file name; sorts by time."""
    format: AudioFormat
    """As captured: u8, s16 or s24."""
    started_at: datetime.datetime
    """When position 0 was captured, UTC."""
    name: str = ""
    """The name of the recording."""
    server: str = ""
    """The address of the server that the sound is meant for."""
    rtp_timestamp: int = 0
    """The timestamp of the Opus frame whose first input sample is position 0, less what an
    encoder's look-ahead is shorter than `restoring.LOOK_AHEAD`."""
    mode: RestoreMode = RestoreMode.LOST
    room: str = ""
    """The room of the session; empty if there is none."""


class Spool(Protocol):
    """What was captured, readable at any time, also while it grows.

    Positions count samples per channel from the first one captured, in the format as captured.
    Calls that read raise `SpoolFailed` if the disk cannot be read or the data are damaged. What
    turns out to be damaged when it is read is no longer `captured`.
    """

    @property
    def description(self) -> SpoolDescription: ...

    @property
    def session(self) -> SpoolSession | None:
        """The session that was noted last; None before the first one."""

    @property
    def length(self) -> int:
        """The position after the last captured sample."""

    @property
    def captured(self) -> RangeSet:
        """What was captured; the rest up to `length` was lost by the device or its driver."""

    async def flac(self, start: int, length: int) -> bytes:
        """Return captured sound as a FLAC file of at most `MAX_PIECE_SAMPLES` samples."""

    async def sha256(self) -> str:
        """Return the hash (hex) of the PCM, with silence for what was not captured."""

    async def export(self, path: str) -> None:
        """Write the PCM as a WAV file, with silence for what was not captured.

        Raises `SpoolFailed`, also if there is a file at `path`.
        """

    async def note_session(self, session: SpoolSession) -> None:
        """Keep which session gets the sound, also for another process after this one."""

    async def remove(self) -> None:
        """Delete the spool: the server holds what it wants of it."""

    async def release(self) -> None:
        """Let other processes use the spool."""


class SpoolWriter(Protocol):
    """A spool that grows."""

    @property
    def spool(self) -> Spool: ...

    @property
    def failure(self) -> SpoolFailed | None:
        """Why nothing more is written, such as a full disk; what was written stays."""

    def write(self, block: AudioFrame) -> None:
        """Add captured sound; returns at once. Called in the source's thread.

        A block may begin later than the one before it ended: what is between was not captured.
        """

    async def finish(self) -> None:
        """Write what waits. Nothing can be added any more; the spool stays readable."""


@dataclass(frozen=True, slots=True)
class SpoolEntry:
    """What a list of spools says of one."""

    description: SpoolDescription
    session: SpoolSession | None
    length: int
    """The position after the last captured sample."""
    size_bytes: int
    """What its files take."""
    is_in_use: bool
    """Whether a process, such as a running stream, writes or sends it."""

    @property
    def server(self) -> str:
        """The address of the server that it is owed to; empty if none is known."""
        return self.description.server if self.session is None else self.session.server


class SpoolFolder(Protocol):
    """The spools of a user on a machine, or on a stick."""

    async def create(self, description: SpoolDescription) -> SpoolWriter:
        """Begin a spool. Raises `SpoolFailed`."""

    async def owed(self) -> Sequence[Spool]:
        """Return the spools that no other process uses, oldest first; other processes then cannot
        use them until they are released. Damaged ones are returned as far as they can be read. A
        folder that does not exist has none.

        Raises `SpoolFailed` if the folder cannot be read.
        """

    async def entries(self) -> Sequence[SpoolEntry]:
        """List all spools, oldest first, also those that are in use.

        Raises `SpoolFailed` if the folder cannot be read.
        """
