"""A microphone on a machine without one: PortAudio over ALSA over a PulseAudio null sink."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

NEEDED = ("pulseaudio", "pactl", "paplay")
_START_S = 10.0


def missing() -> str | None:
    """Return which required programs are not installed, or None if none is missing."""
    absent = [name for name in NEEDED if shutil.which(name) is None]
    return f"{', '.join(absent)} not installed" if absent else None


class Microphone:
    """A virtual microphone: capture records what is played into it."""

    def __init__(self, runtime: pathlib.Path) -> None:
        self.environ = {"XDG_RUNTIME_DIR": str(runtime), "HOME": str(runtime)}
        self._all = os.environ | self.environ
        (runtime / ".asoundrc").write_text("pcm.!default pulse\nctl.!default pulse\n")
        self._daemon = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [
                "pulseaudio", "--exit-idle-time=-1", "--disable-shm", "-n", "--log-level=error",
                "-L", "module-null-sink sink_name=virt rate=48000 channels=1",
                "-L", "module-native-protocol-unix",
            ],
            env=self._all,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def wait(self) -> None:
        """Wait until the daemon answers."""
        deadline = time.monotonic() + _START_S
        command = ["pactl", "set-default-source", "virt.monitor"]
        while subprocess.run(command, env=self._all, capture_output=True).returncode != 0:
            if time.monotonic() > deadline or self._daemon.poll() is not None:
                raise RuntimeError("PulseAudio did not start")
            time.sleep(0.05)

    def play(self, path: pathlib.Path) -> subprocess.Popen[bytes]:
        """Start playing a file into the microphone."""
        return subprocess.Popen(["paplay", "--device=virt", str(path)], env=self._all)

    def plug_in(self) -> None:
        """Restore the device."""
        self._daemon = self._start()
        self.wait()

    def unplug(self) -> None:
        """Remove the device."""
        self._daemon.terminate()
        self._daemon.wait()


@contextmanager
def microphone(folder: pathlib.Path) -> Iterator[Microphone]:
    """Provide a microphone until the block is left."""
    folder.mkdir(mode=0o700)
    device = Microphone(folder)
    try:
        device.wait()
        yield device
    finally:
        device.unplug()
