"""SRTP: libsrtp by pylibsrtp's binding, without what its wrapper does for each packet.

`pylibsrtp.Session` allocates and checks for each packet, at the price of what libsrtp itself does
with it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pylibsrtp
from pylibsrtp._binding import ffi, lib

_MAX_BYTES = 2048
_MAX_TRAILER_BYTES = 144
"""What libsrtp may put behind a packet, without a look at how much room there is."""


class _Memory:
    """Where packets are processed in place, one at a time."""

    def __init__(self) -> None:
        self.address = ffi.new("char[]", _MAX_BYTES + _MAX_TRAILER_BYTES)
        self.room = ffi.buffer(self.address, _MAX_BYTES)
        self.bytes = ffi.buffer(self.address)
        self.length = ffi.new("int *")


_RECEIVING = _Memory()
"""All sessions share it: packets are received on the event loop."""


def unprotector(session: pylibsrtp.Session) -> Callable[[bytes], bytes]:
    """Unprotects RTP packets of a session, on the event loop.

    What it returns raises `pylibsrtp.Error`, and `ValueError` where a packet is too long.
    """
    return _Processor(session, lib.srtp_unprotect, _RECEIVING).process


def protector(session: pylibsrtp.Session) -> Callable[[bytes], bytes]:
    """Protects RTP packets of a session, in any one thread at a time.

    What it returns raises `pylibsrtp.Error`, and `ValueError` where a packet is too long.
    """
    return _Processor(session, lib.srtp_protect, _Memory()).process


class _Processor:
    __slots__ = ("_call", "_handle", "_memory", "_session")

    def __init__(
        self, session: pylibsrtp.Session, call: Callable[..., int], memory: _Memory
    ) -> None:
        self._session = session  # the handle is freed with it
        self._handle: Any = session._srtp[0]
        self._call = call
        self._memory = memory

    def process(self, packet: bytes) -> bytes:
        memory = self._memory
        length = memory.length
        length[0] = size = len(packet)
        memory.room[0:size] = packet
        status = self._call(self._handle, memory.address, length)
        if status:
            raise pylibsrtp.Error(pylibsrtp.ERRORS[status])
        processed: bytes = memory.bytes[0 : length[0]]
        return processed
