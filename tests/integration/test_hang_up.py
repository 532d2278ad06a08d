"""A terminal that closes, or SIGHUP from elsewhere, ends a command as SIGTERM does."""

from __future__ import annotations

import fcntl
import json
import os
import pathlib
import pty
import signal
import subprocess
import sys
import termios
import time

import pytest
import soundfile

from tests.rigs.processes import Server, environment, gapless, serving, workers_of

TONE = ("--capture", "tone")
WAIT_S = 30.0


def ledgers(folder: pathlib.Path) -> list[dict[str, object]]:
    return [json.loads(path.read_text()) for path in folder.glob("*.json")]


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_server_completes_its_recordings(tmp_path: pathlib.Path, workers: str) -> None:
    with (
        serving(tmp_path, "--workers", workers) as server,
        gapless("stream", "--server", server.url, *TONE),
    ):
        server.process.wait_for("recording,")
        time.sleep(1)  # a second of sound
        server.process.process.send_signal(signal.SIGHUP)
        assert server.process.end() == 0
    (ledger,) = ledgers(tmp_path)
    assert ledger["end_reason"] == "shutdown"
    (path,) = server.recordings()
    assert soundfile.info(path).duration > 0.8


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_server_completes_its_recordings_when_its_terminal_closes(
    tmp_path: pathlib.Path, workers: str
) -> None:
    """All processes of the terminal get SIGHUP, and nothing can be written any more."""
    ours, terminal = pty.openpty()

    def take_terminal() -> None:
        fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)

    command = ("serve", "--port", "0", "--recordings", str(tmp_path), "--workers", workers)
    server = subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "entrypoints", *command],
        env=environment(), stdin=terminal, stdout=terminal, stderr=terminal,
        start_new_session=True, preexec_fn=take_terminal,
    )  # fmt: skip
    try:
        os.close(terminal)
        shown = b""
        while b"Ctrl-C to stop" not in shown:
            shown += os.read(ours, 4096)
        url = shown.partition(b"listening on ")[2].split()[0].decode()
        with gapless("stream", "--server", url, *TONE) as client:
            while b"recording," not in shown:
                shown += os.read(ours, 4096)
            time.sleep(1)  # a second of sound
            os.close(ours)
            assert server.wait(WAIT_S) == 0
            client.kill()
    finally:
        server.kill()
        server.wait()
    (ledger,) = ledgers(tmp_path)
    assert ledger["end_reason"] == "shutdown"


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_server_under_nohup_ignores_it(tmp_path: pathlib.Path, workers: str) -> None:
    command = ("serve", "--port", "0", "--recordings", str(tmp_path), "--workers", workers)
    with gapless(*command, within=("nohup",)) as process:
        server = Server(process, tmp_path)
        processes = [process.process.pid, *workers_of(process.process.pid)]
        for pid in processes:
            os.kill(pid, signal.SIGHUP)
        with gapless("stream", "--server", server.url, *TONE, "--duration", "1") as client:
            assert client.end() == 0, client.errors
        assert process.stop() == 0
    (ledger,) = ledgers(tmp_path)
    assert ledger["end_reason"] in ("closed", "deleted")


def test_a_client_sends_the_rest_and_ends(tmp_path: pathlib.Path) -> None:
    with serving(tmp_path) as server:
        with gapless("stream", "--server", server.url, *TONE) as client:
            server.process.wait_for("recording,")
            time.sleep(1)  # a second of sound
            for _ in range(2):  # from the shell, and from the kernel
                client.process.send_signal(signal.SIGHUP)
                time.sleep(0.05)  # otherwise the two may become one
            assert client.end() == 0, client.errors
            assert "safe on the server" in client.lines[-1]
        assert server.recording().exists()
