"""`gapless demo`, also on a machine that has only loopback."""

from __future__ import annotations

import pathlib
import subprocess
import sys

from tests.rigs.processes import environment

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


def test_the_demo_shows_what_was_recorded(tmp_path: pathlib.Path) -> None:
    """Runs in a network namespace that has only loopback, if namespaces can be created."""
    alone = () if no_namespaces() else (*UNSHARE, sys.executable, "-c", LOOPBACK_ONLY)
    run = subprocess.run(
        [*alone, *DEMO, str(tmp_path)], env=environment(), capture_output=True, text=True
    )
    assert run.returncode == 0, run.stdout + run.stderr
    (recording,) = tmp_path.glob("*.wav")
    assert str(recording) in run.stdout
    assert "What was sent is what was recorded." in run.stdout
    assert run.stderr == ""
