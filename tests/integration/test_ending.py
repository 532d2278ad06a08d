"""All ways to end, with real processes: no captured sound is lost."""

from __future__ import annotations

import json
import pathlib
import signal
import time
import urllib.request

import pytest
import soundfile

from tests.rigs.processes import gapless, serving

TONE = ("--capture", "tone")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_server_that_is_stopped_completes_its_recordings_first(
    tmp_path: pathlib.Path, number: signal.Signals
) -> None:
    with serving(tmp_path) as server:
        with gapless("stream", "--server", server.url, *TONE, "--duration", "60") as client:
            client.wait_for("connected")
            server.process.wait_for("recording,")
            time.sleep(1)  # a second of sound
            began = time.monotonic()
            server.process.process.send_signal(number)
            assert server.process.end() == 0
            assert time.monotonic() - began < 5
            assert client.end() == 1
            assert any("server closed the connection" in line for line in client.errors)
        (path,) = server.recordings()
        assert soundfile.info(path).duration >= 0.9
        assert not list(tmp_path.glob("*.part"))


def test_ctrl_c_at_the_client_ends_the_recording_at_once(tmp_path: pathlib.Path) -> None:
    with serving(tmp_path) as server:
        with gapless("stream", "--server", server.url, *TONE) as client:
            server.process.wait_for("recording,")
            time.sleep(1)  # a second of sound
            client.process.send_signal(signal.SIGINT)
            began = time.monotonic()
            assert client.end() == 0, client.errors
            assert client.lines[-1].startswith("done: 00:0")
        path = server.recording()
        assert time.monotonic() - began < 5
        streamed = float(client.lines[-1].split()[1].partition(":")[2])
        assert abs(soundfile.info(path).duration - streamed) <= 0.07  # printed in tenths


def test_a_killed_client_ends_the_recording_after_the_timeout(tmp_path: pathlib.Path) -> None:
    with serving(tmp_path, env={"GAPLESS_INACTIVITY_TIMEOUT_S": "1"}) as server:
        with gapless("stream", "--server", server.url, *TONE) as client:
            server.process.wait_for("recording,")
            time.sleep(0.5)  # half a second of sound
            client.process.kill()
            assert "inactive" in server.process.wait_for("session ended")
        (path,) = server.recordings()
        assert soundfile.info(path).duration > 0.4


def test_a_deleted_session_ends_while_its_client_still_sends(tmp_path: pathlib.Path) -> None:
    with serving(tmp_path) as server:
        with gapless("stream", "--server", server.url, *TONE) as client:
            session = client.wait_for("connected").split("session ")[1].partition(";")[0]
            server.process.wait_for("recording,")
            request = urllib.request.Request(f"{server.url}/sessions/{session}", method="DELETE")
            with urllib.request.urlopen(request) as response:
                assert response.status == 204
            assert len(server.recordings()) == 1
            assert client.end() == 1
        with urllib.request.urlopen(f"{server.url}/health") as response:
            assert json.load(response)["sessions"] == 0
