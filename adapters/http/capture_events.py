"""``POST /sessions/{id}/capture-events``: what happened to the microphone of a client."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Any

from aiohttp import web

from adapters.http.bodies import JSON, is_unicode, read_json
from adapters.http.routes import SECRET, Route, key_in_path
from domain.errors import SessionUnknown, Unauthorized
from domain.services.server.sessions import SessionService
from domain.session.capture import MAX_TEXT_CHARACTERS, CaptureChange, CaptureEvent
from domain.session.messages import in_one_line

MAX_AT_ONCE = 50
"""Events in one request."""
_MAX_TIME_CHARACTERS = 40
_MAX_NAME_CHARACTERS = 20
_FIELDS = {"type", "position", "at", "seconds", "text"}
_CHANGES = {change.value: change for change in CaptureChange}


class CaptureHandlers:
    """Takes events from clients. Only the secret of its session opens the route."""

    def __init__(self, service: SessionService) -> None:
        self._service = service

    def routes(self) -> Sequence[Route]:
        return [
            Route(
                "POST", "/sessions/{id}/capture-events", self._add, None, JSON,
                session_key=key_in_path, secret_only=True,
            )
        ]  # fmt: skip

    async def _add(self, request: web.Request) -> web.StreamResponse:
        session_id = request.match_info["id"]
        self._check_secret(session_id, request[SECRET])  # before a body is read
        try:
            events = read_events(await read_json(request))
        except ValueError as error:
            raise web.HTTPBadRequest(text=str(error)) from error
        self._service.capture.add(session_id, events)
        return web.Response(status=204)

    def _check_secret(self, session_id: str, secret: str) -> None:
        try:
            is_right = self._service.session_of(secret) == session_id
        except SessionUnknown:
            is_right = False
        if not is_right:
            raise Unauthorized(
                "the bearer token is not the secret of this session, or the session is over"
            )


def read_events(body: dict[str, Any]) -> Sequence[CaptureEvent]:
    """Read the events of a request. Raises `ValueError`, for the whole request."""
    events = body.get("events")
    if not isinstance(events, list) or body.keys() != {"events"}:
        raise ValueError('the body has to be {"events": […]}')
    if len(events) > MAX_AT_ONCE:
        raise ValueError(f"a request has at most {MAX_AT_ONCE} events")
    return [_read_event(event) for event in events]


def _read_event(event: Any) -> CaptureEvent:
    if not isinstance(event, dict):
        raise ValueError("an event is an object")
    for name in event.keys() - _FIELDS:
        raise ValueError(f"an event has no field {name[:_MAX_NAME_CHARACTERS]!r}")
    what = event.get("type")
    if not isinstance(what, str) or what not in _CHANGES:
        raise ValueError(f"the type of an event is one of {', '.join(_CHANGES)}")
    position, seconds, text = event.get("position"), event.get("seconds"), event.get("text")
    if isinstance(position, bool) or not isinstance(position, int | None):
        raise ValueError("position has to be a whole number or null")
    if isinstance(seconds, bool) or not isinstance(seconds, int | float | None):
        raise ValueError("seconds has to be a number or null")
    if not isinstance(text, str | None):
        raise ValueError("text has to be text or null")
    try:
        taken = None if seconds is None else float(seconds)
    except OverflowError as error:  # an integer may have more digits than a float can represent
        raise ValueError("seconds are too many") from error
    return CaptureEvent(
        _CHANGES[what], _time(event.get("at")), position, taken, _line("" if text is None else text)
    )


def _line(text: str) -> str:
    """Return a text as one line. What names a device may have any characters."""
    if len(text) > MAX_TEXT_CHARACTERS or not is_unicode(text):
        raise ValueError(f"text is Unicode of at most {MAX_TEXT_CHARACTERS} characters")
    return in_one_line(text)


def _time(text: Any) -> datetime.datetime:
    """Read a time (RFC 3339). Raises `ValueError`."""
    try:
        if not isinstance(text, str) or len(text) > _MAX_TIME_CHARACTERS:
            raise ValueError
        time = datetime.datetime.fromisoformat(text)
        if time.tzinfo is None:
            raise ValueError
        return time.astimezone(datetime.UTC)
    except (ValueError, OverflowError) as error:
        raise ValueError("at has to be a time as RFC 3339 has it, with its zone") from error
