"""Errors as problem details (RFC 9457): what every route of the API answers when it refuses."""

from __future__ import annotations

import http
from collections.abc import Mapping

from aiohttp import web

from adapters.http.operations import Schema

MEDIA_TYPE = "application/problem+json"
PREFIX = "/api"

PROBLEM: Schema = {
    "title": "Problem",
    "type": "object",
    "properties": {
        "type": {"type": "string", "description": "Always about:blank: the status says it all."},
        "title": {"type": "string", "description": "The name of the status."},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "What is wrong, in words."},
    },
    "required": ["type", "title", "status", "detail"],
    "additionalProperties": False,
}


def is_of_api(path: str) -> bool:
    """Return whether a path belongs to the API."""
    return path == PREFIX or path.startswith(f"{PREFIX}/")


def problem(status: int, text: str, headers: Mapping[str, str]) -> web.Response:
    """Make the answer to a request that is refused."""
    try:
        title = http.HTTPStatus(status).phrase
    except ValueError:
        title = "Error"
    return web.json_response(
        {"type": "about:blank", "title": title, "status": status, "detail": text},
        status=status,
        headers=headers,
        content_type=MEDIA_TYPE,
    )
