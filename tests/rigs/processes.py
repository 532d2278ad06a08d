"""Runs `gapless` as users do: as processes, with their output."""

from __future__ import annotations

import contextlib
import os
import pathlib
import queue
import random
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt
import soundfile

from entrypoints.config import ENVIRONMENT_PREFIX, SECRET_FILES

_WAIT_S = 30.0


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment of a command: clients keep no spool unless `extra` says where."""
    own = {key: value for key, value in os.environ.items() if not key.startswith("GAPLESS_")}
    return own | {"PYTHONUNBUFFERED": "1", "GAPLESS_SPOOL": "off"} | dict(extra or {})


def _hidden(arguments: Sequence[str]) -> tuple[Sequence[str], Mapping[str, str]]:
    """Move secrets from the command line, where others can read them, to the environment."""
    rest, secrets = list(arguments), {}
    for name in SECRET_FILES.values():
        flag = f"--{name.replace('_', '-')}"
        while flag in rest:
            at = rest.index(flag)
            secrets[f"{ENVIRONMENT_PREFIX}{name.upper()}"] = rest[at + 1]
            del rest[at : at + 2]
    return rest, secrets


class Process:
    """A running `gapless` command."""

    def __init__(
        self,
        *arguments: str,
        env: Mapping[str, str] | None = None,
        host: str | None = None,
        within: Sequence[str] = (),
    ) -> None:
        arguments, secrets = _hidden(arguments)
        if host is not None:
            within = ["ip", "netns", "exec", host, *within]
        self.process = subprocess.Popen(
            [*within, sys.executable, "-W", "error", "-m", "entrypoints", *arguments],
            env=environment({**secrets, **(env or {})}),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines: list[str] = []
        self.errors: list[str] = []
        self._news: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._readers = [
            threading.Thread(target=self._read, args=(self.process.stdout, self.lines)),
            threading.Thread(target=self._read, args=(self.process.stderr, self.errors)),
        ]
        for reader in self._readers:
            reader.start()

    def wait_for(self, text: str, *, timeout_s: float = _WAIT_S) -> str:
        """Wait for the next line of output that contains `text`."""
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                line = self._news.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"no {text!r} in {self.lines + self.errors}") from None
            if line is None:
                raise AssertionError(f"ended without {text!r}: {self.lines + self.errors}")
            if text in line:
                return line

    def end(self, *, timeout_s: float = _WAIT_S) -> int:
        """Wait for the process to exit, and return its exit code."""
        try:
            code = self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError(f"still running: {self.lines + self.errors}") from None
        for reader in self._readers:
            reader.join()
        return code

    def stop(self) -> int:
        """Send SIGTERM, and return the exit code."""
        self.process.terminate()
        return self.end()

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for reader in self._readers:
            reader.join()
        assert self.process.stdout and self.process.stderr
        self.process.stdout.close()
        self.process.stderr.close()

    def _read(self, stream: Iterator[str], kept: list[str]) -> None:
        for line in stream:
            kept.append(line.rstrip("\n"))
            self._news.put(kept[-1])
        if kept is self.lines:
            self._news.put(None)


@contextmanager
def gapless(
    *arguments: str,
    env: Mapping[str, str] | None = None,
    host: str | None = None,
    within: Sequence[str] = (),
) -> Iterator[Process]:
    """Run a command; kill it if it still runs when the block is left.

    `host` is the network namespace to run it in, `within` a command that runs it.
    """
    process = Process(*arguments, env=env, host=host, within=within)
    try:
        yield process
    finally:
        process.kill()


class Server:
    """A running `gapless serve` and its recordings."""

    def __init__(self, process: Process, folder: pathlib.Path) -> None:
        self.process = process
        self.folder = folder
        self.url = process.wait_for("listening on ").partition("listening on ")[2].split()[0]

    def recordings(self) -> list[pathlib.Path]:
        return sorted(self.folder.glob("*.wav"))

    def recording(self) -> pathlib.Path:
        """Wait until the only recording is complete, and return its path."""
        self.process.wait_for("session ended")
        (path,) = self.recordings()
        return path


def free_port() -> int:
    """Return a port that is free for TCP and UDP, and that the kernel gives to nobody.

    A server that is started again on the port of an earlier one would find one of the others, of
    which the kernel gives away thousands, in use by a client.
    """
    while True:
        port = random.randrange(20_000, 32_000)
        with contextlib.suppress(OSError), contextlib.ExitStack() as opened:
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                probe = opened.enter_context(socket.socket(type=kind))
                probe.bind(("", port))
            return port


@contextmanager
def serving(
    folder: pathlib.Path,
    *arguments: str,
    env: Mapping[str, str] | None = None,
    host: str | None = None,
) -> Iterator[Server]:
    """Run a server on a free port; it must stop without errors when the block is left."""
    port = () if "--port" in arguments else ("--port", str(free_port()))
    command = ("serve", *port, "--recordings", str(folder), *arguments)
    with gapless(*command, env=env, host=host) as process:
        server = Server(process, folder)
        yield server
        if process.process.poll() is None:
            assert process.stop() == 0, process.errors
        assert process.errors == []


def workers_of(parent: int) -> list[int]:
    """Return the process ids of a server's workers, in order."""
    found = pathlib.Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return [
        int(pid)
        for pid in found
        if b"spawn_main" in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
    ]


def worker_of(session: str, parent: int) -> int:
    """Return the number of the worker that has the file of a session open; wait for it."""
    deadline = time.monotonic() + _WAIT_S
    while time.monotonic() < deadline:
        for number, pid in enumerate(workers_of(parent)):
            for descriptor in pathlib.Path(f"/proc/{pid}/fd").iterdir():
                with contextlib.suppress(FileNotFoundError):  # it is closed meanwhile
                    if session in str(descriptor.readlink()):
                        return number
        time.sleep(0.05)
    raise AssertionError(f"no worker records the session {session}")


def open_descriptors(process_id: int) -> int:
    return sum(1 for _ in pathlib.Path(f"/proc/{process_id}/fd").iterdir())


def read(path: pathlib.Path) -> tuple[npt.NDArray[np.float64], int]:
    """Return the first channel of a file, and its sample rate."""
    samples, rate = soundfile.read(str(path), dtype="float64", always_2d=True)
    return samples[:, 0], rate
