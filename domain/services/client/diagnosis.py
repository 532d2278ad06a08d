"""Judges what a test of a client's microphone, and of its way to a server, has measured."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from domain.sound.formats import AudioFormat, AudioFrame
from domain.sound.levels import FLOOR_DBFS, LevelMeter, Loudness

WINDOW_S = 0.1
"""The noise floor is the level of the quieter windows of this length."""
QUIET_DBFS = -50.0
NOISY_DBFS = -40.0
MAX_LATE_S = 0.15
"""Blocks of a busy machine come so late, whatever the rate of the device is."""
SLOW_S = 0.4
MAX_LOSS, BAD_LOSS = 0.01, 0.10
MAX_LENGTH_S = 0.1


class Level(enum.Enum):
    """How good it is what was found."""

    OK = "ok"
    WARNING = "warning"
    """It works, but not as well as it could."""
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check has found."""

    check: str
    level: Level
    what: str
    advice: str = ""
    """What to do about it; empty if nothing is wrong."""

    def as_json(self) -> dict[str, Any]:
        return {
            "check": self.check,
            "level": self.level.value,
            "what": self.what,
            "advice": self.advice,
        }


def ok(check: str, what: str) -> Finding:
    return Finding(check, Level.OK, what)


def warning(check: str, what: str, advice: str) -> Finding:
    return Finding(check, Level.WARNING, what, advice)


def problem(check: str, what: str, advice: str) -> Finding:
    return Finding(check, Level.PROBLEM, what, advice)


# -- the microphone ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SoundHeard:
    """What a device has delivered for some seconds."""

    rate_hz: float | None
    """Samples a second by the wall clock; None if there were too few blocks to tell."""
    elapsed_s: float
    """For how long the rate was measured."""
    loudness: Loudness
    floor_dbfs: float
    """The level of a tenth of all windows is below it."""
    overrun_samples: int


class Listener:
    """Measures the blocks of a source, in whichever thread delivers them."""

    def __init__(self, audio_format: AudioFormat, *, seconds: float) -> None:
        self._format = audio_format
        self._wanted = round(seconds * audio_format.sample_rate_hz)
        self._meter = LevelMeter(audio_format.sample_format)
        self._window = LevelMeter(audio_format.sample_format)
        self._windows: list[float] = []
        self._in_window = 0
        self._first: tuple[float, int] | None = None
        self._latest = (0.0, 0)

    def add(self, block: AudioFrame, *, now: float) -> bool:
        """Measure a block that came at `now`, in monotonic seconds; return whether to go on."""
        self._meter.add(block.samples)
        self._window.add(block.samples)
        self._in_window += len(block)
        if self._in_window >= WINDOW_S * self._format.sample_rate_hz:
            self._windows.append(self._window.loudness.rms_dbfs)
            self._window, self._in_window = LevelMeter(self._format.sample_format), 0
        self._latest = (now, block.position + len(block))
        if self._first is None:  # the samples of the first block came before it
            self._first = self._latest
        return self._latest[1] < self._wanted

    def heard(self, *, overrun_samples: int) -> SoundHeard:
        rate_hz, elapsed_s = None, 0.0
        if self._first is not None and self._latest[0] > self._first[0]:
            elapsed_s = self._latest[0] - self._first[0]
            rate_hz = (self._latest[1] - self._first[1]) / elapsed_s
        floor = float(np.percentile(self._windows, 10)) if self._windows else FLOOR_DBFS
        return SoundHeard(rate_hz, elapsed_s, self._meter.loudness, floor, overrun_samples)


def judge_sound(wanted: AudioFormat, heard: SoundHeard) -> Iterator[Finding]:
    """Judge what was heard of a device that was asked for a format."""
    rate, loudness = wanted.sample_rate_hz, heard.loudness
    if heard.rate_hz is None:
        yield problem("rate", "the device delivers no sound", "unplug it and plug it in again")
        return
    if abs(heard.rate_hz / rate - 1) * heard.elapsed_s > MAX_LATE_S:
        yield warning(
            "rate",
            f"{heard.rate_hz:.0f} samples a second instead of {rate}",
            "choose a rate that `gapless devices` lists (--rate), or another device",
        )
    else:
        yield ok("rate", f"{rate} Hz")
    peak = f"peak {loudness.peak_dbfs:.1f} dBFS, mean {loudness.rms_dbfs:.1f} dBFS"
    if loudness.peak_dbfs <= FLOOR_DBFS:
        yield problem(
            "level",
            "nothing but silence: every sample is zero",
            "switch the microphone on, or choose another input (--device; see `gapless devices`)",
        )
        return
    if loudness.clipped_samples:
        clipped = f"{peak}, {loudness.clipped_samples} samples at full scale"
        yield warning("level", clipped, "turn the input level down, or move away")
    elif loudness.peak_dbfs < QUIET_DBFS:
        yield warning("level", f"{peak}: very quiet", "speak during the test; turn the level up")
    else:
        yield ok("level", peak)
    floor = f"noise floor {heard.floor_dbfs:.1f} dBFS"
    if heard.floor_dbfs > NOISY_DBFS:
        yield warning(
            "noise", floor, "be silent for a moment during the test; if it stays, look for a hum"
        )
    else:
        yield ok("noise", floor)
    if heard.overrun_samples:
        lost_s = heard.overrun_samples / rate
        yield problem(
            "overruns",
            f"{lost_s:.2f} s were lost because they were not read in time",
            "end programs that keep this machine busy, or lower --rate and --channels",
        )
    else:
        yield ok("overruns", "none")


# -- the way to the server -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PathMeasured:
    """What a test stream has measured on its way to the server."""

    kinds: tuple[str, str] | None
    """The types of the candidates here and at the server; None if they are unknown."""
    round_trips_s: Sequence[float] = field(default=())
    losses: Sequence[float] = field(default=())
    """The fraction of the packets that each of the server's reports calls lost."""


def judge_path(path: PathMeasured) -> Iterator[Finding]:
    here, there = path.kinds or ("unknown", "unknown")
    if "relay" in (here, there):
        yield warning(
            "path",
            f"{here} to {there}: everything goes through a TURN server",
            "let this machine reach the UDP port of the server, which is faster",
        )
    else:
        yield ok("path", f"{here} to {there}")
    if not path.losses:
        yield problem(
            "loss",
            "no report of the server has come back",
            "let UDP pass in both directions between this machine and the server",
        )
        return
    if path.round_trips_s:
        trip_s = float(np.median(path.round_trips_s))
        text = f"{trip_s * 1000:.0f} ms"
        if trip_s > SLOW_S:
            yield warning("round trip", text, "use a cable instead of WLAN, or a nearer server")
        else:
            yield ok("round trip", text)
    loss = float(np.mean(path.losses))
    text = f"{loss:.1%} of the packets"
    advice = "use a cable instead of WLAN; what is lost is restored later (see --spool)"
    if loss > BAD_LOSS:
        yield problem("loss", text, advice)
    elif loss > MAX_LOSS:
        yield warning("loss", text, advice)
    else:
        yield ok("loss", text)


def judge_length(sent_s: float, recorded_s: float | None) -> Finding:
    """Compare a test recording with what was sent."""
    if recorded_s is None:
        return warning(
            "recording", "the server does not say what it has recorded", "look at the server's log"
        )
    if abs(sent_s - recorded_s) > MAX_LENGTH_S:
        return problem(
            "recording",
            f"{recorded_s:.2f} s were recorded of {sent_s:.2f} s",
            "check the recording with `gapless verify` at the server, and look at its log",
        )
    return ok("recording", f"{recorded_s:.2f} s, as long as what was sent")
