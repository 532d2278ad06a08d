"""Watches a router: how long packets of media wait in it, which are lost, and what passes beside.

``python -m tests.rigs.sniffer FROM TO`` runs in the router's network namespace (Linux, as root) and
prints a line of JSON each half second, see `Seen`. The delay of a packet is the time from its
arrival at the interface FROM until it leaves through TO, by the kernel's clock.
"""

from __future__ import annotations

import json
import socket
import struct
import sys
import time
from dataclasses import asdict, dataclass, field

_ALL_PROTOCOLS = 0x0003
_OUTGOING = 4  # PACKET_OUTGOING
_ETHERNET, _TCP, _UDP = 14, 6, 17
_SO_TIMESTAMPNS = 35
_REPORT_S = 0.5
LOST_AFTER_S = 3.0
"""A packet that has not left for so long was dropped."""


@dataclass
class Seen:
    """What has passed since the beginning."""

    packets: int = 0
    """Packets of media that left, or were dropped."""
    dropped: int = 0
    delays: list[float] = field(default_factory=list)
    """Of the packets of media that left since the last line, in seconds."""
    media_bytes: int = 0
    """With the headers of IP, as those of `other_bytes`."""
    other_bytes: int = 0
    """Of TCP."""


def watch(coming: str, leaving: str) -> None:
    sniffer = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ALL_PROTOCOLS))
    sniffer.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
    sniffer.settimeout(_REPORT_S / 5)
    seen, waiting = Seen(), dict[bytes, float]()
    due = time.monotonic() + _REPORT_S
    print(json.dumps(asdict(seen)), flush=True)
    while True:
        try:
            data, control, _, address = sniffer.recvmsg(1 << 16, 64)
        except TimeoutError:
            pass
        else:
            stamp = struct.unpack("qq", control[0][2][:16])
            _note(seen, waiting, data, stamp[0] + stamp[1] / 1e9, address[0], address[2],
                  coming, leaving)  # fmt: skip
        if time.monotonic() >= due:
            due += _REPORT_S
            for key, at in list(waiting.items()):
                if time.time() - at > LOST_AFTER_S:
                    del waiting[key]
                    seen.packets += 1
                    seen.dropped += 1
            print(json.dumps(asdict(seen)), flush=True)
            seen.delays = []


def _note(
    seen: Seen,
    waiting: dict[bytes, float],
    data: bytes,
    at: float,
    interface: str,
    direction: int,
    coming: str,
    leaving: str,
) -> None:
    has_left = interface == leaving and direction == _OUTGOING
    if not has_left and (interface != coming or direction == _OUTGOING):
        return
    packet = data[_ETHERNET:]
    if len(packet) < 20 or packet[0] >> 4 != 4:
        return
    header, size = (packet[0] & 15) * 4, int.from_bytes(packet[2:4], "big")
    if packet[9] == _TCP:
        seen.other_bytes += size if has_left else 0
        return
    payload = packet[header + 8 :]
    is_media = (
        packet[9] == _UDP
        and len(payload) >= 12
        and payload[0] >> 6 == 2
        and not 192 <= payload[1] <= 223
    )
    if not is_media:
        return
    key = bytes(payload[2:12])  # number, timestamp and source
    if not has_left:
        waiting.setdefault(key, at)
    elif (came_at := waiting.pop(key, None)) is not None:
        seen.packets += 1
        seen.media_bytes += size
        seen.delays.append(at - came_at)


if __name__ == "__main__":
    watch(sys.argv[1], sys.argv[2])
