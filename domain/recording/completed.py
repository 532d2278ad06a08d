"""A recording that is complete: the one value that says so, whoever completed it."""

from __future__ import annotations

import datetime
from dataclasses import dataclass

from domain.recording.ledger import RecordingInfo


@dataclass(frozen=True, slots=True)
class CompletedPart:
    """One file of a recording. Lengths are in samples per channel."""

    number: int
    """Counts from 1."""
    location: str
    start: int
    """Samples of the recording before this part."""
    length: int


@dataclass(frozen=True, slots=True)
class CompletedRecording:
    """All parts of a recording, in order; at least one."""

    info: RecordingInfo
    parts: tuple[CompletedPart, ...]
    length: int
    """Samples per channel, of all parts."""
    end_reason: str
    ended_at: datetime.datetime
    """UTC, of the last sample."""

    @property
    def location(self) -> str:
        """Where the first part is."""
        return self.parts[0].location

    @property
    def seconds(self) -> float:
        return self.length / self.info.format.sample_rate_hz
