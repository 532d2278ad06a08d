"""Runs coturn, a STUN and TURN server, on loopback."""

from __future__ import annotations

import pathlib
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from aioice import stun

USER, PASSWORD, SECRET = "alice", "secret", "shared"
_START_S = 10.0


def missing() -> str | None:
    return None if shutil.which("turnserver") else "coturn is not installed"


@dataclass(frozen=True)
class TurnServer:
    port: int
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        return f"turn:127.0.0.1:{self.port}"

    @property
    def stun_url(self) -> str:
        return f"stun:127.0.0.1:{self.port}"


@contextmanager
def turn_server(folder: pathlib.Path, *, shared_secret: bool = False) -> Iterator[TurnServer]:
    """Run a TURN server that accepts `USER`, or short-lived credentials made from `SECRET`."""
    folder.mkdir()
    port = _free_port()
    who = ["--lt-cred-mech", f"--user={USER}:{PASSWORD}"]
    if shared_secret:
        who = ["--use-auth-secret", f"--static-auth-secret={SECRET}"]
    process = subprocess.Popen(
        [
            "turnserver", "-n", "--listening-ip=127.0.0.1", "--relay-ip=127.0.0.1",
            f"--listening-port={port}", "--min-port=61000", "--max-port=61999", "--realm=test",
            *who, "--allow-loopback-peers", "--fingerprint", "--no-cli", "--no-tls", "--no-dtls",
            "--no-rfc5780", f"--userdb={folder}/turndb", f"--pidfile={folder}/pid",
            f"--log-file={folder}/log", "--simple-log", "--no-stdout-log",
        ],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        _wait_until_it_answers(port)
        yield TurnServer(port, process)
    finally:
        process.kill()
        process.wait()


def _free_port() -> int:
    """Return a port that is free for both UDP and TCP."""
    while True:
        with (
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
            socket.socket(socket.AF_INET, socket.SOCK_STREAM) as tcp,
        ):
            udp.bind(("127.0.0.1", 0))
            try:
                tcp.bind(udp.getsockname())
            except OSError:
                continue
            return int(udp.getsockname()[1])


def _wait_until_it_answers(port: int) -> None:
    question = bytes(
        stun.Message(message_method=stun.Method.BINDING, message_class=stun.Class.REQUEST)
    )
    deadline = time.monotonic() + _START_S
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("127.0.0.1", port))
        probe.settimeout(0.2)
        while time.monotonic() < deadline:
            try:
                probe.send(question)
                probe.recv(2000)
                return
            except OSError:
                time.sleep(0.02)
    raise RuntimeError("coturn did not start")
