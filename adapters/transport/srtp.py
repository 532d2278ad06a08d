"""SRTP (RFC 3711): libsrtp, called without pylibsrtp's overhead.

For each packet `pylibsrtp.Session` allocates memory and checks arguments, which costs as much as
libsrtp itself. Its calls also release the GIL for a microsecond, which costs several microseconds
where another thread waits for it.
"""

from __future__ import annotations

import ctypes
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import pylibsrtp
from pylibsrtp._binding import ffi, lib

_MAX_BYTES = 2048
_MAX_TRAILER_BYTES = 144
"""The most that libsrtp appends to a packet; it does not check the size of the buffer."""


MAX_SOURCES = 256
"""SSRCs of a session whose state is kept: libsrtp makes one for each, and looks through all of them
for each packet. A connection has 16 tracks, each with a stream for retransmissions."""

_REPLAY_FAIL = 9
"""libsrtp's ``srtp_err_status_replay_fail``."""


class Replayed(pylibsrtp.Error):
    """A packet with this index has arrived before. It was not authenticated."""


def _address(pointer: Any) -> int:
    return int(ffi.cast("uintptr_t", pointer))


def _function(name: str) -> Callable[..., int]:
    """``srtp_err_status_t name(srtp_t, void *packet, int *length)``."""
    return ctypes.PYFUNCTYPE(ctypes.c_int)(_address(ffi.addressof(lib, name)))


_PROTECT, _PROTECT_RTCP = _function("srtp_protect"), _function("srtp_protect_rtcp")
_UNPROTECT, _UNPROTECT_RTCP = _function("srtp_unprotect"), _function("srtp_unprotect_rtcp")


class _Memory:
    """A buffer in which packets are processed in place, one at a time."""

    def __init__(self) -> None:
        self.data: Any = ctypes.create_string_buffer(_MAX_BYTES + _MAX_TRAILER_BYTES)
        self.room = memoryview(self.data).cast("B")[:_MAX_BYTES]
        self.length = ctypes.c_int()
        self.pointer = ctypes.pointer(self.length)


class Unprotector:
    """Unprotects the packets that a session receives; to be used in one thread at a time.

    Different sessions may be used in different threads. There is no lock, because it would cost
    a twentieth of what libsrtp takes for a packet.

    Both functions raise `pylibsrtp.Error`, and `ValueError` for a packet that is too long. Call
    `authenticated` after them, at least when the source has changed.
    """

    __slots__ = ("_session", "_sources", "rtcp", "rtp")

    def __init__(self, session: pylibsrtp.Session) -> None:
        memory = _Memory()
        self.rtp = _Processor(session, _UNPROTECT, memory).process
        self.rtcp = _Processor(session, _UNPROTECT_RTCP, memory).process
        self._session = session
        self._sources: OrderedDict[int, None] = OrderedDict()  # the latest one last

    def authenticated(self, ssrc: int) -> None:
        """Note the source of a packet; beyond `MAX_SOURCES` forget the oldest one.

        What is forgotten begins anew with its next packet.
        """
        sources = self._sources
        if ssrc in sources:
            sources.move_to_end(ssrc)
            return
        sources[ssrc] = None
        if len(sources) > MAX_SOURCES:
            forgotten, _ = sources.popitem(last=False)
            self._session.remove_stream(forgotten)


class Protector:
    """Protects the packets that a session sends; several threads may use it.

    Both functions raise `pylibsrtp.Error`, and `ValueError` for a packet that is too long.
    """

    __slots__ = ("rtcp", "rtp")

    def __init__(self, session: pylibsrtp.Session) -> None:
        memory, lock = _Memory(), threading.Lock()
        self.rtp = _LockedProcessor(session, _PROTECT, memory, lock).process
        self.rtcp = _LockedProcessor(session, _PROTECT_RTCP, memory, lock).process


class _Processor:
    """Calls one function of libsrtp for the packets of one session."""

    __slots__ = ("_call", "_handle", "_memory", "_session")

    def __init__(
        self, session: pylibsrtp.Session, call: Callable[..., int], memory: _Memory
    ) -> None:
        self._session = session  # owns the handle
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
            if status == _REPLAY_FAIL:
                raise Replayed(pylibsrtp.ERRORS[status])
            raise pylibsrtp.Error(pylibsrtp.ERRORS[status])
        processed: bytes = memory.data[: length.value]
        return processed


class _LockedProcessor(_Processor):
    __slots__ = ("_lock",)

    def __init__(
        self,
        session: pylibsrtp.Session,
        call: Callable[..., int],
        memory: _Memory,
        lock: threading.Lock,
    ) -> None:
        super().__init__(session, call, memory)
        self._lock = lock

    def process(self, packet: bytes) -> bytes:
        with self._lock:
            return super().process(packet)
