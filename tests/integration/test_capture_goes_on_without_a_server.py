"""`gapless stream` captures from the first sample on and keeps it, server or not."""

from __future__ import annotations

import asyncio
import hashlib
import pathlib
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import soundfile

from adapters.capture.paced import tone
from adapters.storage.spool.folder import DiskSpoolFolder
from domain.sound.formats import AudioFormat
from tests.rigs.processes import Process, gapless, serving

RATE = 48_000
TONE = ("--capture", "tone")


@contextmanager
def streaming(url: str, spool: pathlib.Path, *arguments: str) -> Iterator[Process]:
    with gapless("stream", "--server", url, "--spool", str(spool), *TONE, *arguments) as client:
        yield client


def kept_in(folder: pathlib.Path, exported: pathlib.Path) -> np.ndarray:
    """Return what is in the only spool; none if there is no spool."""

    async def export() -> bool:
        found = await DiskSpoolFolder(str(folder)).owed()
        for spool in found:
            await spool.export(str(exported))
            await spool.release()
        return len(found) == 1

    if not asyncio.run(export()):
        return np.zeros(0, "<i2")
    samples, rate = soundfile.read(str(exported), dtype="int16")
    assert rate == RATE
    return np.asarray(samples)


def assert_is_tone(samples: np.ndarray) -> None:
    """Check each sample of what a client has captured."""
    cycle = tone(AudioFormat(RATE, 1))[:, 0]
    assert (samples == np.resize(cycle, len(samples))).all()


@pytest.fixture
def port() -> int:
    """Return a port on which nobody listens yet."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_without_a_server_everything_is_kept(tmp_path: pathlib.Path, port: int) -> None:
    with streaming(f"http://127.0.0.1:{port}", tmp_path / "spool") as client:
        client.wait_for("trying again")
        time.sleep(2)  # two seconds of sound
        client.process.send_signal(signal.SIGINT)
        assert client.end() == 1
        said = "\n".join(client.errors)
        assert "stopped before the connection was made" in said
        assert f"of captured sound are kept in {tmp_path / 'spool'}" in said
        assert "`gapless spool send`" in said
    samples = kept_in(tmp_path / "spool", tmp_path / "kept.wav")
    assert len(samples) >= 2 * RATE
    assert_is_tone(samples)


def test_a_server_that_comes_late_gets_what_is_fresh_live(
    tmp_path: pathlib.Path, port: int
) -> None:
    url = f"http://127.0.0.1:{port}"
    with streaming(url, tmp_path / "spool") as client:
        client.wait_for("trying again")
        time.sleep(3)  # longer than sound is fresh
        with serving(tmp_path / "recordings", "--port", str(port)) as server:
            client.wait_for("connected")
            server.process.wait_for("recording,")
            time.sleep(1)  # a second of sound
            client.process.send_signal(signal.SIGINT)
            assert client.end() == 0, client.errors
            assert client.lines[-2].startswith("done: ")
            assert " captured" in client.lines[-1]
            assert soundfile.info(server.recording()).duration >= 2.5
    assert len(kept_in(tmp_path / "spool", tmp_path / "kept.wav")) == 0


def test_a_server_that_goes_does_not_end_the_capture(tmp_path: pathlib.Path) -> None:
    with serving(tmp_path / "recordings") as server:
        with streaming(server.url, tmp_path / "spool") as client:
            server.process.wait_for("recording,")
            time.sleep(1)  # a second of sound
            assert server.process.stop() == 0
            client.wait_for("capturing goes on")
            time.sleep(2)  # two seconds that no server hears
            client.process.send_signal(signal.SIGINT)
            assert client.end() == 1
            assert any("of captured sound are kept in" in line for line in client.errors)
        live = soundfile.info(server.recordings()[0]).duration
    samples = kept_in(tmp_path / "spool", tmp_path / "kept.wav")
    assert len(samples) / RATE >= live + 1.8
    assert_is_tone(samples)


def assert_is_whole(path: pathlib.Path, last_word: str) -> None:
    """Check that a recording is what was captured, and that both ends say so."""
    samples, rate = soundfile.read(str(path), dtype="int16")
    assert rate == RATE
    assert_is_tone(samples)
    digest = hashlib.sha256(samples.tobytes()).hexdigest()
    assert f"all of it on the server, sha256 {digest}, the same on both ends" in last_word
    assert float(last_word[6:10]) == pytest.approx(len(samples) / RATE, abs=0.06)


def test_a_recording_begins_when_the_microphone_does(tmp_path: pathlib.Path, port: int) -> None:
    arguments = ("--restore", "all", "--duration", "8")
    with streaming(f"http://127.0.0.1:{port}", tmp_path / "spool", *arguments) as client:
        client.wait_for("trying again")
        time.sleep(3)  # longer than sound is fresh
        with serving(tmp_path / "recordings", "--port", str(port)) as server:
            assert client.end() == 0, client.errors
            assert_is_whole(server.recording(), client.lines[-1])
    assert len(soundfile.read(str(server.recordings()[0]))[0]) == 8 * RATE


def test_a_server_that_was_stopped_and_is_back_gets_everything(tmp_path: pathlib.Path) -> None:
    with (
        serving(tmp_path / "recordings") as first,
        streaming(first.url, tmp_path / "spool", "--restore", "all") as client,
    ):
        first.process.wait_for("recording,")
        time.sleep(1)  # a second of sound
        assert first.process.stop() == 0
        client.wait_for("capturing goes on")
        port = first.url.rpartition(":")[2]
        with serving(tmp_path / "recordings", "--port", port) as second:
            time.sleep(1)  # a second that is not sent live
            client.process.send_signal(signal.SIGINT)
            assert client.end() == 0, client.errors
            (path,) = second.recordings()
            assert_is_whole(path, client.lines[-1])


def test_a_refused_client_keeps_nothing(tmp_path: pathlib.Path) -> None:
    with (
        serving(tmp_path / "recordings", "--token", "right") as server,
        streaming(server.url, tmp_path / "spool", "--token", "wrong") as client,
    ):
        assert client.end() == 1
        assert not any("kept" in line for line in client.errors)
    assert len(kept_in(tmp_path / "spool", tmp_path / "kept.wav")) == 0


def test_a_spool_can_be_declined(tmp_path: pathlib.Path, port: int) -> None:
    with streaming(f"http://127.0.0.1:{port}", tmp_path / "spool", "--no-spool") as client:
        client.wait_for("trying again")
        client.process.send_signal(signal.SIGINT)
        assert client.end() == 1
        assert not any("kept" in line for line in client.errors)
    assert not (tmp_path / "spool").exists()


def test_a_folder_that_cannot_be_used_does_not_end_the_stream(tmp_path: pathlib.Path) -> None:
    (tmp_path / "spool").write_text("not a folder")
    with (
        serving(tmp_path / "recordings") as server,
        streaming(server.url, tmp_path / "spool", "--duration", "1") as client,
    ):
        client.wait_for("captured sound is not kept")
        assert client.end() == 0, client.errors
        assert client.lines[-1].startswith("done: 00:01.0")
