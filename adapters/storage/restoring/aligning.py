"""Finds where the received sound of a recording is in a spool whose timestamps are not known."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np

from adapters.storage.folder.reader import OpenedWav
from adapters.storage.restoring.blending import CapturedSound, ResamplerFactory
from adapters.storage.restoring.complete import CompleteRecording
from adapters.storage.restoring.held import CapturedAndHeld
from domain.recording.alignment import (
    Alignment,
    Mono,
    align,
    divided,
    looked_for,
    realigned,
    timed_runs,
)
from domain.recording.layout import restorable
from domain.recording.ledger import Ledger, RestoreMode, SampleKind
from domain.recording.ranges import RangeSet
from domain.recording.restoring import TICK_RATE_HZ, ticks_of
from domain.sound.conversion import convert, mix_channels
from domain.sound.formats import SampleFormat, Samples

_BLOCK = TICK_RATE_HZ // 50
_QUIET = 10 ** (-60 / 20)
"""Below this, nothing can be heard of a block."""
_MAX_QUIET = 20_000
"""Ranges in which nothing can be heard: a page may send a click every other block. The sound behind
them counts as heard, and stays."""
_ENDLESS = 2**53


def aligned(
    recording: CompleteRecording, sound: CapturedAndHeld, make_resampler: ResamplerFactory
) -> CompleteRecording:
    """Return a recording with its sound where it was found in what is held. Raises `OSError`.

    It also knows where nothing can be heard of what only it has. It is the same if it knows where
    its sound is.
    """
    if recording.info.format.sample_rate_hz != TICK_RATE_HZ:
        return recording
    ledger = recording.ledger
    if not timed_runs(ledger.events, ledger.length):
        return recording
    events = divided(ledger.events, _holes(sound), ledger.length)
    runs = timed_runs(events, ledger.length)
    known = restorable(sound.held, sound.captured, rate_hz=sound.rate_hz)
    found: dict[int, Alignment] = {}
    live = recording.open()
    try:
        captured = CapturedSound(sound.pcm, live.entry.info.format, make_resampler)
        sounds = _Sounds(live, ledger, captured)
        for run in looked_for(runs, sound.pcm.format):
            if (alignment := align(run, known, sounds)) is not None:
                found[run.position] = alignment
        ledger = copy.copy(ledger)
        ledger.events = realigned(events, found)
        recording = replace(recording, ledger=ledger)
        return replace(recording, quiet=_quiet(recording, sound, sounds))
    finally:
        live.close()


def _holes(sound: CapturedAndHeld) -> RangeSet:
    """Return the ticks that the client has not captured."""
    holes, rate_hz = RangeSet(), sound.rate_hz
    for item in () if sound.captured is None else sound.captured.missing:
        holes.add(item.start * TICK_RATE_HZ // rate_hz, ticks_of(item.end, rate_hz))
    return holes


def _quiet(recording: CompleteRecording, sound: CapturedAndHeld, sounds: _Sounds) -> RangeSet:
    """Return where nothing can be heard of what was received and not captured."""
    captured, quiet = sound.captured, RangeSet()
    if captured is None or sound.mode is not RestoreMode.ALL:
        return quiet
    missing = _holes(sound)
    end = ticks_of(captured.length, sound.rate_hz)
    missing.add(end, end + _ENDLESS)
    for segment in recording.segments(None):
        if segment.live is None or segment.captured is None:
            continue
        for item in missing.within(segment.captured, segment.captured + segment.length):
            start = segment.live + item.start - segment.captured
            for at in range(start, start + item.length, TICK_RATE_HZ):
                if len(quiet) >= _MAX_QUIET:
                    return quiet
                samples, _ = sounds.received(at, min(TICK_RATE_HZ, start + item.length - at))
                for block in range(0, len(samples), _BLOCK):
                    part = samples[block : block + _BLOCK]
                    if np.abs(part).max() < _QUIET:
                        quiet.add(at + block, at + block + len(part))
    return quiet


class _Sounds:
    """Both sounds, in the format of the recording, see `Sounds`."""

    def __init__(self, live: OpenedWav, ledger: Ledger, captured: CapturedSound) -> None:
        self._live = live
        self._captured = captured
        self._format = live.entry.info.format.sample_format
        spans = list(ledger.spans())
        self._starts = np.array([span.start for span in spans], dtype=np.int64)
        self._received = np.array([span.kind is SampleKind.RECEIVED for span in spans])

    def received(self, position: int, length: int) -> tuple[Mono, Mono]:
        samples = self._mono(self._live.read_samples(position, length))
        positions = np.arange(position, position + length)
        kinds = np.searchsorted(self._starts, positions, side="right") - 1
        return samples, self._received[kinds].astype(np.float64)

    def captured(self, ticks: int, length: int) -> Mono:
        return self._mono(self._captured.read(ticks, length))

    def _mono(self, samples: Samples) -> Mono:
        mixed = mix_channels(samples, self._format, 1)
        return np.asarray(convert(mixed, self._format, SampleFormat.F64)[:, 0])
