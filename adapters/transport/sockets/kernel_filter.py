"""What the kernel drops before it takes room in a socket's buffer: what is no RTP, STUN or DTLS.

A classic BPF program, which needs no privileges. It looks at the length and the first bytes only
(RFC 7983 § 7), so that a stranger who knows the protocols passes it. It keeps scans and careless
floods away, and datagrams that are too long, of which each would take the room of eighty packets.
"""

from __future__ import annotations

import ctypes
import socket
import struct

from adapters.transport.sockets.datagrams import MAX_BYTES

SHORTEST_SRTP = 22
"""The header of a packet without a payload, and the shortest tag that is negotiated (80 bits,
RFC 5764 § 4.1.2). The shortest report is as long: its header, the index and the tag."""
SHORTEST_DTLS = 13
"""The header of a record (RFC 6347 § 4.1)."""
SHORTEST_STUN = 20
"""The header (RFC 8489 § 5)."""
MAGIC_COOKIE = 0x2112A442
_SO_ATTACH_FILTER = 26  # <asm-generic/socket.h>
_UDP = 8  # the program sees the header of UDP, too
# <linux/bpf_common.h>
_LOAD_LENGTH, _LOAD_BYTE, _LOAD_WORD = 0x80, 0x30, 0x20
_IF_EQUAL, _IF_GREATER, _IF_AT_LEAST = 0x15, 0x25, 0x35
_RETURN = 0x06
_DROP, _PASS = 17, 16  # instructions to jump to


def attach(bound: socket.socket) -> None:
    """Let the kernel drop what comes to a UDP socket and is no RTP, STUN or DTLS.

    Raises `OSError`.
    """
    program = b"".join(struct.pack("@HBBI", *instruction) for instruction in _program())
    kept = ctypes.create_string_buffer(program, len(program))
    # struct sock_fprog: the kernel copies the program
    bound.setsockopt(
        socket.SOL_SOCKET,
        _SO_ATTACH_FILTER,
        struct.pack("@HP", len(program) // 8, ctypes.addressof(kept)),
    )


def _program() -> list[tuple[int, int, int, int]]:
    """The instructions (``struct sock_filter``): code, jumps if true and false, operand."""
    instructions: list[tuple[int, int, int, int]] = []

    def add(code: int, operand: int, true: int | None = None, false: int | None = None) -> None:
        at = len(instructions) + 1  # jumps are relative to the next instruction
        instructions.append((
            code,
            0 if true is None else true - at,
            0 if false is None else false - at,
            operand,
        ))  # fmt: skip

    add(_LOAD_LENGTH, 0)
    add(_IF_GREATER, _UDP + MAX_BYTES, true=_DROP)
    add(_LOAD_BYTE, _UDP)  # a datagram without it is dropped
    add(_IF_AT_LEAST, 192, true=_DROP)
    add(_IF_AT_LEAST, 128, true=14)
    add(_IF_AT_LEAST, 64, true=_DROP)
    add(_IF_AT_LEAST, 20, true=12)
    add(_IF_AT_LEAST, 4, true=_DROP)
    add(_LOAD_WORD, _UDP + 4)
    add(_IF_EQUAL, MAGIC_COOKIE, false=_DROP)
    add(_LOAD_LENGTH, 0)
    add(_IF_AT_LEAST, _UDP + SHORTEST_STUN, true=_PASS, false=_DROP)
    add(_LOAD_LENGTH, 0)  # 12: DTLS
    add(_IF_AT_LEAST, _UDP + SHORTEST_DTLS, true=_PASS, false=_DROP)
    add(_LOAD_LENGTH, 0)  # 14: RTP
    add(_IF_AT_LEAST, _UDP + SHORTEST_SRTP, true=_PASS, false=_DROP)
    add(_RETURN, 0xFFFFFFFF)
    add(_RETURN, 0)
    return instructions
