"""Reads the bodies of requests as text or as JSON.

A stranger may send anything, and the event loop that reads it also receives media. So size, time
and the work that a body causes are limited before it is decoded.
"""

from __future__ import annotations

import asyncio
import json
import math
import zlib
from typing import Any

from aiohttp import hdrs, web

JSON = "application/json"
MAX_BODY_BYTES = 256 * 1024
BODY_S = 10.0
"""How long a body may take to arrive; aiohttp itself would wait forever."""
MAX_CONTENT_TYPE_CHARACTERS = 200
"""aiohttp's parser of this header needs quadratic time: half a second for 8 kB of semicolons."""
MAX_JSON_CONTAINERS = 1000
"""Objects and arrays in one body; each costs a microsecond and work for the garbage collector."""
MAX_FLOAT_CHARACTERS = 40
"""Python needs quadratic time to convert a longer text to a float."""
_CHARSETS = {"utf-8", "utf8", "us-ascii"}
_WINDOW_BITS = {"gzip": 16 + zlib.MAX_WBITS, "x-gzip": 16 + zlib.MAX_WBITS, "deflate": 15}
"""Content codings that can be decoded, with the argument of zlib that selects the format."""


async def read_body(request: web.Request) -> bytes:
    """Read and decompress the body; a second call returns the same bytes.

    Raises `HTTPUnsupportedMediaType`, `HTTPRequestTimeout`, `HTTPRequestEntityTooLarge` or
    `HTTPBadRequest`.
    """
    coding = request.headers.get(hdrs.CONTENT_ENCODING, "identity").strip().lower()
    if coding not in _WINDOW_BITS and coding != "identity":
        raise web.HTTPUnsupportedMediaType(
            text="the body may be compressed with gzip or deflate only",
            headers={hdrs.ACCEPT_ENCODING: "gzip, deflate"},
        )
    try:
        async with asyncio.timeout(BODY_S):
            body = await request.read()
    except TimeoutError:
        raise web.HTTPRequestTimeout(text=f"the body took longer than {BODY_S:g} s") from None
    except (ValueError, web.RequestPayloadError, ConnectionError) as error:
        raise web.HTTPBadRequest(text="the body cannot be read") from error
    return body if coding == "identity" else _decompressed(body, _WINDOW_BITS[coding])


def check_media_type(request: web.Request, content_type: str) -> None:
    """Check that a body has a media type, and is UTF-8 if it is text.

    Raises `HTTPUnsupportedMediaType`.
    """
    # A web page of another origin cannot send these types without a CORS preflight.
    kind, charsets = _content_type(request)
    headers = {f"Accept-{request.method.title()}": content_type}
    if kind != content_type:
        raise web.HTTPUnsupportedMediaType(
            text=f"the body has to be {content_type}", headers=headers
        )
    if not charsets <= _CHARSETS:  # some of Python's codecs need quadratic time, such as punycode
        raise web.HTTPUnsupportedMediaType(text="the body has to be UTF-8", headers=headers)


async def read_text(request: web.Request, content_type: str) -> str:
    """Read a body that must have a media type, and be UTF-8.

    Raises `HTTPUnsupportedMediaType`, and what `read_body` raises.
    """
    check_media_type(request, content_type)
    return _decoded(await read_body(request))


async def read_json(request: web.Request) -> dict[str, Any]:
    """Read a JSON object. Raises `HTTPBadRequest`, and what `read_text` raises."""
    check_media_type(request, JSON)
    return parse_object(await read_body(request))


def parse_object(data: bytes, *, max_containers: int = MAX_JSON_CONTAINERS) -> dict[str, Any]:
    """Parse a JSON object. Raises `HTTPBadRequest`."""
    try:
        body = parse_json(_decoded(data), max_containers)
    except ValueError as error:
        text = "the body is not JSON, or has too many objects, arrays or digits"
        raise web.HTTPBadRequest(text=text) from error
    if not isinstance(body, dict):
        raise web.HTTPBadRequest(text="the body is not a JSON object")
    if any(isinstance(value, str) and not is_unicode(value) for value in body.values()):
        raise web.HTTPBadRequest(text="the body has text that is not Unicode")
    return body


async def peek_json(request: web.Request) -> dict[str, Any]:
    """Read a JSON object; return an empty one for anything else.

    Raises what `read_body` raises.
    """
    try:
        body = parse_json((await read_body(request)).decode())
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _content_type(request: web.Request) -> tuple[str, set[str]]:
    """Return the media type of a body and its `charset` parameters, in lower case.

    Returns an empty media type if the header is missing or too long.
    """
    header = request.headers.get(hdrs.CONTENT_TYPE, "")
    if len(header) > MAX_CONTENT_TYPE_CHARACTERS:
        return "", set()
    kind, *parameters = header.lower().split(";")
    pairs = (parameter.partition("=") for parameter in parameters)
    return kind.strip(), {
        value.strip().strip('"') for name, _, value in pairs if name.strip() == "charset"
    }


def _decompressed(body: bytes, window_bits: int) -> bytes:
    decompressor = zlib.decompressobj(window_bits)
    try:
        plain = decompressor.decompress(body, MAX_BODY_BYTES + 1)
    except zlib.error as error:
        raise web.HTTPBadRequest(text="the body cannot be decompressed") from error
    if len(plain) > MAX_BODY_BYTES:
        raise web.HTTPRequestEntityTooLarge(MAX_BODY_BYTES, len(plain))
    if not decompressor.eof:
        raise web.HTTPBadRequest(text="the compressed body is cut off")
    return plain


def _decoded(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise web.HTTPBadRequest(text="the body is not text in UTF-8") from error


def parse_json(text: str, max_containers: int = MAX_JSON_CONTAINERS) -> Any:
    """Parse JSON from outside.

    Raises `ValueError`, for too many or too deep containers as well.
    """
    if text.count("{") + text.count("[") > max_containers:
        raise ValueError("too many objects and arrays")
    try:
        return json.loads(text, parse_float=_parse_float)
    except RecursionError as error:
        raise ValueError("too many levels") from error


def _parse_float(text: str) -> float:
    return float(text) if len(text) <= MAX_FLOAT_CHARACTERS else math.nan


def is_unicode(text: str) -> bool:
    """Return whether text is Unicode.

    JSON can escape half a surrogate pair, and aiohttp represents bytes that are not UTF-8 as such.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
