"""A microphone that hears the time: a tone whose pitch rises with every second.

Wherever a stretch of the tone is found in a recording, its pitch says when it sounded. So a
recording of it shows which of its sound is at its place, and which is early or late.
"""

from __future__ import annotations

import datetime
import json
import os
import pathlib
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.ndimage
import soundfile

from tests.rigs import microphone as rig

RATE = 48_000
FIRST_HZ = 400.0
HZ_PER_S = 80.0
SECONDS = 110.0
LEVEL = 0.25
DESK, OTHER, STEREO = "Desk", "Other", "Stereo"
"""What the browsers call the microphones. The first two hear the tone."""

WINDOW_S = 0.05
"""The stretch of a recording in which the pitch is measured."""
_WINDOW = round(WINDOW_S * RATE)
_HOP = 480
_PADDED = 1 << 15
_QUIET = 0.1 * LEVEL


def tone(seconds: float = SECONDS) -> npt.NDArray[np.float64]:
    """Return the tone that tells the time, shape (n,)."""
    times = np.arange(round(seconds * RATE)) / RATE
    return LEVEL * np.sin(2 * np.pi * (FIRST_HZ * times + HZ_PER_S / 2 * times**2))


def times_told(samples: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return what a recording of the tone tells.

    Shape (n, 2): a position of the recording and the time at which it sounded, in seconds. There
    is a row for every 10 ms in which the tone, and only the tone, is heard.
    """
    shape = np.hanning(_WINDOW)
    told = []
    for start in range(0, len(samples) - _WINDOW + 1, _HOP):
        window = samples[start : start + _WINDOW]
        if np.abs(window).reshape(-1, 240).max(axis=1).min() < _QUIET:
            continue  # some of it is silence
        power = np.abs(np.fft.rfft(window * shape, _PADDED)) ** 2
        peak = int(np.argmax(power))
        near = slice(max(0, peak - 60), peak + 61)
        if power[near].sum() < 0.98 * power.sum():
            continue  # two stretches that meet
        left, middle, right = np.log(power[peak - 1 : peak + 2])
        offset = (left - right) / (2 * (left - 2 * middle + right))
        pitch = (peak + offset) * RATE / _PADDED
        told.append(((start + _WINDOW / 2) / RATE, (pitch - FIRST_HZ) / HZ_PER_S))
    return np.array(told).reshape(-1, 2)


class Span(NamedTuple):
    start: int
    length: int
    kind: str


class ToneRecording:
    """A recording of the tone, with its ledger."""

    def __init__(self, path: pathlib.Path) -> None:
        samples, rate = soundfile.read(str(path), always_2d=True)
        assert rate == RATE
        ledger = json.loads(path.with_suffix(".json").read_text())
        self.length_s = len(samples) / RATE
        self.wall_s = _seconds_between(ledger["started_at"], ledger["ended_at"])
        """From the first packet to the end, by the server's clock."""
        self.spans = [Span(span["start"], span["length"], span["kind"]) for span in ledger["spans"]]
        self.events: list[dict[str, Any]] = [
            event for event in ledger["events"] if event["type"] != "anchor"
        ]
        self.told = times_told(samples[:, 0])

    def how_late(self) -> npt.NDArray[np.float64]:
        """Return by how many seconds the sound is too late, for every 10 ms in which there is some.

        Negative: too early. The first second tells what is right; one window in which two
        stretches of sound meet tells nothing.
        """
        late = self.told[:, 0] - self.told[:, 1]
        return scipy.ndimage.median_filter(late - np.median(late[:100]), size=9, mode="nearest")


def _seconds_between(begin: str, end: str) -> float:
    return (
        datetime.datetime.fromisoformat(end) - datetime.datetime.fromisoformat(begin)
    ).total_seconds()


_HEARD = {
    DESK: ("virt", "mono"),
    OTHER: ("virt", "mono"),
    STEREO: ("both", "front-left,front-right"),
}
"""What the microphones hear, and their channels."""


def plug_in(device: rig.Microphone, name: str) -> None:
    """Add one of the microphones."""
    heard, channels = _HEARD[name]
    _load(
        device, "module-remap-source", f"source_name={name.lower()}",
        f"master={heard}.monitor", f"channel_map={channels}", "remix=no",
        f"master_channel_map={channels}",
        f"source_properties=device.description={name}",
    )  # fmt: skip


def unplug(device: rig.Microphone, name: str) -> None:
    """Remove one of the microphones."""
    for line in _pactl(device, "list", "short", "modules").splitlines():
        if f"source_name={name.lower()} " in line:
            _pactl(device, "unload-module", line.split()[0])


@contextmanager
def microphones(folder: pathlib.Path) -> Iterator[rig.Microphone]:
    """Provide three microphones until the block is left.

    `DESK` and `OTHER` hear the tone, which plays already. `STEREO` hears 440 Hz on its left and
    1000 Hz on its right channel.
    """
    with rig.microphone(folder) as device:
        _load(device, "module-null-sink", "sink_name=both", "rate=48000", "channels=2")
        for name in _HEARD:
            plug_in(device, name)
        _pactl(device, "set-default-source", DESK.lower())
        soundfile.write(folder / "tone.wav", tone(), RATE)
        times = np.arange(RATE) / RATE  # a second of whole waves, which can be repeated
        pair = LEVEL * np.sin(2 * np.pi * np.outer(times, (440, 1000)))
        soundfile.write(folder / "pair.wav", np.tile(pair, (round(SECONDS), 1)), RATE)
        players = [device.play(folder / "tone.wav"), _play_both(device, folder / "pair.wav")]
        try:
            yield device
        finally:
            for player in players:
                player.kill()
                player.wait()


def _play_both(device: rig.Microphone, path: pathlib.Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(["paplay", "--device=both", str(path)], env=_environ(device))


def _load(device: rig.Microphone, *arguments: str) -> None:
    _pactl(device, "load-module", *arguments)


def _pactl(device: rig.Microphone, *arguments: str) -> str:
    command = ["pactl", *arguments]
    done = subprocess.run(command, env=_environ(device), check=True, capture_output=True)
    return done.stdout.decode()


def _environ(device: rig.Microphone) -> dict[str, str]:
    return os.environ | device.environ
