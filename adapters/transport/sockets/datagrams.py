"""Reading datagrams: all that wait in a socket by one system call, each with its time of arrival.

Python's own `recvmsg_into` returns one datagram per call. The kernel's `recvmmsg` (Linux) returns
all that wait, with the time at which each arrived. Jitter, clock skew and the order of packets are
measured by these times, so that it does not matter how late a socket is read.

Most datagrams may be junk, so that a read makes no object for the data of each: it tells what is
needed to find out whose a datagram is, and the data is copied on request.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct
import sys
import time
from collections.abc import Iterable
from typing import Any, TypeAlias

Datagram: TypeAlias = tuple[bytes, float]
"""The data, and its time of arrival (monotonic seconds)."""
Head: TypeAlias = tuple[int, tuple[int, int, bytes, bytes], bytes]
"""The index of a datagram in its read, its beginning (the first byte, the second one, bytes 4 to 7
and 8 to 11) and its source, as `encode_address` writes it. The beginning of a datagram shorter than
12 bytes goes on with those of an earlier one."""

MAX_DATAGRAMS = 128
"""The most that one call returns. A thread works on so many packets for some milliseconds."""
MAX_BYTES = 2048
"""RTP, STUN and DTLS fit an MTU. Longer datagrams are truncated, and invalid."""
_SLOT = MAX_BYTES + 64  # the beginnings of all slots would compete for two lines of the cache
_MAX_AGE_S = 5.0  # an older timestamp is wrong: no datagram waits so long
BUFFER_BYTES = 128 << 20
"""Size of a socket's receive buffer, which all sessions share. A packet of Opus takes about 0.8 kB
of the kernel's memory: a process that is late by six seconds loses nothing of 1,000 streams."""
_SO_RCVBUFFORCE = 33  # <asm-generic/socket.h>: beyond the system's limit, with CAP_NET_ADMIN
_NAME_BYTES = 28  # struct sockaddr_in6
_SO_TIMESTAMPNS = 35  # <asm-generic/socket.h>: a timespec of the wall clock as control message
_TIME = struct.Struct("@16xqq")  # struct cmsghdr, struct timespec
_BEGINNING = struct.Struct(f"BB2x4s4s{_SLOT - 12}x")
_SOURCE = {  # port and host in struct sockaddr_in and sockaddr_in6 (with a flow label that is zero)
    int(socket.AF_INET): f"2x6s{_NAME_BYTES - 8}x",
    int(socket.AF_INET6): f"2x22s{_NAME_BYTES - 24}x",
}


class Iovec(ctypes.Structure):
    """``struct iovec`` of <sys/uio.h>."""

    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class Header(ctypes.Structure):
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


class Message(ctypes.Structure):
    """``struct mmsghdr``."""

    _fields_ = (("header", Header), ("length", ctypes.c_uint32))


class DatagramReader:
    """Reads datagrams. One reader, with its buffers, serves all sockets of a process in turn."""

    def __init__(self) -> None:
        # PyDLL keeps the GIL: the call never blocks
        self._recvmmsg = ctypes.PyDLL(None, use_errno=True).recvmmsg
        self._recvmmsg.argtypes = [
            ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int, ctypes.c_void_p,
        ]  # fmt: skip
        data = ctypes.create_string_buffer(MAX_DATAGRAMS * _SLOT)
        names = ctypes.create_string_buffer(MAX_DATAGRAMS * _NAME_BYTES)
        control = ctypes.create_string_buffer(MAX_DATAGRAMS * _TIME.size)
        iovecs = (Iovec * MAX_DATAGRAMS)()
        messages = (Message * MAX_DATAGRAMS)()
        for index in range(MAX_DATAGRAMS):
            iovecs[index] = Iovec(ctypes.addressof(data) + index * _SLOT, MAX_BYTES)
            messages[index].header = Header(
                name=ctypes.addressof(names) + index * _NAME_BYTES,
                name_length=_NAME_BYTES,
                iov=ctypes.addressof(iovecs[index]),
                iov_length=1,
                control=ctypes.addressof(control) + index * _TIME.size,
                control_length=_TIME.size,
            )
        self._data: Any = data  # slices of a ctypes buffer are bytes
        self._beginnings = memoryview(data).cast("B")
        self._names = memoryview(names).cast("B")
        self._control, self._messages = memoryview(control), memoryview(messages).cast("B")
        self._iovecs = iovecs  # keeps the memory alive that the messages point to
        self._address = ctypes.addressof(messages)
        self._fresh = bytes(self._messages)  # the kernel overwrites the lengths that it was given
        self._lengths: tuple[int, ...] = ()  # of the latest read, as what follows
        self._now = self._ahead = 0.0
        rest = ctypes.sizeof(Message) - Message.length.offset - 4
        one = f"{Message.length.offset}xI{rest}x"
        counts = range(MAX_DATAGRAMS + 1)
        self._unpack_lengths = [struct.Struct("@" + one * count).unpack_from for count in counts]
        self._unpack_sources = {
            family: [struct.Struct("@" + source * count).unpack_from for count in counts]
            for family, source in _SOURCE.items()
        }

    @staticmethod
    def prepare(bound: socket.socket) -> None:
        """Set a socket's options: arrival times from the kernel, and a large receive buffer."""
        bound.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        try:
            bound.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, BUFFER_BYTES)
        except PermissionError:
            # the kernel reduces it to the system's limit
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)

    def read(self, descriptor: int) -> Iterable[Head]:
        """Read the waiting datagrams in order, `MAX_DATAGRAMS` at most. Raises `OSError`."""
        self._messages[:] = self._fresh
        count = self._recvmmsg(descriptor, self._address, MAX_DATAGRAMS, socket.MSG_DONTWAIT, None)
        if count < 0:
            code = ctypes.get_errno()
            if code == errno.EAGAIN:
                return ()
            raise OSError(code, os.strerror(code))
        self._now = time.monotonic()
        self._ahead = self._now - time.time()
        family = int.from_bytes(self._names[:2], sys.byteorder)
        self._lengths = self._unpack_lengths[count](self._messages)
        return zip(
            range(count),
            _BEGINNING.iter_unpack(self._beginnings[: count * _SLOT]),
            self._unpack_sources[family][count](self._names),
            strict=True,
        )

    def datagram(self, index: int) -> Datagram:
        """Return a datagram of the latest read."""
        start, now = index * _SLOT, self._now
        seconds, nanoseconds = _TIME.unpack_from(self._control, index * _TIME.size)
        arrived = seconds + nanoseconds * 1e-9 + self._ahead
        if not now - _MAX_AGE_S < arrived <= now:
            arrived = now  # the wall clock was changed meanwhile
        return self._data[start : start + self._lengths[index]], arrived


def encode_address(address: tuple[Any, ...]) -> bytes:
    """Return the port and the host of an address as the kernel writes them; a key for tables.

    Raises `OSError` if the host is not a numeric address.
    """
    host, port = address[:2]
    number = int(port).to_bytes(2, "big")
    if ":" in host:
        return number + bytes(4) + socket.inet_pton(socket.AF_INET6, host.partition("%")[0])
    return number + socket.inet_pton(socket.AF_INET, host)


def decode_address(key: bytes) -> tuple[str, int]:
    """Return host and port of what `encode_address` wrote."""
    number = int.from_bytes(key[:2], "big")
    if len(key) == 6:
        return socket.inet_ntop(socket.AF_INET, key[2:]), number
    return socket.inet_ntop(socket.AF_INET6, key[6:]), number
