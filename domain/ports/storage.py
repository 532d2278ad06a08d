"""Where recordings are kept."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Protocol

from domain.audio import AudioFormat, Samples
from domain.recording import EndReason


@dataclass(frozen=True, slots=True)
class RecordingInfo:
    """What is known of a recording when it begins."""

    id: str
    name: str
    """Made by the server, unique, safe as a file name."""
    format: AudioFormat
    started_at: datetime.datetime
    """UTC, of the first sample."""


class RecordingWriter(Protocol):
    """One recording being written. Nothing here waits but `finish`."""

    def append(self, samples: Samples) -> None:
        """Add samples of shape (n, channels) in the recording's format; returns at once."""

    def append_silence(self, length: int) -> None:
        """Add `length` samples of silence; returns at once and takes no memory for them."""

    async def finish(self, length: int, reason: EndReason) -> str:
        """Complete the recording of `length` samples and say where it is.

        Raises `StorageFailed` when any of it could not be written.
        """


class RecordingStore(Protocol):
    def check(self) -> None:
        """Raise `StorageFailed` when recordings cannot be kept here at all."""

    def create(self, info: RecordingInfo) -> RecordingWriter:
        """Begin a recording. A name that exists is a `StorageFailed`, at `finish` at the latest."""

    def close(self) -> None:
        """Release what the store holds. Finish the recordings first."""
