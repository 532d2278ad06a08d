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
    MAX_RUNS,
    Alignment,
    Mono,
    align,
    realigned,
    timed_runs,
)
from domain.recording.layout import restorable
from domain.recording.ledger import Ledger, SampleKind
from domain.recording.restoring import TICK_RATE_HZ
from domain.sound.conversion import convert, mix_channels
from domain.sound.formats import SampleFormat, Samples


def aligned(
    recording: CompleteRecording, sound: CapturedAndHeld, make_resampler: ResamplerFactory
) -> CompleteRecording:
    """Return a recording with its sound where it was found in what is held. Raises `OSError`.

    It is the same if it knows where its sound is.
    """
    if recording.info.format.sample_rate_hz != TICK_RATE_HZ:
        return recording
    ledger = recording.ledger
    runs = timed_runs(ledger.events, ledger.length)
    if not runs:
        return recording
    known = restorable(sound.held, sound.captured, rate_hz=sound.rate_hz)
    longest = sorted(runs, key=lambda run: run.length, reverse=True)[:MAX_RUNS]
    found: dict[int, Alignment] = {}
    live = recording.open()
    try:
        captured = CapturedSound(sound.pcm, live.entry.info.format, make_resampler)
        sounds = _Sounds(live, ledger, captured)
        for run in longest:
            if (alignment := align(run, known, sounds)) is not None:
                found[run.position] = alignment
    finally:
        live.close()
    ledger = copy.copy(ledger)
    ledger.events = realigned(ledger.events, found)
    return replace(recording, ledger=ledger)


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
