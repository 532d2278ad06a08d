"""Datagrams that no connection should take, by kind."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from aioice import stun

_COOKIE = b"\x21\x12\xa4\x42"


@dataclass(frozen=True)
class Live:
    """What strangers may know of live sessions."""

    ssrcs: Sequence[int] = ()
    names: Sequence[str] = ()
    """The server's user names in the sessions' connectivity checks."""


def kinds(live: Live, chance: random.Random) -> Mapping[str, Callable[[], bytes]]:
    """Functions that make one datagram of each kind."""

    def number() -> bytes:
        return chance.randbytes(4)

    def live_source() -> bytes:
        return chance.choice(live.ssrcs).to_bytes(4, "big") if live.ssrcs else number()

    def request(name: str) -> bytes:
        message = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
        message.attributes["USERNAME"] = name
        message.attributes["PRIORITY"] = 1
        message.add_message_integrity(b"guessed")
        message.add_fingerprint()
        return bytes(message)

    def response() -> bytes:
        message = stun.Message(stun.Method.BINDING, stun.Class.RESPONSE)
        message.attributes["XOR-MAPPED-ADDRESS"] = ("192.0.2.1", 9)
        return bytes(message)

    def stun_of(kind: bytes, body: bytes, length: int | None = None) -> bytes:
        given = len(body) if length is None else length
        return kind + given.to_bytes(2, "big") + _COOKIE + chance.randbytes(12) + body

    def srtp(source: bytes, length: int = 120) -> bytes:
        return b"\x80\x6f" + chance.randbytes(6) + source + chance.randbytes(length - 12)

    def srtcp(source: bytes) -> bytes:
        return b"\x80\xc8\x00\x06" + source + chance.randbytes(38)

    def record(kind: int, epoch: int, body: bytes) -> bytes:
        head = bytes([kind]) + b"\xfe\xfd" + epoch.to_bytes(2, "big") + chance.randbytes(6)
        return head + len(body).to_bytes(2, "big") + body

    def alert() -> bytes:
        return record(21, 1, chance.randbytes(8 + 2 + 16))  # as long as a protected close_notify

    return {
        "nothing": lambda: b"",
        "12 bytes": lambda: srtp(number(), 12),
        "a few bytes": lambda: chance.choice([b"\x80", b"\x80\xc8", b"\xbf" * 9, b"\x16", b"\0"]),
        "random bytes": lambda: chance.randbytes(chance.randrange(1, 1200)),
        "SRTP": lambda: srtp(number()),
        "SRTP of 1400 bytes": lambda: srtp(number(), 1400),
        "SRTP of 4000 bytes": lambda: srtp(number(), 4000),
        "SRTP, SSRC of a session": lambda: srtp(live_source()),
        "SRTCP": lambda: srtcp(number()),
        "SRTCP, SSRC of a session": lambda: srtcp(live_source()),
        "STUN request": lambda: request(f"{number().hex()}:{number().hex()}"),
        "STUN request, many attributes": lambda: stun_of(b"\x00\x01", bytes(1400)),
        "STUN request, name of a session": lambda: request(
            f"{chance.choice(live.names)}:{number().hex()}" if live.names else "nobody:nobody"
        ),
        "STUN request, cut off": lambda: request("nobody:x")[: chance.randrange(1, 60)],
        "STUN request, name too long": lambda: stun_of(b"\x00\x01", b"\x00\x06\xff\xff" + number()),
        "STUN response": response,
        "STUN response, empty": lambda: stun_of(b"\x01\x01", b""),
        "DTLS": lambda: record(22, 0, chance.randbytes(64)),
        "DTLS, an alert": alert,
        "DTLS, 27 alerts": lambda: b"".join(alert() for _ in range(27)),
    }  # fmt: skip


def junk(live: Live, chance: random.Random, *, of: Sequence[str], variants: int) -> list[bytes]:
    """Datagrams of the named kinds in turn, `variants` of each; of all kinds if none is named."""
    makers = kinds(live, chance)
    chosen = [makers[name] for name in of or makers]
    return [make() for _ in range(variants) for make in chosen]
