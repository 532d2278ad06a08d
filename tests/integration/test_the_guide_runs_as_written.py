"""docs/remote-guest.md is run, line by line, as its reader would."""

from __future__ import annotations

import os
import pathlib
import re
import subprocess
import sys
from collections.abc import Mapping

import numpy as np
import pytest
import soundfile

from tests.rigs.processes import environment, free_port

REPOSITORY = pathlib.Path(__file__).parents[2]
GUIDE = REPOSITORY / "docs" / "remote-guest.md"
ADDRESS = "http://recorder.example.org:8080"
SPOKEN_S = 40
WAIT_S = 90


@pytest.fixture
def shell(tmp_path: pathlib.Path) -> Shell:
    (tmp_path / "examples").symlink_to(REPOSITORY / "examples")
    return Shell(tmp_path)


class Shell:
    """Runs blocks of the guide in one folder."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.port = free_port()
        path = f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}"
        self._env = environment({"PATH": path})

    def begin(self, block: str, more: Mapping[str, str]) -> subprocess.Popen[str]:
        script = block.replace(ADDRESS, f"http://127.0.0.1:{self.port}")
        return subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", script], cwd=self.folder, env=self._env | more,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )  # fmt: skip


def read_until(process: subprocess.Popen[str], text: str) -> None:
    """Read what a block prints, up to the line with a text."""
    lines = []
    assert process.stdout is not None
    while not lines or text not in lines[-1]:
        lines.append(process.stdout.readline())
        assert lines[-1], f"ended without {text!r}: {lines}"


def finish(process: subprocess.Popen[str]) -> str:
    """Wait for a block to end well, and return what it printed."""
    output, _ = process.communicate(timeout=WAIT_S)
    assert process.returncode == 0, output
    return output


@pytest.mark.timeout(240)
def test_a_reader_records_and_transcribes_a_guest(shell: Shell) -> None:
    serve, invite, stream, live, recording = re.findall(r"```sh\n(.*?)```", GUIDE.read_text(), re.S)
    exports = "".join(line + "\n" for line in invite.splitlines() if line.startswith("export "))
    soundfile.write(shell.folder / "ana.wav", _tone(), 48_000, "PCM_16")
    server = shell.begin(serve, {"GAPLESS_PORT": str(shell.port)})
    try:
        read_until(server, "listening on")
        shown = finish(shell.begin(invite, {}))
        link = (shell.folder / "link").read_text().strip()
        assert link in shown
        microphone = {"GAPLESS_CAPTURE": "file", "GAPLESS_INPUT": str(shell.folder / "ana.wav")}
        guest = shell.begin(stream.replace("LINK", link), microphone)
        read_until(guest, "connected, session")
        said = finish(shell.begin(exports + live, {}))
        assert "Ana" in said
        blocks = re.findall(r"\[([\d.]+) s, 0\.(\d+)\]", said)
        assert sum(float(seconds) for seconds, _ in blocks) > SPOKEN_S / 8
        assert {loudness for _, loudness in blocks[:-1]} == {"212"}
        finish(guest)
        listed = finish(shell.begin(exports + recording, {}))
        assert "sound" in listed
    finally:
        server.terminate()
        server.communicate(timeout=WAIT_S)
    frames, rate_hz = soundfile.read(shell.folder / "ana.flac")
    assert (rate_hz, abs(len(frames) - SPOKEN_S * rate_hz) <= 960) == (48_000, True)


def _tone() -> np.ndarray:
    return 0.3 * np.sin(2 * np.pi * 440 * np.arange(SPOKEN_S * 48_000) / 48_000)
