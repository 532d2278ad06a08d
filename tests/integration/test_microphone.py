"""PortAudio over PulseAudio: sound played into the microphone is recorded."""

from __future__ import annotations

import ctypes.util
import importlib.util
import json
import pathlib
import signal
import time
from collections.abc import Iterator

import numpy as np
import pytest
import soundfile

from domain.sound.comparison import compare
from tests.rigs import microphone as rig
from tests.rigs.processes import gapless, read, serving
from tests.rigs.sound import SPEECH

BACKENDS = [
    pytest.param(
        "sounddevice",
        marks=pytest.mark.skipif(
            ctypes.util.find_library("portaudio") is None, reason="PortAudio is not installed"
        ),
    ),
    pytest.param(
        "pyaudio",
        marks=pytest.mark.skipif(
            importlib.util.find_spec("pyaudio") is None, reason="PyAudio is not installed"
        ),
    ),
]

pytestmark = pytest.mark.skipif(rig.missing() is not None, reason=str(rig.missing()))


@pytest.fixture
def microphone(tmp_path: pathlib.Path) -> Iterator[rig.Microphone]:
    with rig.microphone(tmp_path / "runtime") as device:
        yield device


@pytest.mark.parametrize("backend", BACKENDS)
def test_speech_into_the_microphone_is_recorded(
    tmp_path: pathlib.Path, microphone: rig.Microphone, backend: str
) -> None:
    speech, rate = read(SPEECH)
    seconds = 4
    soundfile.write(tmp_path / "spoken.wav", speech[: seconds * rate], rate)
    with serving(tmp_path / "recordings") as server:
        arguments = ("stream", "--server", server.url, "--capture", backend, "--device", "default")
        duration = ("--duration", str(seconds + 2))
        with gapless(*arguments, *duration, env=microphone.environ) as client:
            client.wait_for("connected")
            player = microphone.play(tmp_path / "spoken.wav")
            assert client.end() == 0, client.errors
            assert player.wait() == 0
        recording = server.recording()
    recorded, recorded_rate = read(recording)
    assert recorded_rate == rate
    assert abs(len(recorded) / rate - (seconds + 2)) <= 0.02
    result = compare(speech[: seconds * rate], recorded, sample_rate_hz=rate)
    assert result.correlation >= 0.90
    assert abs(result.level_difference_db) <= 1
    assert result.longest_gap == 0
    assert not any("lost" in line for line in client.lines), client.lines


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_unplugged_microphone_is_silent_until_it_is_back(
    tmp_path: pathlib.Path, microphone: rig.Microphone, backend: str
) -> None:
    with serving(tmp_path / "recordings") as server:
        arguments = ("stream", "--server", server.url, "--capture", backend, "--device", "default")
        began_at = time.monotonic()  # the recording begins with the first sample that is captured
        with gapless(*arguments, env=microphone.environ) as client:
            client.wait_for("connected")
            server.process.wait_for("recording,")
            sounding_at = time.monotonic()  # PulseAudio may take more than a second to begin
            time.sleep(1)  # a second of sound
            microphone.unplug()
            client.wait_for("silent until it is back")
            microphone.plug_in()
            client.wait_for("the device is back")
            time.sleep(1)  # and another second
            client.process.send_signal(signal.SIGINT)
            ended_at = time.monotonic()
            assert client.end() == 0
        assert not [line for line in client.errors if line.startswith("gapless: ")]
        path = server.recording()
        recorded, rate = read(path)
        # PulseAudio's buffers hold back up to a second, with and without a break
        length = len(recorded) / rate
        assert ended_at - sounding_at - 1.5 < length < ended_at - began_at + 0.1
        spans = json.loads(path.with_suffix(".json").read_text())["spans"]
        kinds = [span["kind"] for span in spans if span["length"] > 0.5 * rate]
        assert kinds == ["received", "silence", "received"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_microphone_that_stays_is_not_recorded_in_place_of_the_unplugged_one(
    tmp_path: pathlib.Path, microphone: rig.Microphone, backend: str
) -> None:
    turns = np.arange(60 * 48_000) / 48_000
    for name, hertz in (("virt", 500), ("twin", 1500)):
        soundfile.write(tmp_path / f"{name}.wav", 0.3 * np.sin(2 * np.pi * hertz * turns), 48_000)
    microphone.add("twin")
    microphone.make_default("virt")
    with (
        serving(tmp_path / "recordings") as server,
        gapless(
            "stream", "--server", server.url, "--capture", backend, env=microphone.environ
        ) as client,
    ):
        client.wait_for("connected")
        playing = [microphone.play(tmp_path / "virt.wav")]
        server.process.wait_for("recording,")
        time.sleep(2)
        playing[0].kill()  # or the server would move it to the twin
        playing[0].wait()
        playing[0] = microphone.play(tmp_path / "twin.wav", into="twin")
        microphone.remove("virt")
        client.wait_for("silent until it is back")
        client.wait_for("others are left alone")
        time.sleep(1)
        microphone.add("virt")
        microphone.make_default("twin")
        playing.append(microphone.play(tmp_path / "virt.wav"))
        client.wait_for("the device is back")
        time.sleep(2)
        client.process.send_signal(signal.SIGINT)
        assert client.end() == 0
        for player in playing:
            player.kill()
            player.wait()
        path = server.recording()
        recorded, rate = read(path)
    spans = json.loads(path.with_suffix(".json").read_text())["spans"]
    kinds = [span["kind"] for span in spans if span["length"] > 0.5 * rate]
    assert kinds == ["received", "silence", "received"]
    parts = recorded[: len(recorded) // 2400 * 2400].reshape(-1, 2400)  # 50 ms, so bins of 20 Hz
    spectrum = np.abs(np.fft.rfft(parts, axis=1))
    assert spectrum[:, 25].max() > 20 * spectrum[:, 75].max()


@pytest.mark.parametrize("backend", BACKENDS)
def test_devices_are_listed_with_the_rates_that_work(
    microphone: rig.Microphone, backend: str
) -> None:
    command = ("devices", "--capture", backend)
    with gapless(*command, env=microphone.environ) as listing:
        assert listing.end() == 0
    heading, *lines = listing.lines
    assert heading.split() == ["NUMBER", "NAME", "CHANNELS", "DEFAULT", "RATES"]
    (default,) = [line for line in lines if line.startswith("*")]
    assert "48000" in default
    assert any("default" in line or "pulse" in line for line in lines)
    with gapless(*command, "--json", env=microphone.environ) as listing:
        assert listing.end() == 0
    found = json.loads("\n".join(listing.lines))
    assert len(found) == len(lines)
    (one,) = [device for device in found if device["is_default"]]
    assert {44_100, 48_000, 96_000} <= set(one["rates_hz"])
    assert one["channels"] >= 1


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_doctor_hears_what_the_microphone_hears(
    tmp_path: pathlib.Path, microphone: rig.Microphone, backend: str
) -> None:
    speech, rate = soundfile.read(SPEECH)
    soundfile.write(tmp_path / "spoken.wav", np.tile(speech, 6), rate)
    command = ("doctor", "--json", "--capture", backend, "--device", "default", "--seconds", "2")
    player = microphone.play(tmp_path / "spoken.wav")
    try:
        with gapless(*command, env=microphone.environ) as doctor:
            doctor.end(timeout_s=45)
    finally:
        player.terminate()
        player.wait()
    found = {one["check"]: one for one in json.loads("\n".join(doctor.lines))["findings"]}
    assert "peak" in found["level"]["what"], found
    assert {found[check]["level"] for check in ("device", "overruns")} == {"ok"}, found
    assert found["server"]["level"] == "warning", "nobody has named one"


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_device_that_is_not_there_lists_those_that_are(
    microphone: rig.Microphone, backend: str
) -> None:
    command = ("stream", "--capture", backend, "--device", "Grandma's Gramophone")
    with gapless(*command, env=microphone.environ) as client:
        assert client.end() == 2
    (error,) = [line for line in client.errors if line.startswith("gapless: ")]
    assert 'no input device "Grandma\'s Gramophone"; there are: ' in error
    assert "default" in error


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_device_that_refuses_is_reported_with_the_requested_format(
    microphone: rig.Microphone, backend: str
) -> None:
    microphone.unplug()
    with gapless("stream", "--capture", backend, "--device", "0", env=microphone.environ) as client:
        assert client.end() in (1, 2)
    (error,) = [line for line in client.errors if line.startswith("gapless: ")]
    assert "device" in error or "cannot record" in error
