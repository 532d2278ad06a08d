"""Tells a service manager, such as systemd, how the server is (sd_notify(3)).

The protocol is a datagram of lines to a Unix socket that the environment names. The libraries for
it are not maintained, or compile against libsystemd.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import MutableMapping

_MESSAGES_PER_INTERVAL = 3
"""So that a message that is late is not the only one within the watchdog's interval."""


class ServiceManager:
    """The service manager that has started this process.

    Without one, nothing is sent. Nothing raises or waits: a manager that cannot be reached misses
    the messages, and acts on that.
    """

    def __init__(self, address: str | None = None, *, watchdog_s: float | None = None) -> None:
        """`watchdog_s` is the interval after which a silent process is restarted, if one is."""
        self._socket: socket.socket | None = None
        if address:
            self._address = "\0" + address[1:] if address.startswith("@") else address
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._interval_s = watchdog_s / _MESSAGES_PER_INTERVAL if watchdog_s else None
        self._waiting = ""
        """The latest state, until the manager has it."""
        self._beat_at = 0.0

    @classmethod
    def of_environment(cls, environment: MutableMapping[str, str] = os.environ) -> ServiceManager:
        """Take the manager's variables, so that no other process speaks for this one."""
        address = environment.pop("NOTIFY_SOCKET", None)
        interval_us = environment.pop("WATCHDOG_USEC", "")
        process = environment.pop("WATCHDOG_PID", str(os.getpid()))
        is_watched = interval_us.isdecimal() and process == str(os.getpid())
        return cls(address, watchdog_s=int(interval_us) / 1e6 if is_watched else None)

    def ready(self, status: str) -> None:
        """Say that the server accepts requests; `status` is one line for people."""
        self._beat_at = time.monotonic()
        self._state(f"READY=1\nSTATUS={status}")

    def stopping(self) -> None:
        """Say that the server ends, having completed its recordings."""
        self._state("STOPPING=1\nSTATUS=completing recordings")

    def alive(self) -> None:
        """Say that the event loop runs, as often as the watchdog needs it; call it often."""
        if self._waiting:
            self._state(self._waiting)
        now = time.monotonic()
        if self._interval_s is None or now - self._beat_at < self._interval_s:
            return
        if self._send("WATCHDOG=1"):
            self._beat_at = now

    def close(self) -> None:
        """Close the socket; nothing is sent any more."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _state(self, text: str) -> None:
        self._waiting = "" if self._send(text) else text

    def _send(self, text: str) -> bool:
        """Return whether the manager has got a message, or can get none at all."""
        if self._socket is None:
            return True
        try:
            self._socket.sendto(text.encode(), self._address)
        except OSError:
            return False  # its queue is full, or it is just being restarted
        return True
