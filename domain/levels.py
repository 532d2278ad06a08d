"""How loud it is: peak and RMS in dBFS, as a meter shows them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from domain.audio import AudioFrame, SampleFormat
from domain.conversion import convert

FLOOR_DBFS = -96.0
"""What a meter shows for silence: below the smallest 16-bit sample."""


@dataclass(frozen=True, slots=True)
class Levels:
    """Levels over a run of samples, all channels together; a full-scale sine has RMS -3."""

    peak_dbfs: float
    rms_dbfs: float
    clipped: bool
    """A sample stood at full scale."""


SILENT = Levels(FLOOR_DBFS, FLOOR_DBFS, clipped=False)


def measure(frame: AudioFrame) -> Levels:
    """The levels of a frame; an empty one is silent."""
    if not len(frame):
        return SILENT
    unit = convert(frame.samples, frame.format.sample_format, SampleFormat.F64)
    peak = float(np.abs(unit).max())
    rms = float(np.sqrt(np.mean(np.square(unit))))
    return Levels(_dbfs(peak), _dbfs(rms), clipped=peak >= 1.0 - 2.0**-15)


def _dbfs(value: float) -> float:
    return max(FLOOR_DBFS, 20 * float(np.log10(value))) if value > 0 else FLOOR_DBFS
