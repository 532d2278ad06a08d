"""Reads bodies of requests, with a limit on size and time, as text or as JSON."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from aiohttp import web

JSON = "application/json"
MAX_BODY_BYTES = 256 * 1024
BODY_S = 10.0
"""How long a body may take to arrive; aiohttp itself would wait forever."""


async def read_body(request: web.Request) -> bytes:
    """Read the body; a second call returns the same bytes.

    Raises `HTTPRequestTimeout`, `HTTPRequestEntityTooLarge` or `HTTPBadRequest`.
    """
    try:
        async with asyncio.timeout(BODY_S):
            return await request.read()
    except TimeoutError:
        raise web.HTTPRequestTimeout(text=f"the body took longer than {BODY_S:g} s") from None
    except (ValueError, web.RequestPayloadError, ConnectionError) as error:
        raise web.HTTPBadRequest(text="the body cannot be read") from error


async def read_text(request: web.Request, content_type: str) -> str:
    """Read a body that must have a media type.

    Raises `HTTPUnsupportedMediaType`, and what `read_body` raises.
    """
    # A web page of another origin cannot send these types without a CORS preflight.
    if request.content_type != content_type:
        headers = {f"Accept-{request.method.title()}": content_type}
        raise web.HTTPUnsupportedMediaType(
            text=f"the body has to be {content_type}", headers=headers
        )
    await read_body(request)
    try:
        text = await request.text()
        text.encode()  # a charset such as UTF-7 can decode to half a surrogate pair
    except (ValueError, LookupError) as error:
        raise web.HTTPBadRequest(text="the body is not text") from error
    return text


async def read_json(request: web.Request) -> dict[str, Any]:
    """Read a JSON object. Raises `HTTPBadRequest`, and what `read_text` raises."""
    try:
        body = json.loads(await read_text(request, JSON))
    except (ValueError, RecursionError) as error:
        raise web.HTTPBadRequest(text="the body is not JSON") from error
    if not isinstance(body, dict):
        raise web.HTTPBadRequest(text="the body is not a JSON object")
    if any(isinstance(value, str) and not _is_unicode(value) for value in body.values()):
        raise web.HTTPBadRequest(text="the body has text that is not Unicode")
    return body


async def peek_json(request: web.Request) -> dict[str, Any]:
    """Read a JSON object; return an empty one for anything else.

    Raises what `read_body` raises.
    """
    try:
        body = json.loads(await read_body(request))
    except (ValueError, RecursionError):
        return {}
    return body if isinstance(body, dict) else {}


def _is_unicode(text: str) -> bool:
    """Return whether text is Unicode: JSON can escape half a surrogate pair, which is not."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
