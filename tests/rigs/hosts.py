"""Two hosts with their own addresses and a router between them, as network namespaces."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

SERVER = "10.99.0.1"
CLIENT, CLIENT_MOVED = "10.77.0.2", "10.78.0.2"
CLIENT_PORT, SERVER_PORT = "c", "s"
"""The router's interfaces."""
_NAMES = pathlib.Path("/etc/netns")


def missing() -> str | None:
    """Return why this machine cannot create network namespaces, or None if it can."""
    if shutil.which("ip") is None:
        return "iproute2 is not installed"
    if os.geteuid() != 0:
        return "network namespaces need root"
    probe = subprocess.run(["ip", "netns", "add", f"probe{os.getpid()}"], capture_output=True)
    if probe.returncode != 0:
        return f"no network namespaces here: {probe.stderr.decode().strip()}"
    subprocess.run(["ip", "netns", "del", f"probe{os.getpid()}"], check=True)
    return None


class Hosts:
    """The namespaces of a client, a server and the router between them."""

    def __init__(self) -> None:
        tag = uuid.uuid4().hex[:6]
        self.client, self.router, self.server = (f"{kind}{tag}" for kind in "crs")

    def set_up(self) -> None:
        client, router, server = self.client, self.router, self.server
        for name in (client, router, server):
            _run("ip", "netns", "add", name)
            _run("ip", "-n", name, "link", "set", "lo", "up")
        for host, port in ((client, CLIENT_PORT), (server, SERVER_PORT)):
            _run(
                "ip", "link", "add", "eth0", "netns", host, "type", "veth",
                "peer", "name", port, "netns", router,
            )  # fmt: skip
        for address, port in (
            ("10.77.0.1", CLIENT_PORT), ("10.78.0.1", CLIENT_PORT), ("10.99.0.254", SERVER_PORT),
        ):  # fmt: skip
            _run("ip", "-n", router, "addr", "add", f"{address}/24", "dev", port)
        for host, address in ((client, CLIENT), (server, SERVER)):
            _run("ip", "-n", host, "addr", "add", f"{address}/24", "dev", "eth0")
            _run("ip", "-n", host, "link", "set", "eth0", "up")
        for port in (CLIENT_PORT, SERVER_PORT):
            _run("ip", "-n", router, "link", "set", port, "up")
        forward = "echo 1 > /proc/sys/net/ipv4/ip_forward"
        _run("ip", "netns", "exec", router, "sh", "-c", forward)
        _run("ip", "-n", client, "route", "add", "default", "via", "10.77.0.1")
        _run("ip", "-n", server, "route", "add", "default", "via", "10.99.0.254")

    def move_client(self) -> None:
        """Move the client to another network: its old address goes, a new one comes."""
        _run("ip", "-n", self.client, "addr", "del", f"{CLIENT}/24", "dev", "eth0")
        _run("ip", "-n", self.client, "addr", "add", f"{CLIENT_MOVED}/24", "dev", "eth0")
        _run("ip", "-n", self.client, "route", "replace", "default", "via", "10.78.0.1")

    def name(self, host: str, name: str, address: str) -> None:
        """Let a host know an address by a name; call it before a process runs there."""
        folder = _NAMES / host
        folder.mkdir(parents=True)  # `ip netns exec` puts its files over those of /etc
        (folder / "hosts").write_text(f"127.0.0.1 localhost\n{address} {name}\n")

    def tear_down(self) -> None:
        for name in (self.client, self.router, self.server):
            subprocess.run(["ip", "netns", "del", name], capture_output=True)
            shutil.rmtree(_NAMES / name, ignore_errors=True)


@contextmanager
def hosts() -> Iterator[Hosts]:
    """Set up the hosts of a client and a server until the block is left."""
    joined = Hosts()
    try:
        joined.set_up()
        yield joined
    finally:
        joined.tear_down()


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
