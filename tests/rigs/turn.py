"""Runs coturn, a STUN and TURN server, on loopback or on a host of its own."""

from __future__ import annotations

import pathlib
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from aioice import stun

from tests.rigs.nat import ports_in_use

USER, PASSWORD, SECRET = "alice", "secret", "shared"
PORT, TLS_PORT = 3478, 5349
"""The usual ports (RFC 8656 § 18)."""
_START_S = 10.0


def missing() -> str | None:
    return None if shutil.which("turnserver") else "coturn is not installed"


@dataclass(frozen=True)
class TurnServer:
    port: int
    process: subprocess.Popen[bytes]
    address: str = "127.0.0.1"
    tls_port: int = 0

    @property
    def url(self) -> str:
        return f"turn:{self.address}:{self.port}"

    @property
    def stun_url(self) -> str:
        return f"stun:{self.address}:{self.port}"

    @property
    def tls_url(self) -> str:
        return f"turns:{self.address}:{self.tls_port}"


@contextmanager
def turn_server(folder: pathlib.Path, *, shared_secret: bool = False) -> Iterator[TurnServer]:
    """Run a TURN server that accepts `USER`, or short-lived credentials made from `SECRET`."""
    port = _free_port()
    options = (f"--listening-port={port}", "--allow-loopback-peers", "--no-tls")
    with _running(folder, "127.0.0.1", options, shared_secret=shared_secret) as process:
        _wait_until_it_answers(port)
        yield TurnServer(port, process)


@contextmanager
def turn_server_on(
    host: str,
    folder: pathlib.Path,
    address: str,
    certificate: tuple[str, str],
    *,
    shared_secret: bool = False,
) -> Iterator[TurnServer]:
    """Run a TURN server in a network namespace, over UDP, TCP and TLS on the usual ports.

    `certificate` has the paths of a certificate for `address` and of its key.
    """
    options = (
        f"--listening-port={PORT}", f"--tls-listening-port={TLS_PORT}",
        f"--cert={certificate[0]}", f"--pkey={certificate[1]}",
    )  # fmt: skip
    with _running(folder, address, options, host=host, shared_secret=shared_secret) as process:
        deadline = time.monotonic() + _START_S
        while not {(address, PORT), (address, TLS_PORT)} <= ports_in_use(process.pid, "tcp"):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("coturn did not start")
            time.sleep(0.02)
        yield TurnServer(PORT, process, address, TLS_PORT)


@contextmanager
def _running(
    folder: pathlib.Path,
    address: str,
    options: Sequence[str],
    *,
    host: str | None = None,
    shared_secret: bool,
) -> Iterator[subprocess.Popen[bytes]]:
    folder.mkdir()
    who = ["--lt-cred-mech", f"--user={USER}:{PASSWORD}"]
    if shared_secret:
        who = ["--use-auth-secret", f"--static-auth-secret={SECRET}"]
    process = subprocess.Popen(
        [
            *(() if host is None else ("ip", "netns", "exec", host)),
            "turnserver", "-n", f"--listening-ip={address}", f"--relay-ip={address}",
            *options, "--min-port=61000", "--max-port=61999", "--realm=test",
            *who, "--fingerprint", "--no-cli", "--no-dtls",
            "--no-rfc5780", f"--userdb={folder}/turndb", f"--pidfile={folder}/pid",
            f"--log-file={folder}/log", "--simple-log", "--no-stdout-log",
        ],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield process
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
