"""Requests that strangers may send to occupy a server, as bytes for a socket."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator, Sequence

BIG = 262_000
"""Bytes: the largest body that the server reads is slightly larger."""
JSON, SDP = "application/json", "application/sdp"


def post(path: str, body: bytes, kind: str = JSON, *headers: str) -> bytes:
    """Write a POST request."""
    head = (
        f"POST {path} HTTP/1.1", "Host: localhost", "Connection: close",
        f"Content-Type: {kind}", f"Content-Length: {len(body)}", *headers,
    )  # fmt: skip
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


def get(target: bytes, host: bytes, *headers: bytes) -> bytes:
    head = (b"GET %b HTTP/1.1" % target, b"Host: " + host, b"Connection: close", *headers)
    return b"\r\n".join(head) + b"\r\n\r\n"


def offer(sdp: str) -> bytes:
    return post("/whip", sdp.encode(), SDP)


def fragment(path: str, username: str, candidates: Sequence[str]) -> bytes:
    """Write a PATCH request of WHIP (RFC 9725 § 4.3) with candidates."""
    lines = (f"a=ice-ufrag:{username}", f"a=ice-pwd:{'x' * 22}", "m=audio 9 X 0", "a=mid:0")
    body = "\r\n".join([*lines, *(f"a=candidate:{item}" for item in candidates)])
    request = post(path, body.encode(), "application/trickle-ice-sdpfrag", "If-Match: *")
    return request.replace(b"POST", b"PATCH", 1)


def candidates(host: str, count: int) -> list[str]:
    return [
        f"{n} 1 udp {n + 1} {host.format(n=n, high=n // 250, low=n % 250)} {1000 + n} typ host"
        for n in range(count)
    ]


def _charsets() -> Iterator[tuple[str, bytes]]:
    for charset in ("punycode", "utf-7", "idna", "unicode_escape", "bz2", "iso2022_jp"):
        for path, kind in (("/offer", JSON), ("/whip", SDP)):
            yield f"{charset} at {path}", post(path, b"a" * BIG, f"{kind}; charset={charset}")


def _headers() -> Iterator[tuple[str, bytes]]:
    yield "semicolons in the media type", post("/offer", b"{}", JSON + ";" * 8000)
    yield "parameters of the media type", post("/offer", b"{}", JSON + ";a*0=x" * 1300)
    yield "many headers", get(b"/health", b"localhost", *[b"a: b"] * 50_000)
    yield "pipelined requests", get(b"/health", b"localhost") * 4000
    yield "no HTTP", b"\x00\xff" * 130_000
    yield "a host to decode", get(b"/health", "ü.".encode() * 2700)
    yield "an absolute URL", get(b"http://" + b"xn--a." * 1300 + b"/health", b"a")
    yield "one more absolute URL", get(b"http://" + b"xn--4ca." * 900 + b"/health", b"a")
    yield "an origin", get(b"/health", b"localhost", b"Origin: http://[" + b":" * 8000)
    yield "a long id", get(b"/sessions/" + b"%41" * 2600, b"localhost").replace(b"GET", b"DELETE")


def _bodies() -> Iterator[tuple[str, bytes]]:
    zeros = bytes(200_000_000)
    yield "a bomb of gzip", post("/offer", gzip.compress(zeros), JSON, "Content-Encoding: gzip")
    yield "a bomb of deflate", post("/whip", zlib.compress(zeros), SDP, "Content-Encoding: deflate")
    for coding in ("br", "zstd", "compress", "gzip, gzip"):
        yield coding, post("/offer", b"x" * 1000, JSON, f"Content-Encoding: {coding}")
    chunked = post("/offer", b"", JSON, "Transfer-Encoding: chunked")
    chunked = chunked.replace(b"Content-Length: 0\r\n", b"")
    yield "chunks of one byte", chunked + b"1\r\na\r\n" * BIG + b"0\r\n\r\n"
    deep = b"[" * BIG, b'{"a":' * (BIG // 5)
    wide = b"[%b]" % b",".join([b"{}"] * 85_000), b"[%b]" % b",".join([b"[]"] * 85_000)
    long = b"1" * BIG, b"1." + b"1" * (BIG - 2), b"1e" + b"1" * (BIG - 2), b'"' * BIG
    numbers = (b"[%b]" % b",".join([b"1" * 4300] * 60),)
    keys = (json.dumps({f"k{n}": 1 for n in range(20_000)}).encode(),)
    for number, body in enumerate((*deep, *wide, *long, *numbers, *keys)):
        yield f"JSON {number}", post("/offer", body)
    yield (
        "a long secret",
        post("/offer", json.dumps({"sdp": "x", "type": "offer", "resume": "a" * BIG}).encode()),
    )


def _descriptions(sdp: str) -> Iterator[tuple[str, bytes]]:
    session, _, audio = sdp.partition("m=audio")
    audio = "m=audio" + audio
    media = "m=audio 9 UDP/TLS/RTP/SAVPF 1\r\n"
    yield "m-lines", offer(sdp + media * 900)
    yield "groups", offer(session + "a=group:BUNDLE 0 1\r\n" * 450 + audio + media * 450)
    yield "long groups", offer(session + ("a=group:BUNDLE" + " 1" * 90 + "\r\n") * 480 + audio)
    for host in ("10.0.{high}.{low}", "a{n}.local"):
        lines = (f"a=candidate:{item}\r\n" for item in candidates(host, 950))
        yield f"candidates {host}", offer(sdp + "".join(lines))
    codec = "".join(
        f"a=rtpmap:{n % 256} opus/48000/2\r\na=fmtp:{n % 256} a=1\r\n" for n in range(490)
    )
    yield "codecs", offer(sdp + codec)
    yield "formats", offer(sdp.replace("SAVPF 111", "SAVPF 111" + " 0" * 45_000))
    yield "formats of another m-line", offer(sdp + "m=video 9 X" + " 1" * 45_000 + "\r\n")
    yield "parameters", offer(sdp + "a=fmtp:111 " + "a=1;" * 23_000 + "\r\n")
    yield "sources", offer(sdp + "".join(f"a=ssrc:{n} a\r\n" for n in range(6000)))
    yield "extensions", offer(session + "a=extmap:1 x\r\n" * 6500 + audio)
    yield "fingerprints", offer(sdp + "a=fingerprint:sha-256 AA\r\n" * 900)
    yield "empty lines", offer(sdp + "\n" * 95_000)
    yield "one long line", offer(sdp + "a=" + "x" * 90_000)
    yield "too long", offer(sdp + "a=x\r\n" * 45_000)
    yield "numbers", offer(sdp + ("a=rtcp:" + "9" * 4000 + "\r\n") * 20)


def hostile_requests(sdp: str, *, secret: str) -> Iterator[tuple[str, bytes]]:
    """Yield requests, each with its name.

    `sdp` is a good offer with one audio m-line, `secret` opens a session of the stranger's own.
    """
    yield from _charsets()
    yield from _headers()
    yield from _bodies()
    yield from _descriptions(sdp)
    for host in ("10.0.{high}.{low}", "a{n}.local"):
        yield f"fragment {host}", fragment(f"/whip/{secret}", "abcd", candidates(host, 900))
