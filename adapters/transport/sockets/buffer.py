"""The kernel's receive buffer of a socket: how full it is, and what was dropped for lack of it."""

from __future__ import annotations

import contextlib
import logging
import pathlib
import socket
import struct

_log = logging.getLogger("gapless")

LOOK_S = 1.0
"""How often drops are looked for."""
TELL_S = 60.0
"""The shortest time between two lines of log."""
_SO_MEMINFO = 55  # <asm-generic/socket.h>
_MEMINFO = struct.Struct("@9I")  # SK_MEMINFO_... of <linux/sock_diag.h>
_FILLED, _ROOM, _DROPS = 0, 1, 8
_LEAST_BYTES = 768  # what the kernel takes for the smallest datagram
_EXPECTED = 100_000  # datagrams a second that the buffer should take
_COUNTERS = ("RcvbufErrors", "MemErrors")


class ReceiveBuffer:
    """The receive buffer of a bound socket."""

    def __init__(self, bound: socket.socket) -> None:
        self._socket = bound
        self._port = bound.getsockname()[1]
        info = self._info()
        self._dropped, self._full = info[_DROPS], _dropped_for_lack_of_room()
        self._was_full = False  # since the latest look
        self._lost = 0  # not told yet
        self.is_filling = False
        """Whether a quarter of the buffer was in use at the latest measurement."""
        self._looked_at = self._told_at = float("-inf")
        self.full_s: float = info[_ROOM] / _LEAST_BYTES / _EXPECTED
        """How long a flood of `_EXPECTED` small datagrams takes to fill the buffer."""

    def measure(self) -> None:
        """Measure how full the buffer is; to be called before it is read."""
        info = self._info()
        self.is_filling = info[_FILLED] > info[_ROOM] // 4
        if info[_FILLED] > info[_ROOM] * 7 // 8:
            self._was_full = True

    def look(self, *, now: float) -> None:
        """Tell of datagrams that were dropped for lack of room, in a line a minute at most."""
        if now < self._looked_at + LOOK_S:
            return
        self._looked_at = now
        dropped = self._info()[_DROPS]
        if dropped != self._dropped:
            # a socket counts what its filter drops, too, and the system what other sockets drop
            full = _dropped_for_lack_of_room()
            if self._was_full:
                self._lost += max(0, min(dropped - self._dropped, full - self._full))
            self._dropped, self._full = dropped, full
        self._was_full = False
        if self._lost and now >= self._told_at + TELL_S:
            self._told_at = now
            _log.warning(
                "the kernel has dropped %d datagrams at UDP port %d: its receive buffer was full; "
                "they may be missing in recordings",
                self._lost, self._port,
            )  # fmt: skip
            self._lost = 0

    def _info(self) -> tuple[int, ...]:
        return _MEMINFO.unpack(
            self._socket.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size)
        )


def _dropped_for_lack_of_room() -> int:
    """Datagrams that all UDP sockets of this network namespace have dropped for lack of room."""
    count = 0
    with contextlib.suppress(OSError):  # a sandbox may hide it
        names, values = (
            line.split()
            for line in pathlib.Path("/proc/net/snmp").read_text().splitlines()
            if line.startswith("Udp:")
        )
        count += sum(int(value) for name, value in zip(names, values, strict=True)
                     if name in _COUNTERS)  # fmt: skip
    with contextlib.suppress(OSError):
        for line in pathlib.Path("/proc/net/snmp6").read_text().splitlines():
            name, value = line.split()
            if name.removeprefix("Udp6") in _COUNTERS and name.startswith("Udp6"):
                count += int(value)
    return count
