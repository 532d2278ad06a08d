"""What the router between two hosts does: network address translation, and a firewall."""

from __future__ import annotations

import json
import pathlib
import shutil
import socket
import struct
import subprocess
import sys
import time
from dataclasses import dataclass

from tests.rigs import hosts
from tests.rigs.hosts import CLIENT_PORT, SERVER, SERVER_PORT, Hosts

PUBLIC = "198.51.100.1"
"""The public address of a server that only has a private one itself."""
FIRST_PORTS, OTHER_PORTS = (20_000, 29_999), (30_000, 39_999)
"""The UDP ports that the client's NAT uses, and those that it uses after it was restarted."""


def missing() -> str | None:
    """Return why this machine cannot translate addresses, or None if it can."""
    return "nft is not installed" if shutil.which("nft") is None else hosts.missing()


@dataclass(frozen=True, kw_only=True)
class Router:
    """The rules of a router. A client may begin at the open ports of the server only."""

    tcp: tuple[int, ...]
    udp: tuple[int, ...] = ()
    """Ports of the server that the firewall opens."""
    ports: tuple[int, int] = FIRST_PORTS
    """The client is behind a NAT that sends its UDP packets from these ports."""
    is_one_to_one: bool = False
    """Whether the server is reached at `PUBLIC` only, as in a cloud."""

    may_server_begin: bool = False
    """Whether what the server sends first is let through, and answers to it."""

    def apply(self, joined: Hosts) -> None:
        """Replace the rules of the router; what it knows of flows stays."""
        private = "ct status dnat" if self.is_one_to_one else ""
        opened = [
            f"iifname {CLIENT_PORT} {private} {protocol} dport {{ {', '.join(map(str, ports))} }}"
            " accept"
            for protocol, ports in (("tcp", self.tcp), ("udp", self.udp))
            if ports
        ]
        if self.may_server_begin:
            opened.append(f"iifname {SERVER_PORT} accept")
        to_server, to_client = [], []
        if self.is_one_to_one:
            to_server = [f"iifname {CLIENT_PORT} ip daddr {PUBLIC} dnat to {SERVER}"]
            to_client = [f"oifname {CLIENT_PORT} ip saddr {SERVER} snat to {PUBLIC}"]
        first, last = self.ports
        masquerade = [
            f"oifname {SERVER_PORT} meta l4proto udp masquerade to :{first}-{last}",
            f"oifname {SERVER_PORT} masquerade",
        ]
        set_rules(
            joined.router,
            _chain("prerouting", "nat", "prerouting", "dstnat", to_server),
            _chain("postrouting", "nat", "postrouting", "srcnat", to_client + masquerade),
            _chain(
                "forward", "filter", "forward", "filter",
                ["ct state established,related accept", *opened, "drop"],
            ),
        )  # fmt: skip

    def restart(self, joined: Hosts) -> None:
        """Apply the rules, and forget all flows: the client gets new ports in mid-stream."""
        self.apply(joined)
        subprocess.run(
            ["ip", "netns", "exec", joined.router, sys.executable, "-c", _FORGET_FLOWS], check=True
        )


_FORGET_FLOWS = """
from tests.rigs.nat import forget_flows
forget_flows()
"""


def forget_flows() -> None:
    """Empty the table of flows (conntrack) of the network namespace that this process is in."""
    header, delete, request, acknowledge = 20, 1 << 8 | 2, 1, 4
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12) as netfilter:
        # a nlmsghdr and a nfgenmsg without a flow to delete, which means all
        message = struct.pack("=IHHIIBBH", header, delete, request | acknowledge, 1, 0, 0, 0, 0)
        netfilter.send(message)
        (error,) = struct.unpack_from("=i", netfilter.recv(4096), 16)
    if error:
        raise OSError(-error, "the flows cannot be deleted")


def count_packets(host: str, **counted: str) -> None:
    """Count the packets that come in to a host and match rules, each under a name."""
    counters = [f"counter {name} {{}}" for name in counted]
    rules = [f"{rule} counter name {name}" for name, rule in counted.items()]
    set_rules(host, *counters, _chain("input", "filter", "input", "filter", rules))


def counted_packets(host: str, name: str) -> int:
    """Return how many packets `count_packets` has counted under a name."""
    command = ["ip", "netns", "exec", host, "nft", "-j", "list", "counter", "ip", "rig", name]
    found = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    (packets,) = [item["counter"]["packets"] for item in found["nftables"] if "counter" in item]
    return int(packets)


def wait_until_counted(host: str, name: str, packets: int, *, timeout_s: float = 30.0) -> None:
    deadline = time.monotonic() + timeout_s
    while (count := counted_packets(host, name)) < packets:
        assert time.monotonic() < deadline, f"{count} packets {name}"
        time.sleep(0.1)


def set_rules(host: str, *parts: str) -> None:
    """Replace the rules of a host by a table with these parts."""
    rules = "\n".join(["flush ruleset", "table ip rig {", *parts, "}"])
    command = ["ip", "netns", "exec", host, "nft", "-f", "-"]
    done = subprocess.run(command, input=rules + "\n", text=True, capture_output=True)
    assert done.returncode == 0, done.stderr


def _chain(name: str, kind: str, hook: str, priority: str, rules: list[str]) -> str:
    lines = [f"type {kind} hook {hook} priority {priority};", *rules]
    return "\n".join([f"chain {name} {{", *lines, "}"])


def ports_in_use(process_id: int, protocol: str) -> set[tuple[str, int]]:
    """Return the addresses and ports that are bound where a process runs."""
    found = set()
    for path in (pathlib.Path(f"/proc/{process_id}/net", protocol + six) for six in ("", "6")):
        if path.exists():  # there may be no IPv6
            for line in path.read_text().splitlines()[1:]:
                address, _, port = line.split()[1].partition(":")
                words = [int(address[at : at + 8], 16) for at in range(0, len(address), 8)]
                packed = b"".join(word.to_bytes(4, sys.byteorder) for word in words)
                family = socket.AF_INET if len(words) == 1 else socket.AF_INET6
                found.add((socket.inet_ntop(family, packed), int(port, 16)))
    return found
