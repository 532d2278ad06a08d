"""Restoring over HTTP: what is wanted, pieces of captured sound, and all that was captured.

Only the secret of its session opens these routes. It is compared before a body is read, so that
strangers take no memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from aiohttp import web

from adapters.http.bodies import JSON, check_media_type, parse_object
from adapters.http.digests import CONTENT_DIGEST, has_digests, parse_digests
from adapters.http.restore_json import (
    MAX_MISSING,
    MAX_POSITION,
    read_captured,
    write_ranges,
    write_wanted,
)
from adapters.http.routes import SECRET, Route, key_in_path
from adapters.http.uploads import Uploads
from domain.recording.ledger import RestoreState
from domain.recording.restoring import Captured
from domain.services.server.restoring import RestoreService

FLAC = "audio/flac"
MAX_PIECE_BYTES = 12 * 1024 * 1024
"""Noise that FLAC cannot make smaller, in eight channels of 24 bits, takes 11.5 MB for the longest
piece (`MAX_PIECE_SAMPLES`). The rest is for FLAC's headers."""
MAX_CAPTURED_BYTES = 640 * 1024
"""`MAX_MISSING` ranges take up to 60 bytes each."""
_INLINE_BYTES = 32 * 1024
"""Longer bodies are worked on in a thread: the digest of 12 MB takes up to 50 ms."""

_T = TypeVar("_T")


class PieceHandlers:
    """Translates between HTTP and the restoring of recordings."""

    def __init__(self, service: RestoreService) -> None:
        self._service = service
        self._uploads = Uploads()

    def routes(self) -> Sequence[Route]:
        session = "/sessions/{id}"
        return [
            Route(
                "GET", f"{session}/wanted", self._wanted, None,
                session_key=key_in_path, secret_only=True,
            ),
            Route(
                "PUT", f"{session}/sound/{{start}}", self._put, None, FLAC,
                session_key=key_in_path, secret_only=True, is_upload=True,
            ),
            Route(
                "POST", f"{session}/captured", self._captured, None, JSON,
                session_key=key_in_path, secret_only=True, is_upload=True,
            ),
        ]  # fmt: skip

    async def _wanted(self, request: web.Request) -> web.StreamResponse:
        wanted = await self._service.wanted(request.match_info["id"], request[SECRET])
        return web.json_response(write_wanted(wanted))

    async def _put(self, request: web.Request) -> web.StreamResponse:
        session_id, secret = request.match_info["id"], request[SECRET]
        await self._service.wanted(session_id, secret)  # raises for strangers
        check_media_type(request, FLAC)
        start = _position(request.match_info["start"])
        try:
            digests = parse_digests(", ".join(request.headers.getall(CONTENT_DIGEST, [])))
        except ValueError as error:
            raise web.HTTPBadRequest(text=str(error)) from error
        async with self._uploads.receive(request, session_id, max_bytes=MAX_PIECE_BYTES) as flac:
            if not await _beside_the_loop(has_digests, flac, digests):
                raise web.HTTPBadRequest(text=f"the body does not have its {CONTENT_DIGEST}")
            await self._service.put(session_id, secret, start, flac)
        return web.Response(status=204)

    async def _captured(self, request: web.Request) -> web.StreamResponse:
        session_id, secret = request.match_info["id"], request[SECRET]
        await self._service.wanted(session_id, secret)  # raises for strangers
        check_media_type(request, JSON)
        async with self._uploads.receive(request, session_id, max_bytes=MAX_CAPTURED_BYTES) as body:
            captured = await _beside_the_loop(_parse_captured, body)
        confirmed = await self._service.captured(session_id, secret, captured)
        if confirmed.ranges or confirmed.state == RestoreState.LIVE.value:
            reason = "sound is still wanted" if confirmed.ranges else "the session has not ended"
            body_of_refusal = {
                "error": reason,
                "state": confirmed.state,
                "ranges": write_ranges(confirmed.ranges),
            }
            return web.json_response(body_of_refusal, status=409)
        return web.json_response({"state": confirmed.state, "sha256": confirmed.sha256})


async def _beside_the_loop(work: Callable[..., _T], body: bytes, *more: Any) -> _T:
    """Work on a body, in a thread if it is long."""
    if len(body) > _INLINE_BYTES:
        return await asyncio.to_thread(work, body, *more)
    return work(body, *more)


def _parse_captured(body: bytes) -> Captured:
    try:
        return read_captured(parse_object(body, max_containers=MAX_MISSING + 2))
    except ValueError as error:
        raise web.HTTPBadRequest(text=str(error)) from error


def _position(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 16 and int(text) <= MAX_POSITION):
        raise web.HTTPBadRequest(text=f"a position is a whole number from 0 to {MAX_POSITION}")
    return int(text)
