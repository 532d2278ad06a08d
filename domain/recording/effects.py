"""What a recording decides is to be written; its caller carries it out."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from domain.recording.ledger import LedgerEvent, SampleKind
from domain.recording.restoring import SpoolInfo
from domain.sound.formats import AudioFormat
from domain.sound.pieces import Sound


class EndReason(enum.Enum):
    """Why a recording ended."""

    CLOSED = "closed"
    """The client closed the connection."""
    DELETED = "deleted"
    """The client deleted the session."""
    INACTIVE = "inactive"
    """No packet arrived within the inactivity time-out."""
    SHUTDOWN = "shutdown"
    """The server shut down."""
    FAILED = "failed"
    """The server failed internally."""
    STORAGE_FAILED = "storage failed"
    """The store failed; an event in the ledger says why."""
    LIMIT = "limit"
    """The session has reached a limit of the server."""
    RECOVERED = "recovered"
    """The process that wrote it was killed; recovery completed what it left."""


@dataclass(frozen=True, slots=True)
class Opened:
    """The format is known and samples follow: create the file."""

    format: AudioFormat


@dataclass(slots=True, eq=False)
class Appended:
    """Sound to append to the file."""

    pieces: Sequence[Sound]
    kind: SampleKind
    arrived: float = 0.0
    """When its first packet arrived (monotonic seconds)."""


@dataclass(frozen=True, slots=True)
class ChannelsChanged:
    """What follows has so many channels: begin a new part."""

    channels: int


@dataclass(frozen=True, slots=True)
class GapFilled:
    """`length` samples of silence to append to the file, for time without sound."""

    length: int
    kind: SampleKind


@dataclass(frozen=True, slots=True)
class Placed:
    """RTP time and positions correspond otherwise from here on.

    After `gap` samples of silence from `position` on follows the sound of `rtp_timestamp`.
    """

    position: int
    gap: int
    rtp_timestamp: int
    """As sent; 32 bits."""
    arrived: float
    """When the sound arrived (monotonic seconds)."""


@dataclass(frozen=True, slots=True)
class SpoolChanged:
    """What is placed from here on is from another source, whose offer said this of the spool."""

    spool: SpoolInfo | None


@dataclass(frozen=True, slots=True)
class Noted:
    """An event for the ledger.

    `arrived` is its time in monotonic seconds; whoever writes the ledger converts it to a date.
    """

    event: LedgerEvent
    arrived: float


@dataclass(frozen=True, slots=True)
class Finished:
    """The recording is complete."""

    reason: EndReason


Effect: TypeAlias = (
    Opened | Appended | ChannelsChanged | GapFilled | Placed | SpoolChanged | Noted | Finished
)


def channels_changed(channels: int, position: int, arrived: float) -> list[Effect]:
    """Change the number of channels at a position, and note it at the beginning of the new part."""
    event = LedgerEvent("channels", position, {"channels": channels})
    return [ChannelsChanged(channels), Noted(event, arrived)]
