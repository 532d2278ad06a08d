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

    def __init__(
        self, runtime: pathlib.Path, *, rate: int = 48_000, channels: int = 1, depth: int = 16
    ) -> None:
        self._format = f"rate={rate} channels={channels} format=s{depth}le"
        self.environ = {"XDG_RUNTIME_DIR": str(runtime), "HOME": str(runtime)}
        self._all = os.environ | self.environ
        (runtime / ".asoundrc").write_text("pcm.!default pulse\nctl.!default pulse\n")
        self._daemon = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [
                "pulseaudio", "--exit-idle-time=-1", "--disable-shm", "-n", "--log-level=error",
                "-L", f"module-null-sink sink_name=virt {self._format}",
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

    def play(self, path: pathlib.Path, *, into: str = "virt") -> subprocess.Popen[bytes]:
        """Start playing a file into a microphone."""
        return subprocess.Popen(["paplay", f"--device={into}", str(path)], env=self._all)

    def add(self, name: str) -> None:
        """Plug another microphone into the running sound server."""
        self._control(
            "load-module", "module-null-sink", f"sink_name={name}", "rate=48000", "channels=1"
        )

    def remove(self, name: str) -> None:
        """Unplug one of the sound server's microphones, which then moves the streams from it."""
        for line in self._control("list", "short", "modules").splitlines():
            if f"sink_name={name} " in f"{line} ":
                self._control("unload-module", line.split()[0])

    def make_default(self, name: str) -> None:
        self._control("set-default-source", f"{name}.monitor")

    def _control(self, *command: str) -> str:
        done = subprocess.run(["pactl", *command], env=self._all, check=True, capture_output=True)
        return done.stdout.decode()

    def plug_in(self) -> None:
        """Restore the device."""
        self._daemon = self._start()
        self.wait()

    def unplug(self) -> None:
        """Remove the device."""
        self._daemon.terminate()
        self._daemon.wait()


@contextmanager
def microphone(
    folder: pathlib.Path, *, rate: int = 48_000, channels: int = 1, depth: int = 16
) -> Iterator[Microphone]:
    """Provide a microphone until the block is left."""
    folder.mkdir(mode=0o700)
    device = Microphone(folder, rate=rate, channels=channels, depth=depth)
    try:
        device.wait()
        yield device
    finally:
        device.unplug()
