"""SRTP: libsrtp, without what pylibsrtp does for each packet.

`pylibsrtp.Session` allocates and checks for each packet, at the price of what libsrtp itself does
with it; and its calls give up the interpreter's lock, for a microsecond, which costs several of
them where another thread waits for it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import pylibsrtp
from pylibsrtp._binding import ffi, lib

_MAX_BYTES = 2048
_MAX_TRAILER_BYTES = 144
"""What libsrtp may put behind a packet, without a look at how much room there is."""


def _address(pointer: Any) -> int:
    return int(ffi.cast("uintptr_t", pointer))


def _function(name: str) -> Callable[..., int]:
    """``srtp_err_status_t name(srtp_t, void *packet, int *length)``."""
    return ctypes.PYFUNCTYPE(ctypes.c_int)(_address(ffi.addressof(lib, name)))


_PROTECT, _PROTECT_RTCP = _function("srtp_protect"), _function("srtp_protect_rtcp")
_UNPROTECT, _UNPROTECT_RTCP = _function("srtp_unprotect"), _function("srtp_unprotect_rtcp")


class _Memory:
    """Where packets are processed in place, one at a time."""

    def __init__(self) -> None:
        self.data: Any = ctypes.create_string_buffer(_MAX_BYTES + _MAX_TRAILER_BYTES)
        self.room = memoryview(self.data).cast("B")[:_MAX_BYTES]
        self.length = ctypes.c_int()
        self.pointer = ctypes.pointer(self.length)


_RECEIVING = _Memory()
"""All sessions share it: packets are received on the event loop."""


class Unprotector:
    """Unprotects what a session receives, on the event loop.

    Both raise `pylibsrtp.Error`, and `ValueError` where a packet is too long.
    """

    __slots__ = ("rtcp", "rtp")

    def __init__(self, session: pylibsrtp.Session) -> None:
        self.rtp = _Processor(session, _UNPROTECT, _RECEIVING).process
        self.rtcp = _Processor(session, _UNPROTECT_RTCP, _RECEIVING).process


class Protector:
    """Protects what a session sends, in any one thread at a time.

    Both raise `pylibsrtp.Error`, and `ValueError` where a packet is too long.
    """

    __slots__ = ("rtcp", "rtp")

    def __init__(self, session: pylibsrtp.Session) -> None:
        memory = _Memory()
        self.rtp = _Processor(session, _PROTECT, memory).process
        self.rtcp = _Processor(session, _PROTECT_RTCP, memory).process


class _Processor:
    __slots__ = ("_call", "_handle", "_memory", "_session")

    def __init__(
        self, session: pylibsrtp.Session, call: Callable[..., int], memory: _Memory
    ) -> None:
        self._session = session  # the handle is freed with it
        self._handle = ctypes.c_void_p(_address(session._srtp[0]))
        self._call = call
        self._memory = memory

    def process(self, packet: bytes) -> bytes:
        memory = self._memory
        length = memory.length
        length.value = size = len(packet)
        try:
            memory.room[:size] = packet
        except ValueError as error:
            raise ValueError(f"a packet of {size} bytes is too long") from error
        status = self._call(self._handle, memory.data, memory.pointer)
        if status:
            raise pylibsrtp.Error(pylibsrtp.ERRORS[status])
        processed: bytes = memory.data[: length.value]
        return processed
