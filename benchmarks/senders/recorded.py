"""Reads the recordings of a session: their sound, their ledgers, and where each tone begins."""

from __future__ import annotations

import json
import pathlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile

from benchmarks.senders.sound import RATE, TONES, tone_hz

LOOK_AHEAD_S = 312 / RATE
"""By which Opus delays sound (the encoder's look-ahead)."""
_WINDOW_S, _HOP_S = 0.02, 0.0025
_ANALYSED_HZ = 12_000
_NOMINAL = 8000 / 32768
"""The amplitude of the tones."""


@dataclass(frozen=True, slots=True)
class Span:
    start: float
    """In seconds, as `length`."""
    length: float
    kind: str

    @property
    def end(self) -> float:
        return self.start + self.length


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a server has of a session; several files follow one another."""

    files: tuple[pathlib.Path, ...]
    length: float
    """In seconds."""
    spans: tuple[Span, ...]
    events: tuple[dict[str, Any], ...]
    ledgers: tuple[dict[str, Any], ...]
    onsets: dict[int, float]
    """When each tone begins, in seconds, without the delay of the codec."""
    difference: float
    """RMS of the difference of two channels, of full scale; 0 for mono."""
    problems: tuple[str, ...] = ()

    def total(self, kind: str) -> float:
        return sum(span.length for span in self.spans if span.kind == kind)


def read_session(folder: pathlib.Path, session: str) -> Recorded:
    """Read what was recorded of a session, in the order of the file names."""
    found = []
    for path in sorted(folder.glob("*.wav")):
        try:
            ledger = json.loads(path.with_suffix(".json").read_text())
        except FileNotFoundError:
            continue
        if str(ledger["id"]).startswith(session):
            found.append((path, ledger))
    offset = difference = 0.0
    spans: list[Span] = []
    events: list[dict[str, Any]] = []
    onsets: dict[int, float] = {}
    problems: list[str] = []
    for path, ledger in found:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
        covered = 0
        for span in ledger["spans"]:
            if span["start"] != covered:
                problems.append(f"a span begins at {span['start']}, not at {covered}")
            covered = span["start"] + span["length"]
            spans.append(
                Span(offset + span["start"] / rate, span["length"] / rate, str(span["kind"]))
            )
        if not covered == len(samples) == ledger["length_samples"]:
            problems.append(
                f"{len(samples)} samples, {covered} in spans, {ledger['length_samples']} in ledger"
            )
        events += [{**event, "at_s": offset + event["position"] / rate}
                   for event in ledger["events"]]  # fmt: skip
        delay = LOOK_AHEAD_S if ledger["codec"] == "opus" else 0.0
        for tone, at in tone_onsets(samples[:, 0], rate).items():
            onsets.setdefault(tone, offset + at - delay)
        if samples.shape[1] == 2 and len(samples):
            apart = float(np.sqrt(np.mean((samples[:, 0] - samples[:, 1]) ** 2)))
            difference = max(difference, apart)
        offset += len(samples) / rate
    if not found:
        problems.append("nothing was recorded")
    return Recorded(
        tuple(path for path, _ in found), offset, tuple(spans), tuple(events),
        tuple(ledger for _, ledger in found), onsets, difference, tuple(problems),
    )  # fmt: skip


def tone_onsets(samples: npt.NDArray[np.float32], rate: int) -> dict[int, float]:
    """When each tone is heard first, in seconds, to some milliseconds.

    That is where it has half of its amplitude in a window around that moment.
    """
    every = max(1, rate // _ANALYSED_HZ)
    samples, rate = samples[::every], rate // every
    window, hop = round(_WINDOW_S * rate), round(_HOP_S * rate)
    # sound is heard only partly at the very beginning, so that silence goes before it
    samples = np.concatenate([np.zeros(window, np.float32), samples])
    if len(samples) < 2 * window:
        return {}
    frames = np.lib.stride_tricks.sliding_window_view(samples, window)[::hop]
    shape = np.hanning(window)
    times = np.arange(window) / rate
    tones = [number for number in range(TONES) if tone_hz(number) < rate / 2 - 100]
    probes = np.stack([shape * np.exp(-2j * np.pi * tone_hz(number) * times) for number in tones])
    amplitudes = np.abs(frames @ probes.T.astype(np.complex64)) * 2 / shape.sum()
    onsets = {}
    for column, number in enumerate(tones):
        heard = np.flatnonzero(amplitudes[:, column] > _NOMINAL / 2)
        if len(heard):
            onsets[number] = float(heard[0] * hop / rate - _WINDOW_S / 2)
    return onsets
