"""Reading datagrams: all that wait in a socket by one system call, each with its time of arrival.

Python's own `recvmsg_into` returns one datagram per call. The kernel's `recvmmsg` (Linux) returns
all that wait, with the time at which each arrived. Jitter, clock skew and the order of packets are
measured by these times, so that it does not matter how late a socket is read.
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
"""The data, and its time of arrival (monotonic seconds)."""

MAX_DATAGRAMS = 128
"""The most that one call returns. A thread works on so many packets for some milliseconds."""
_MAX_BYTES = 2048  # RTP, STUN and DTLS fit an MTU; longer datagrams are truncated, and invalid
_MAX_AGE_S = 5.0  # an older timestamp is wrong: no datagram waits so long
BUFFER_BYTES = 128 << 20
"""Size of a socket's receive buffer, which all sessions share. A packet of Opus takes about 0.8 kB
of the kernel's memory: a process that is late by six seconds loses nothing of 1,000 streams."""
_SO_RCVBUFFORCE = 33  # <asm-generic/socket.h>: beyond the system's limit, with CAP_NET_ADMIN
_NAME_BYTES = 28  # struct sockaddr_in6
_SO_TIMESTAMPNS = 35  # <asm-generic/socket.h>: a timespec of the wall clock as control message
_CONTROL = "16xqq"  # struct cmsghdr, struct timespec
_CONTROL_BYTES = struct.calcsize(_CONTROL)


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
    """Reads datagrams. One reader, with its buffers, serves all sockets of a process in turn."""

    def __init__(self) -> None:
        # PyDLL keeps the GIL: the call never blocks
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
        self._data: Any = data  # slices of a ctypes buffer are bytes
        self._names = memoryview(names).cast("B")
        self._sources = b""  # those of the latest read
        self._control, self._messages = memoryview(control), memoryview(messages).cast("B")
        self._iovecs = iovecs  # keeps the memory alive that the messages point to
        self._address = ctypes.addressof(messages)
        self._fresh = bytes(self._messages)  # the kernel overwrites the lengths that it was given
        rest = ctypes.sizeof(_Message) - _Message.length.offset - 4
        one = f"{_Message.length.offset}xI{rest}x"
        counts = range(MAX_DATAGRAMS + 1)
        self._lengths = [struct.Struct("@" + one * count).unpack_from for count in counts]
        self._times = [struct.Struct("@" + _CONTROL * count).unpack_from for count in counts]

    @staticmethod
    def prepare(bound: socket.socket) -> None:
        """Set a socket's options: arrival times from the kernel, and a large receive buffer."""
        bound.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        try:
            bound.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, BUFFER_BYTES)
        except PermissionError:
            # the kernel reduces it to the system's limit
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)

    def read(self, descriptor: int) -> list[Datagram]:
        """Return the waiting datagrams in order, `MAX_DATAGRAMS` at most. Raises `OSError`."""
        self._messages[:] = self._fresh
        count = self._recvmmsg(descriptor, self._address, MAX_DATAGRAMS, socket.MSG_DONTWAIT, None)
        if count < 0:
            code = ctypes.get_errno()
            if code == errno.EAGAIN:
                return []
            raise OSError(code, os.strerror(code))
        self._sources = bytes(self._names[: count * _NAME_BYTES])
        now = time.monotonic()
        ahead, oldest = now - time.time(), now - _MAX_AGE_S
        data, found, start = self._data, [], 0
        lengths, times = self._lengths[count](self._messages), self._times[count](self._control)
        for length, seconds, nanoseconds in zip(lengths, times[::2], times[1::2], strict=True):
            arrived = seconds + nanoseconds * 1e-9 + ahead
            if not oldest < arrived <= now:
                arrived = now  # the wall clock was changed meanwhile
            found.append((data[start : start + length], arrived))
            start += _MAX_BYTES
        return found

    def source(self, index: int) -> bytes:
        """The source of the `index`th datagram of the latest `read`; see `encode_address`."""
        names, start = self._sources, index * _NAME_BYTES
        if names[start] == socket.AF_INET6:
            return names[start + 2 : start + 4] + names[start + 8 : start + 24]  # port and host
        return names[start + 2 : start + 8]


def encode_address(address: tuple[Any, ...]) -> bytes:
    """Return the port and the host of an address as the network writes them; a key for tables.

    Raises `OSError` if the host is not a numeric address.
    """
    host, port = address[:2]
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return int(port).to_bytes(2, "big") + socket.inet_pton(family, host.partition("%")[0])


def decode_address(key: bytes) -> tuple[str, int]:
    """Return host and port of what `encode_address` wrote."""
    family = socket.AF_INET if len(key) == 6 else socket.AF_INET6
    return socket.inet_ntop(family, key[2:]), int.from_bytes(key[:2], "big")
