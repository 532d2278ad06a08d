"""`gapless stream` is stopped for a while (SIGSTOP), as a machine does that sleeps or is too busy.

Its microphone hears a tone that tells the time, so the recording shows what is at its place.
"""

from __future__ import annotations

import pathlib
import signal
import time

import numpy as np
import pytest

from tests.rigs import microphone as rig
from tests.rigs.priority import ahead_of_others
from tests.rigs.processes import gapless, serving
from tests.rigs.sweep import RATE, ToneRecording, microphones

TOLERANCE_S = 0.06

pytestmark = pytest.mark.skipif(rig.missing() is not None, reason=str(rig.missing()))


def stopped_for(seconds: float, *, backend: str, folder: pathlib.Path) -> ToneRecording:
    """Record two seconds, the time for which the client is stopped, and three seconds more."""
    with (
        ahead_of_others(),
        microphones(folder / "microphones") as heard,
        serving(folder / "recordings") as server,
    ):
        command = ("stream", "--server", server.url, "--capture", backend, "--device", "default")
        with gapless(*command, env=heard.environ) as client:
            server.process.wait_for("recording,")
            time.sleep(2)
            client.process.send_signal(signal.SIGSTOP)
            time.sleep(seconds)
            client.process.send_signal(signal.SIGCONT)
            time.sleep(3)
            client.process.send_signal(signal.SIGINT)
            assert client.end() == 0, client.errors
        return ToneRecording(server.recording())


@pytest.mark.parametrize(
    ("backend", "seconds"),
    [("sounddevice", 1), ("sounddevice", 3), ("pyaudio", 3), ("sounddevice", 20)],
)
@pytest.mark.timeout(90)
def test_sound_is_at_its_place_after_the_client_was_stopped(
    tmp_path: pathlib.Path, backend: str, seconds: float
) -> None:
    if backend == "pyaudio":
        pytest.importorskip("pyaudio")
    recording = stopped_for(seconds, backend=backend, folder=tmp_path)
    spans, events = recording.spans, recording.events
    told = f"{recording.length_s:.3f} s; {spans}; {events}"

    assert np.abs(recording.how_late()).max() <= TOLERANCE_S, f"not at its place: {told}"
    assert recording.told[-1, 0] - recording.told[0, 0] >= 5 + seconds - 0.5, told
    missing_s = sum(span.length for span in spans if span.kind != "received") / RATE
    # the sound server keeps what the client does not fetch, some of it or all
    assert missing_s <= seconds + 0.5, f"{missing_s:.1f} s are missing: {told}"
    silences = [span for span in spans if span.kind == "silence"]
    assert len(events) <= len(silences), told
    assert bool(events) == bool(silences), told
