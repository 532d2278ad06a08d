"""The systemd unit leaves little to an intruder, and the server all that it needs."""

from __future__ import annotations

import json
import pathlib
import shutil
import subprocess
import sys

import pytest

from entrypoints.serving import SHUTDOWN_S
from entrypoints.workers import FROZEN_S, KILL_S
from tests.rigs import sandbox
from tests.rigs.processes import Server, gapless
from tests.rigs.streams import assert_all_received

MAX_EXPOSURE = 3.0
"""As systemd-analyze judges: 0 can do nothing, 10 everything."""

needs_sandbox = pytest.mark.skipif(sandbox.missing() is not None, reason=str(sandbox.missing()))


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_the_exposure_is_low() -> None:
    command = (
        "systemd-analyze", "security", "--offline=true", "--no-pager",
        f"--threshold={round(10 * MAX_EXPOSURE)}", str(sandbox.UNIT),
    )  # fmt: skip
    judged = subprocess.run(command, capture_output=True, text=True)
    assert judged.returncode == 0, judged.stdout[-200:] + judged.stderr
    assert "Overall exposure level" in judged.stdout
    assert judged.stderr == ""  # nor a line that systemd does not know


def test_the_units_times_fit_those_of_the_server() -> None:
    unit = sandbox.settings()
    assert float(unit["TimeoutStopSec"][-1]) > KILL_S > SHUTDOWN_S
    assert float(unit["WatchdogSec"][-1]) > FROZEN_S
    assert unit["Type"] == ["notify"]


@needs_sandbox
@pytest.mark.parametrize("options", [(), ("--workers", "2", "--storage", "opus")])
def test_the_server_records_in_the_sandbox(
    tmp_path: pathlib.Path, options: tuple[str, ...]
) -> None:
    folder = tmp_path / "recordings"
    folder.mkdir()
    command = ("serve", "--port", "0", "--recordings", str(folder), *options)
    with gapless(*command, within=sandbox.within(folder)) as process:
        server = Server(process, folder)
        streamed = ("stream", "--server", server.url, "--capture", "tone", "--duration", "2")
        with gapless(*streamed) as client:
            assert client.end() == 0, client.errors
        process.wait_for("session ended")
        assert process.stop() == 0
        assert process.errors == []
    assert_all_received(folder, client)
    for path in folder.iterdir():
        assert path.stat().st_mode & 0o077 == 0, path


@needs_sandbox
@pytest.mark.timeout(180)
def test_the_server_restores_in_the_sandbox(tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "recordings"
    folder.mkdir()
    command = ("serve", "--port", "0", "--recordings", str(folder), "--restore", "all")
    with gapless(*command, within=sandbox.within(folder)) as process:
        server = Server(process, folder)
        streamed = ("stream", "--server", server.url, "--capture", "tone", "--duration", "2")
        with gapless(*streamed, env={"GAPLESS_SPOOL": str(tmp_path / "spool")}) as client:
            assert client.end(timeout_s=90) == 0, client.errors
        assert "the same on both ends" in client.lines[-1]
        assert process.stop() == 0
        assert process.errors == []
    (path,) = folder.glob("*.json")
    assert {span["kind"] for span in json.loads(path.read_text())["spans"]} == {"restored"}


@needs_sandbox
@pytest.mark.parametrize(
    "code",
    [
        "import os; os.open('/etc/gapless-was-here', os.O_CREAT | os.O_WRONLY)",
        "import socket; socket.socket(socket.AF_PACKET)",
        "import os; os.chroot('/tmp')",
        "import os; os.kill(os.getppid(), 0); os.setpriority(os.PRIO_PROCESS, 0, -5)",
        "import resource as r; r.setrlimit(r.RLIMIT_NOFILE, (1 << 19, 1 << 19))",
    ],
)
def test_the_sandbox_holds(tmp_path: pathlib.Path, code: str) -> None:
    """What the test above shows depends on it."""
    command = [*sandbox.within(tmp_path), sys.executable, "-c", code]
    tried = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert tried.returncode == 1
    assert any(
        word in tried.stderr for word in ("Permission", "permitted", "Read-only", "not allowed")
    )
