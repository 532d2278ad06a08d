"""systemd hears when the server is ready, alive and ending, and can restart one that is frozen.

Its place is taken by a datagram socket of the test.
"""

from __future__ import annotations

import os
import pathlib
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from entrypoints.workers import FROZEN_S
from tests.rigs.processes import environment, gapless, workers_of

INTERVAL_S = 1.0
"""Of the watchdog; it is told three times in each."""
SILENT_S = 2.5
"""Longer than the watchdog waits."""


class Manager:
    """The end of the socket that a service manager holds."""

    def __init__(self, folder: pathlib.Path, *, is_abstract: bool = False) -> None:
        self.name = f"@gapless-{uuid.uuid4().hex}" if is_abstract else str(folder / "notify")
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + self.name[1:] if is_abstract else self.name)

    def environment(self, **variables: str) -> dict[str, str]:
        microseconds = str(int(1e6 * INTERVAL_S))
        return {"NOTIFY_SOCKET": self.name, "WATCHDOG_USEC": microseconds} | variables

    def next(self, timeout_s: float = 30.0) -> str:
        self.socket.settimeout(timeout_s)
        return self.socket.recv(4096).decode()

    def wait_for(self, text: str) -> str:
        while text not in (message := self.next()):
            pass
        return message

    def drain(self) -> None:
        self.socket.setblocking(False)
        while True:
            try:
                self.socket.recv(4096)
            except BlockingIOError:
                return

    def hears_nothing(self) -> bool:
        try:
            self.next(SILENT_S)
        except TimeoutError:
            return True
        return False


@contextmanager
def manager_in(folder: pathlib.Path, *, is_abstract: bool = False) -> Iterator[Manager]:
    manager = Manager(folder, is_abstract=is_abstract)
    try:
        yield manager
    finally:
        manager.socket.close()


def serve(folder: pathlib.Path, workers: int) -> tuple[str, ...]:
    return (
        "serve", "--port", "0", "--recordings", str(folder / "r"), "--workers", str(workers),
    )  # fmt: skip


@pytest.mark.parametrize(("workers", "is_abstract"), [(1, False), (1, True), (2, False)])
def test_it_is_told_from_start_to_end(
    tmp_path: pathlib.Path, workers: int, is_abstract: bool
) -> None:
    with (
        manager_in(tmp_path, is_abstract=is_abstract) as manager,
        gapless(*serve(tmp_path, workers), env=manager.environment()) as process,
    ):
        state, status = manager.next().split("\n")
        assert state == "READY=1"
        assert status.startswith("STATUS=listening on http://127.0.0.1:")
        for _ in range(3):
            assert manager.next() == "WATCHDOG=1"
        manager.drain()
        process.process.terminate()
        assert manager.wait_for("STOPPING=1").split("\n")[1].startswith("STATUS=")
        assert process.end() == 0
        assert process.errors == []


@pytest.mark.parametrize("workers", [1, 2])
def test_a_process_that_is_stopped_is_silent(tmp_path: pathlib.Path, workers: int) -> None:
    with (
        manager_in(tmp_path) as manager,
        gapless(*serve(tmp_path, workers), env=manager.environment()) as process,
    ):
        manager.wait_for("WATCHDOG=1")
        process.process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.process.pid, os.WSTOPPED | os.WNOWAIT)
        manager.drain()
        assert manager.hears_nothing()
        process.process.send_signal(signal.SIGCONT)
        manager.wait_for("WATCHDOG=1")
        assert process.stop() == 0


def test_an_event_loop_that_is_frozen_is_silent(tmp_path: pathlib.Path) -> None:
    """The other threads of the process go on."""
    freeze = (
        "import signal, time; signal.signal(signal.SIGUSR1, lambda *_: time.sleep(600));"
        "from entrypoints.cli import main; main()"
    )
    command = [sys.executable, "-c", freeze, *serve(tmp_path, 1)]
    with manager_in(tmp_path) as manager:
        env = environment(manager.environment())
        process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL)
        try:
            manager.wait_for("WATCHDOG=1")
            process.send_signal(signal.SIGUSR1)
            while not manager.hears_nothing():
                pass  # sent before the signal was handled
            assert process.poll() is None
        finally:
            process.kill()
            process.wait()


@pytest.mark.timeout(120)
def test_a_frozen_worker_is_replaced_and_the_others_are_not_restarted(
    tmp_path: pathlib.Path,
) -> None:
    with (
        manager_in(tmp_path) as manager,
        gapless(*serve(tmp_path, 2), env=manager.environment()) as process,
    ):
        manager.wait_for("READY=1")
        first, second = workers_of(process.process.pid)
        os.kill(first, signal.SIGSTOP)
        manager.drain()
        while not any("worker 0 has died" in line for line in process.lines + process.errors):
            assert manager.next(FROZEN_S - 1) == "WATCHDOG=1"
        assert second in workers_of(process.process.pid)
        assert process.stop() == 0


def test_workers_do_not_speak_to_it(tmp_path: pathlib.Path) -> None:
    with (
        manager_in(tmp_path) as manager,
        gapless(*serve(tmp_path, 2), env=manager.environment()) as process,
    ):
        manager.socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        manager.wait_for("READY=1")
        senders = set()
        for _ in range(6):
            _, ancillary, _, _ = manager.socket.recvmsg(4096, 256)
            senders.add(int.from_bytes(ancillary[0][2][:4], sys.byteorder))
        assert senders == {process.process.pid}


def test_the_watchdog_of_another_process_is_not_fed(tmp_path: pathlib.Path) -> None:
    with (
        manager_in(tmp_path) as manager,
        gapless(*serve(tmp_path, 1), env=manager.environment(WATCHDOG_PID="1")),
    ):
        manager.wait_for("READY=1")
        assert manager.hears_nothing()


def test_a_manager_that_is_gone_is_not_missed(tmp_path: pathlib.Path) -> None:
    env = {"NOTIFY_SOCKET": str(tmp_path / "nobody"), "WATCHDOG_USEC": "1000000"}
    with gapless(*serve(tmp_path, 1), env=env) as process:
        process.wait_for("listening on")
        with manager_in(tmp_path) as manager:  # it is restarted
            pathlib.Path(manager.name).rename(tmp_path / "nobody")
            assert manager.next().startswith("READY=1\n")
            assert manager.next() == "WATCHDOG=1"
        assert process.stop() == 0
        assert process.errors == []
