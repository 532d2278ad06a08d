"""Unprotecting SRTP: libsrtp by pylibsrtp's binding, without what its wrapper does for a packet."""

from __future__ import annotations

import pylibsrtp
from pylibsrtp._binding import ffi, lib

_MAX_BYTES = 2048


class Unprotector:
    """Unprotects the RTP packets of one session.

    `Session.unprotect` allocates and checks for each packet, at the price of what libsrtp itself
    does with it; here all sessions share one piece of memory.
    """

    _memory = ffi.new("char[]", _MAX_BYTES)
    _buffer = ffi.buffer(_memory)
    _length = ffi.new("int *")
    _unprotect = lib.srtp_unprotect

    def __init__(self, session: pylibsrtp.Session) -> None:
        self._session = session  # the handle is freed with it
        self._handle = session._srtp[0]

    def unprotect(self, packet: bytes) -> bytes:
        """The RTP packet. Raises `pylibsrtp.Error`, and `ValueError` where it is too long."""
        length, buffer = self._length, self._buffer
        length[0] = size = len(packet)
        buffer[0:size] = packet
        status = self._unprotect(self._handle, self._memory, length)
        if status:
            raise pylibsrtp.Error(pylibsrtp.ERRORS[status])
        unprotected: bytes = buffer[0 : length[0]]
        return unprotected
