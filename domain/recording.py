"""One recording as a state machine: samples and the end of them in, effects out."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TypeAlias

from domain.audio import AudioFormat, Samples
from domain.timeline import Timeline


class EndReason(enum.Enum):
    """Why a recording ended."""

    CLOSED = "closed"
    """The client closed the connection."""
    DELETED = "deleted"
    """The client deleted the session."""
    INACTIVE = "inactive"
    """No packet for the inactivity time-out."""
    SHUTDOWN = "shutdown"
    """The server is going down."""
    FAILED = "failed"
    """The store failed, or there was a fault in the server."""


@dataclass(frozen=True, slots=True)
class Opened:
    """The first samples are here, and with them the format: make the file."""

    format: AudioFormat


@dataclass(frozen=True, slots=True, eq=False)
class Appended:
    """Samples of shape (n, channels) that come next in the file."""

    samples: Samples


@dataclass(frozen=True, slots=True)
class GapFilled:
    """`length` samples of silence come next in the file: time in which nothing was received."""

    length: int


@dataclass(frozen=True, slots=True)
class Finished:
    """The recording is complete at `length` samples per channel."""

    length: int
    reason: EndReason


Effect: TypeAlias = Opened | Appended | GapFilled | Finished


class State(enum.Enum):
    WAITING = "waiting"
    RECORDING = "recording"
    FINISHED = "finished"


class Recording:
    """What is to be written, decided from what is heard. It writes nothing itself.

    WAITING --first samples--> RECORDING --end--> FINISHED. A recording that ends before its
    first samples was never opened, and has no effects at all.
    """

    def __init__(self, *, max_gap_s: float) -> None:
        self._max_gap_s = max_gap_s
        self._timeline: Timeline | None = None
        self.state = State.WAITING

    @property
    def length(self) -> int:
        """Samples per channel so far."""
        return self._timeline.position if self._timeline else 0

    def open(self, audio_format: AudioFormat, *, clock_rate_hz: int) -> list[Effect]:
        """The format is known; samples follow."""
        assert self.state is State.WAITING
        self._timeline = Timeline(
            clock_rate_hz=clock_rate_hz,
            sample_rate_hz=audio_format.sample_rate_hz,
            max_gap_s=self._max_gap_s,
        )
        self.state = State.RECORDING
        return [Opened(audio_format)]

    def add(self, samples: Samples, *, timestamp: int, now: float) -> list[Effect]:
        """Samples that begin at an RTP timestamp (32 bits) and arrived at `now` (seconds)."""
        assert self._timeline is not None
        placement = self._timeline.place(timestamp, len(samples), now=now)
        effects: list[Effect] = []
        if placement.gap:
            effects.append(GapFilled(placement.gap))
        if placement.overlap < len(samples):
            effects.append(Appended(samples[placement.overlap :]))
        return effects

    def restart(self) -> None:
        """The sender began anew: the next timestamp is unrelated to the last."""
        if self._timeline is not None:
            self._timeline.restart()

    def end(self, reason: EndReason) -> list[Effect]:
        """Nothing follows. Ending twice has no further effect."""
        if self.state is not State.RECORDING:
            self.state = State.FINISHED
            return []
        self.state = State.FINISHED
        return [Finished(self.length, reason)]
