"""`gapless demo`, also on a machine that has only loopback."""

from __future__ import annotations

import hashlib
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
import soundfile

from tests.rigs.processes import environment
from tests.rigs.sound import SPEECH

DEMO = (sys.executable, "-m", "entrypoints", "demo", "--recordings")

# in a fresh network namespace there is one interface, and it is down
LOOPBACK_ONLY = """
import fcntl, os, socket, struct, sys
SIOCSIFFLAGS, IFF_UP = 0x8914, 1
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
    fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP))
os.execv(sys.argv[1], sys.argv[1:])
"""
UNSHARE = ("unshare", "--net", "--map-root-user")


def no_namespaces() -> bool:
    try:
        return subprocess.run([*UNSHARE, "true"], capture_output=True).returncode != 0
    except FileNotFoundError:
        return True


def run_demo(folder: pathlib.Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the demo in a network namespace that has only loopback, if namespaces can be created."""
    alone = () if no_namespaces() else (*UNSHARE, sys.executable, "-c", LOOPBACK_ONLY)
    run = subprocess.run(
        [*alone, *DEMO, str(folder), *options], env=environment(), capture_output=True, text=True
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return run


def test_the_demo_shows_what_was_recorded(tmp_path: pathlib.Path) -> None:
    run = run_demo(tmp_path)
    (recording,) = tmp_path.glob("*.wav")
    assert str(recording) in run.stdout
    assert "What was sent is what was recorded." in run.stdout
    assert run.stderr == ""


@pytest.mark.parametrize("loss", [20, 60])
def test_the_demo_restores_what_the_network_loses(tmp_path: pathlib.Path, loss: int) -> None:
    run = run_demo(tmp_path, "--loss", str(loss))
    (recording,) = tmp_path.glob("*.wav")
    recorded, rate = soundfile.read(recording, dtype="int16")
    captured, captured_rate = soundfile.read(SPEECH, dtype="int16")
    assert rate == captured_rate
    assert np.array_equal(recorded, captured)
    captured_line, recorded_line = (
        next(line for line in run.stdout.splitlines() if line.startswith(name)).split()[-1]
        for name in ("captured ", "recorded ")
    )
    assert captured_line == recorded_line == hashlib.sha256(captured.tobytes()).hexdigest()
    assert f"equal      {len(captured)} of {len(captured)} samples" in run.stdout
    packets = re.search(r"packets +(\d+) sent, (\d+) of them lost", run.stdout)
    assert packets is not None
    assert int(packets[2]) / int(packets[1]) == pytest.approx(loss / 100, abs=0.08)
    assert "What was captured is what was recorded, bit for bit." in run.stdout
    assert run.stderr == ""
