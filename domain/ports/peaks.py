"""The waveforms of recordings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from domain.recording.ledger import RecordingInfo, SampleKind
from domain.sound.peaks import Waveform


@dataclass(frozen=True, slots=True)
class DrawnRecording:
    """A part of a recording as a page shows it."""

    info: RecordingInfo
    waveform: Waveform
    shares: Mapping[SampleKind, npt.NDArray[np.float64]]
    """How much of each interval is of a kind, from 0 to 1; only kinds that occur. Empty where no
    ledger can be read."""


class Peaks(Protocol):
    """Draws recordings, live or complete."""

    def draw(
        self, recording_id: str, *, start: int, stop: int | None, points: int
    ) -> DrawnRecording:
        """Draw the samples from `start` to `stop`, or to the end, in at most `points` intervals.

        It may wait for the disk, so make the call in a thread. Raises `RecordingUnknown`,
        `QueryInvalid` for positions that are not in the recording, and `PeaksPending` while the
        peaks of a recording are being made.
        """

    def close(self) -> None:
        """Stop making peaks."""
