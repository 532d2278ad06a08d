"""Makes a server send checks to others, in network namespaces: what it was told, and what it sent.

``python -m tests.rigs.victims JSON`` runs where the client is; see `attack` and `forge`.
"""

from __future__ import annotations

import json
import re
import secrets
import socket
import struct
import subprocess
import sys
import urllib.request
from collections.abc import Iterable, Sequence
from typing import Any

from aioice import stun
from aiortc import RTCDtlsFingerprint

from adapters.transport.sdp.descriptions import LocalTransport
from adapters.transport.sdp.writing import write_offer
from tests.rigs.hosts import SERVER, Hosts

PORT, LAST_PORT = 4444, 4999
"""Where victims listen."""
SERVER_IPV6 = "fd99::1"
VICTIMS = {
    "loopback": ("127.0.0.1", "127.8.8.8", "::1"),
    "metadata": ("169.254.169.254", "168.63.129.16", "100.100.100.200", "fd00:ec2::254"),
    "link_local": ("169.254.7.7", "fe80::7"),
    "multicast": ("224.0.0.251", "239.1.2.3", "ff02::fb", "ff05::2"),
    "broadcast": ("255.255.255.255", "10.99.0.255", "240.1.2.3", "0.0.0.0"),
    "own": (SERVER, SERVER_IPV6),
    "translated": (
        "::ffff:198.51.100.7", "64:ff9b::c633:6407", "2002:c633:6407::1", "2001:0:1::7",
        "::198.51.100.7",
    ),
    "private": ("10.99.0.7", "10.88.8.8", "172.16.7.7", "192.168.7.7", "100.64.7.7", "fd77::7"),
    "public": ("198.51.100.7", "203.0.113.7", "2001:db8::7"),
}  # fmt: skip
"""Addresses of each kind."""
NEVER = frozenset(VICTIMS) - {"private", "public"}
FINGERPRINT = "AB:" * 31 + "AB"


# -- what a server sends -------------------------------------------------------------------------


def prepare(joined: Hosts) -> None:
    """Give the server an IPv6 address and ways to everywhere, and let forged packets through."""
    for command in (
        ["addr", "add", f"{SERVER_IPV6}/64", "dev", "eth0", "nodad"],
        ["route", "add", "default", "dev", "eth0"],
    ):
        subprocess.run(["ip", "-6", "-n", joined.server, *command], check=True)
    for host in (joined.router, joined.server):
        script = "for f in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 0 > $f; done"
        subprocess.run(["ip", "netns", "exec", host, "sh", "-c", script], check=True)
    route = ["ip", "-n", joined.router, "route", "add", "blackhole", "default"]
    subprocess.run(route, check=True)


def count(host: str) -> None:
    """Count from now on what a host sends to the victims, and to where mDNS is."""
    lines = ["flush ruleset", "table inet rig {"]
    rules = ["udp dport 5353 counter name mdns"]
    for kind, addresses in VICTIMS.items():
        for family, is_six in (("ip", False), ("ip6", True)):
            found = [address for address in addresses if (":" in address) is is_six]
            if found:
                listed = ", ".join(found)
                rules.append(
                    f"{family} daddr {{ {listed} }} udp dport {PORT}-{LAST_PORT} "
                    f"counter name {kind}"
                )
    lines += [f"counter {name} {{}}" for name in (*VICTIMS, "mdns")]
    lines += ["chain output {", "type filter hook output priority filter;", *rules, "}", "}"]
    command = ["ip", "netns", "exec", host, "nft", "-f", "-"]
    done = subprocess.run(command, input="\n".join(lines) + "\n", text=True, capture_output=True)
    assert done.returncode == 0, done.stderr


def send_to_all(host: str) -> None:
    """Let a host send to each victim, as far as the kernel does that."""
    command = ["ip", "netns", "exec", host, sys.executable, "-c", _SEND_TO_ALL]
    subprocess.run(command, check=True)


_SEND_TO_ALL = """
import contextlib, socket
from tests.rigs.victims import PORT, VICTIMS
for address in (address for kind in VICTIMS.values() for address in kind):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sender, contextlib.suppress(OSError):
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        sender.sendto(b"hello", (address, PORT))
"""


def sent(host: str) -> dict[str, int]:
    """Return the bytes that a host has sent to each kind of victim since `count`."""
    command = ["ip", "netns", "exec", host, "nft", "-j", "list", "counters"]
    found = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    counters = [item["counter"] for item in found["nftables"] if "counter" in item]
    return {counter["name"]: counter["bytes"] for counter in counters}


# -- what makes it -------------------------------------------------------------------------------


def run(host: str, **options: Any) -> dict[str, int]:
    """Run `attack`, or `forge` if `forged` addresses are given, on a host."""
    command = ["ip", "netns", "exec", host, sys.executable, "-m", __name__, json.dumps(options)]
    return dict(json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout))


def attack(url: str, *, restarts: int, is_lite: bool = False) -> dict[str, int]:
    """Name the victims to a server in every way there is; return how many bytes that took."""
    size, everyone = 0, [address for kind in VICTIMS.values() for address in kind]
    names = [f"{secrets.token_hex(8)}.local" for _ in range(3)]
    lines = [f"candidate:{text}" for text in candidates([*everyone, *names])]
    offer = _offer(is_lite=is_lite, more=[f"a={line}" for line in lines])
    size += len(offer)
    _post(f"{url}/offer", {"sdp": offer, "type": "offer"})
    # trickled
    offer = _offer(is_lite=is_lite)
    size += len(offer)
    opened = _post(f"{url}/offer", {"sdp": offer, "type": "offer"})
    for line in lines:
        body = {"id": opened["id"], "candidate": line, "sdpMid": "0"}
        size += len(json.dumps(body))
        _post(f"{url}/ice-candidate", body)
    # WHIP: in the offer, trickled and with restarts
    offer = _offer(is_lite=is_lite, more=[f"a={line}" for line in lines[::2]])
    size += len(offer)
    response = _request("POST", f"{url}/whip", offer, "application/sdp")
    place, tag = response.headers["Location"], response.headers["ETag"]
    username, password = _credentials(offer)
    for turn in range(restarts + 1):
        if turn:
            username, password = secrets.token_hex(4), secrets.token_hex(12)
        body = "\r\n".join(
            [f"a=ice-ufrag:{username}", f"a=ice-pwd:{password}",
             "m=audio 9 UDP/TLS/RTP/SAVPF 0", "a=mid:0", *(f"a={line}" for line in lines), ""]
        )  # fmt: skip
        size += len(body)
        _request(
            "PATCH", url + place, body, "application/trickle-ice-sdpfrag",
            {"If-Match": '"*"' if turn else tag},
        )  # fmt: skip
    return {"bytes": size}


def forge(url: str, *, forged: Sequence[str], ports: int, times: int) -> dict[str, int]:
    """Send authenticated checks from addresses of others; return how many bytes that took.

    They come from `ports` ports of each address, and from each `times`.
    """
    offer = _offer()
    answer = _post(f"{url}/offer", {"sdp": offer, "type": "offer"})["sdp"]
    (username, password), (own, _) = _credentials(answer), _credentials(offer)
    found = re.findall(r"a=candidate:\S+ 1 udp \d+ (\d+\.\S+) (\d+) typ host", answer)
    host, port = next((host, int(port)) for host, port in found)
    size = 0
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
        for _ in range(times):
            for number in range(ports):
                for source in forged:
                    data = _check(f"{username}:{own}", password)
                    packet = _datagram((source, PORT + number), (host, port), data)
                    size += len(packet)
                    raw.sendto(packet, (host, 0))
    return {"bytes": size}


def candidates(addresses: Iterable[str], *, port: int = PORT) -> list[str]:
    """Candidates as SDP has them, all of different foundations."""
    return [f"{n} 1 udp {9000 + n} {host} {port} typ host" for n, host in enumerate(addresses)]


def _offer(*, is_lite: bool = False, more: Sequence[str] = ()) -> str:
    local = LocalTransport(
        secrets.token_hex(4), secrets.token_hex(12), RTCDtlsFingerprint("sha-256", FINGERPRINT)
    )
    offer = write_offer(local, channels=1) + "".join(f"{line}\r\n" for line in more)
    return offer.replace("t=0 0", "t=0 0\r\na=ice-lite") if is_lite else offer


def _credentials(sdp: str) -> tuple[str, str]:
    username, password = re.search(r"ice-ufrag:(\S+)", sdp), re.search(r"ice-pwd:(\S+)", sdp)
    assert username and password
    return username[1], password[1]


def _check(name: str, password: str) -> bytes:
    message = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
    message.attributes |= {"USERNAME": name, "PRIORITY": 1, "ICE-CONTROLLING": 1}
    message.attributes["USE-CANDIDATE"] = None
    message.add_message_integrity(password.encode())
    return bytes(message)


def _datagram(source: tuple[str, int], target: tuple[str, int], data: bytes) -> bytes:
    """An IPv4 packet; the kernel fills in the checksum of its header."""
    length = 28 + len(data)
    addresses = socket.inet_aton(source[0]) + socket.inet_aton(target[0])
    header = struct.pack("!BBHHHBBH", 0x45, 0, length, 0, 0, 64, socket.IPPROTO_UDP, 0)
    return header + addresses + struct.pack("!HHHH", source[1], target[1], 8 + len(data), 0) + data


def _post(url: str, body: dict[str, Any]) -> Any:
    with _request("POST", url, json.dumps(body), "application/json") as response:
        return json.loads(response.read() or b"null")


def _request(
    method: str, url: str, body: str, kind: str, headers: dict[str, str] | None = None
) -> Any:
    sent_headers = {"Content-Type": kind} | (headers or {})
    request = urllib.request.Request(url, body.encode(), sent_headers, method=method)
    return urllib.request.urlopen(request, timeout=20)


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    print(json.dumps(forge(**given) if "forged" in given else attack(**given)))
