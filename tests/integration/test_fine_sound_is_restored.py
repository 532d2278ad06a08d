"""96 kHz, 24 bit and two channels, from a file and from a device: recorded bit for bit."""

from __future__ import annotations

import ctypes.util
import importlib.util
import json
import pathlib

import numpy as np
import pytest
import soundfile

from tests.rigs import microphone as rig
from tests.rigs.processes import gapless, serving

RATE = 96_000
BACKENDS = {
    "sounddevice": ctypes.util.find_library("portaudio") is not None,
    "pyaudio": importlib.util.find_spec("pyaudio") is not None,
}


def noise(seconds: int) -> np.ndarray:
    """Return noise whose 24 bits all vary, in the upper bits of 32 as libsndfile has it."""
    drawn = np.random.default_rng(11).integers(-(1 << 23), 1 << 23, (seconds * RATE, 2))
    return drawn.astype("<i4") << 8


def read(path: pathlib.Path) -> np.ndarray:
    info = soundfile.info(path)
    assert (info.samplerate, info.channels, info.subtype) == (RATE, 2, "PCM_24")
    samples: np.ndarray = soundfile.read(path, dtype="int32")[0]
    return samples


def test_a_file_is_recorded_bit_for_bit(tmp_path: pathlib.Path) -> None:
    captured = noise(2)
    source = tmp_path / "captured.flac"
    soundfile.write(source, captured, RATE, subtype="PCM_24")
    with serving(tmp_path / "recordings") as server:
        with gapless(
            "stream", "--server", server.url, "--capture", "file", "--input", str(source),
            "--channels", "2", "--restore", "all", "--spool", str(tmp_path / "spool"),
        ) as client:  # fmt: skip
            assert client.end() == 0, client.errors
        assert "the same on both ends" in client.lines[-1]
        recording = server.recording()
    assert np.array_equal(read(recording), captured)
    with gapless("verify", "--json", "--source", str(source), str(recording)) as verifying:
        assert verifying.end() == 0, verifying.lines
    found = json.loads(verifying.lines[0])
    assert found["source"]["equal_samples"] == found["length_samples"] == len(captured)
    assert found["restore"]["state"] == "complete"


@pytest.mark.skipif(rig.missing() is not None, reason=str(rig.missing()))
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_device_is_recorded_bit_for_bit(tmp_path: pathlib.Path, backend: str) -> None:
    if not BACKENDS[backend]:
        pytest.skip(f"{backend} is not installed")
    played = noise(2)
    # PulseAudio leaves out the first milliseconds of a stream
    lead = np.zeros((RATE // 2, 2), dtype=played.dtype)
    soundfile.write(tmp_path / "played.wav", np.concatenate([lead, played]), RATE, subtype="PCM_24")
    with (
        rig.microphone(tmp_path / "runtime", rate=RATE, channels=2, depth=24) as device,
        serving(tmp_path / "recordings") as server,
    ):
        with gapless(
            "stream", "--server", server.url, "--capture", backend, "--device", "default",
            "--rate", str(RATE), "--depth", "24", "--channels", "2", "--duration", "6",
            "--restore", "all", "--spool", str(tmp_path / "spool"),
            env=device.environ,
        ) as client:  # fmt: skip
            client.wait_for("connected")
            player = device.play(tmp_path / "played.wav")
            assert client.end() == 0, client.errors
            assert player.wait() == 0
        recording = server.recording()
    recorded = read(recording)
    begin = int(np.flatnonzero(recorded.any(axis=1))[0])
    assert np.array_equal(recorded[begin : begin + len(played)], played)
