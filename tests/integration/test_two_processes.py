"""One process streams and another records, with the whole WebRTC stack between them."""

from __future__ import annotations

import pathlib

import numpy as np
import pytest
import soundfile

from domain.sound.comparison import compare
from tests.rigs.processes import Server, gapless, read, serving
from tests.rigs.sound import SPEECH
from tests.rigs.tls import self_signed


def stream(server: Server, *arguments: str) -> None:
    with gapless("stream", "--server", server.url, *arguments) as client:
        assert client.end() == 0, client.errors
        assert client.errors == []


def assert_same_sound(sent: pathlib.Path, recording: pathlib.Path) -> None:
    """Check the limits for a clean path."""
    original, rate = read(sent)
    recorded, recorded_rate = read(recording)
    assert recorded_rate == rate
    assert abs(len(recorded) - len(original)) / rate <= 0.02
    result = compare(original, recorded, sample_rate_hz=rate)
    assert result.correlation >= 0.90
    assert abs(result.level_difference_db) <= 1
    assert result.longest_gap == 0


def test_speech_arrives_whole(tmp_path: pathlib.Path) -> None:
    with serving(tmp_path / "recordings") as server:
        stream(server, "--capture", "file", "--input", str(SPEECH), "--name", "Speech")
        recording = server.recording()
    assert "-speech-" in recording.name
    info = soundfile.info(recording)
    assert (info.samplerate, info.channels, info.subtype) == (48_000, 1, "PCM_16")
    assert_same_sound(SPEECH, recording)


def test_a_stereo_sender_gives_a_stereo_recording_with_its_sides(tmp_path: pathlib.Path) -> None:
    rate = 48_000
    time = np.arange(2 * rate) / rate
    sides = np.column_stack([np.sin(2 * np.pi * 440 * time), np.sin(2 * np.pi * 1000 * time)]) / 4
    soundfile.write(tmp_path / "sides.wav", sides, rate)
    with serving(tmp_path / "recordings") as server:
        stream(
            server, "--capture", "file", "--input", str(tmp_path / "sides.wav"),
            "--channels", "2", "--bitrate", "96000", "--application", "audio",
        )  # fmt: skip
        recorded, _ = soundfile.read(server.recording(), always_2d=True)
    assert recorded.shape[1] == 2
    spectra = np.abs(np.fft.rfft(recorded[rate // 2 : rate // 2 + rate], axis=0))
    assert spectra.argmax(axis=0).tolist() == [440, 1000]


def test_a_file_of_another_rate_keeps_its_pitch_and_length(tmp_path: pathlib.Path) -> None:
    rate = 22_050
    wave = np.sin(2 * np.pi * 500 * np.arange(2 * rate) / rate) / 4
    soundfile.write(tmp_path / "odd.flac", wave, rate)
    with serving(tmp_path / "recordings") as server:
        stream(server, "--capture", "file", "--input", str(tmp_path / "odd.flac"))
        recorded, recorded_rate = read(server.recording())
    assert recorded_rate == 48_000
    assert abs(len(recorded) / 48_000 - 2) <= 0.02
    assert np.abs(np.fft.rfft(recorded[24_000:72_000])).argmax() == 500


def test_a_duration_is_the_length_of_the_recording(tmp_path: pathlib.Path) -> None:
    with serving(tmp_path / "recordings") as server:
        stream(server, "--capture", "tone", "--duration", "1.5")
        recorded, rate = read(server.recording())
    assert 0 <= len(recorded) / rate - 1.5 <= 0.02


def test_two_clients_at_once_get_a_recording_each(tmp_path: pathlib.Path) -> None:
    with serving(tmp_path / "recordings") as server:
        arguments = ("stream", "--server", server.url, "--capture", "tone", "--duration", "2")
        with gapless(*arguments, "--name", "a") as a, gapless(*arguments, "--name", "b") as b:
            assert (a.end(), b.end()) == (0, 0)
        for _ in range(2):
            server.process.wait_for("session ended")
        lengths = [soundfile.info(path).duration for path in server.recordings()]
    assert lengths == pytest.approx([2, 2], abs=0.02)


def test_the_store_is_a_setting(tmp_path: pathlib.Path) -> None:
    with serving(tmp_path / "recordings", "--storage", "memory") as server:
        stream(server, "--capture", "tone", "--duration", "0.5")
        assert "to memory:" in server.process.wait_for("recorded 00:00.5")
    assert not (tmp_path / "recordings").exists()


def test_signaling_goes_over_https_with_a_token(tmp_path: pathlib.Path) -> None:
    certificate, key = self_signed(tmp_path)
    arguments = ("--tls-cert", certificate, "--tls-key", key, "--token", "secret")
    with serving(tmp_path / "recordings", *arguments) as server:
        command = ("stream", "--server", server.url, "--capture", "tone", "--duration", "0.5")
        environ = {"SSL_CERT_FILE": certificate, "GAPLESS_TOKEN": "secret"}
        with gapless(*command, env=environ) as client:
            assert client.end() == 0, client.errors
        assert server.url.startswith("https://")
        assert server.recording()


@pytest.mark.parametrize("source", ["environment", "file"])
def test_the_capture_backend_is_a_setting(tmp_path: pathlib.Path, source: str) -> None:
    (tmp_path / "gapless.toml").write_text('capture = "tone"\nduration = 0.5\n')
    environ = (
        {"GAPLESS_CAPTURE": "tone", "GAPLESS_DURATION": "0.5"}
        if source == "environment"
        else {"GAPLESS_CONFIG": str(tmp_path / "gapless.toml")}
    )
    with (
        serving(tmp_path / "recordings") as server,
        gapless("stream", "--server", server.url, env=environ) as client,
    ):
        assert client.end() == 0, client.errors
        assert server.recording()
