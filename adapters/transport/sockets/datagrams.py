"""Reading datagrams: all that a socket has by one system call, each with the time it came.

Python's own `recvmsg_into` takes one datagram a call. The kernel's `recvmmsg` (Linux) takes all
that wait, and says when it had each of them: that is what jitter, skew and the order of packets
are measured by, however seldom a socket is read.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct
import time
from typing import Any, TypeAlias

Datagram: TypeAlias = tuple[bytes, float]
"""What came, and when (monotonic seconds)."""

MAX_DATAGRAMS = 24
"""That one call takes."""
_MAX_BYTES = 2048  # RTP, STUN and DTLS keep to an MTU; what is longer is cut off, and invalid
_LONGEST_S = 5.0  # that anything waits to be read
_KEPT_BYTES = 1 << 19
"""Memory for datagrams that wait (the kernel gives twice as much, for what it needs beside them):
20 s of Opus. By itself it keeps 5 s, after which a machine that stalls would lose some."""
_NAME_BYTES = 28  # struct sockaddr_in6
_SO_TIMESTAMPNS = 35  # <asm-generic/socket.h>: a timespec of the wall clock as control message
_CONTROL = "16xqq"  # struct cmsghdr, struct timespec
_CONTROL_BYTES = struct.calcsize(_CONTROL)
_IPV4, _IPV6 = struct.Struct("!2xH4s"), struct.Struct("!2xHI16s")
_FAMILY, _SCOPE = struct.Struct("@H"), struct.Struct("@24xI")


class _Iovec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class _Header(ctypes.Structure):
    """``struct msghdr`` of <sys/socket.h>."""

    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint32),
        ("iov", ctypes.c_void_p),
        ("iov_length", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class _Message(ctypes.Structure):
    """``struct mmsghdr``."""

    _fields_ = (("header", _Header), ("length", ctypes.c_uint32))


class DatagramReader:
    """The memory into which datagrams are read, for all sockets of a process in turn."""

    def __init__(self) -> None:
        # without giving up the interpreter's lock: the call never waits
        self._recvmmsg = ctypes.PyDLL(None, use_errno=True).recvmmsg
        self._recvmmsg.argtypes = [
            ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int, ctypes.c_void_p,
        ]  # fmt: skip
        data = ctypes.create_string_buffer(MAX_DATAGRAMS * _MAX_BYTES)
        names = ctypes.create_string_buffer(MAX_DATAGRAMS * _NAME_BYTES)
        control = ctypes.create_string_buffer(MAX_DATAGRAMS * _CONTROL_BYTES)
        iovecs = (_Iovec * MAX_DATAGRAMS)()
        messages = (_Message * MAX_DATAGRAMS)()
        for index in range(MAX_DATAGRAMS):
            iovecs[index] = _Iovec(ctypes.addressof(data) + index * _MAX_BYTES, _MAX_BYTES)
            messages[index].header = _Header(
                name=ctypes.addressof(names) + index * _NAME_BYTES,
                name_length=_NAME_BYTES,
                iov=ctypes.addressof(iovecs[index]),
                iov_length=1,
                control=ctypes.addressof(control) + index * _CONTROL_BYTES,
                control_length=_CONTROL_BYTES,
            )
        self._data: Any = data  # a slice of it is bytes
        self._names = memoryview(names).cast("B")
        self._control, self._messages = memoryview(control), memoryview(messages).cast("B")
        self._iovecs = iovecs  # kept alive
        self._address = ctypes.addressof(messages)
        self._fresh = bytes(self._messages)  # the kernel writes over the lengths it was given
        rest = ctypes.sizeof(_Message) - _Message.length.offset - 4
        one = f"{_Message.length.offset}xI{rest}x"
        counts = range(MAX_DATAGRAMS + 1)
        self._lengths = [struct.Struct("@" + one * count).unpack_from for count in counts]
        self._times = [struct.Struct("@" + _CONTROL * count).unpack_from for count in counts]

    @staticmethod
    def prepare(bound: socket.socket) -> None:
        """Have the kernel say when each datagram came, and keep those that cannot be read yet."""
        bound.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        # as much of it as the system allows
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _KEPT_BYTES)

    def read(self, descriptor: int) -> list[Datagram]:
        """The datagrams that wait, `MAX_DATAGRAMS` at most, in their order. Raises `OSError`."""
        self._messages[:] = self._fresh
        count = self._recvmmsg(descriptor, self._address, MAX_DATAGRAMS, socket.MSG_DONTWAIT, None)
        if count < 0:
            code = ctypes.get_errno()
            if code == errno.EAGAIN:
                return []
            raise OSError(code, os.strerror(code))
        now = time.monotonic()
        ahead, oldest = now - time.time(), now - _LONGEST_S
        data, found, start = self._data, [], 0
        lengths, times = self._lengths[count](self._messages), self._times[count](self._control)
        for length, seconds, nanoseconds in zip(lengths, times[::2], times[1::2], strict=True):
            arrived = seconds + nanoseconds * 1e-9 + ahead
            if not oldest < arrived <= now:
                arrived = now  # the wall clock was set meanwhile
            found.append((data[start : start + length], arrived))
            start += _MAX_BYTES
        return found

    def source(self, index: int) -> tuple[Any, ...]:
        """Where a datagram of the latest `read` came from, as `socket.recvfrom` says it."""
        name = self._names[index * _NAME_BYTES : (index + 1) * _NAME_BYTES]
        if _FAMILY.unpack_from(name)[0] == socket.AF_INET6:
            port, flow, host = _IPV6.unpack_from(name)
            return socket.inet_ntop(socket.AF_INET6, host), port, flow, *_SCOPE.unpack_from(name)
        port, host = _IPV4.unpack_from(name)
        return socket.inet_ntop(socket.AF_INET, host), port
