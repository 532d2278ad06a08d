"""A recording that is complete."""

from __future__ import annotations

import datetime
from dataclasses import dataclass

from domain.recording.ledger import RecordingInfo


@dataclass(frozen=True, slots=True)
class CompletedPart:
    """One of the files of a recording, with its ledger; `start` and `length` are per channel."""

    number: int
    """Counts from 1."""
    location: str
    start: int
    """Samples from the beginning of the recording."""
    length: int

    @property
    def end(self) -> int:
        """The position behind the last sample."""
        return self.start + self.length


@dataclass(frozen=True, slots=True)
class CompletedRecording:
    """A complete recording, with all its parts."""

    info: RecordingInfo
    parts: tuple[CompletedPart, ...]
    """In order; at least one."""
    length: int
    """Samples per channel, from the beginning to the end of the last part."""
    end_reason: str
    ended_at: datetime.datetime
    """UTC."""

    @property
    def location(self) -> str:
        """Where the first part is."""
        return self.parts[0].location

    @property
    def seconds(self) -> float:
        return self.length / self.info.format.sample_rate_hz
