"""Signed tokens and invitations: ``/api/tokens``, ``/api/invitations``."""

from __future__ import annotations

import asyncio
import datetime
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from aiohttp import web

from adapters.http.api.qr import qr_rows
from adapters.http.bodies import JSON, is_unicode, read_json
from adapters.http.callers import public_url_of
from adapters.http.operations import Content, Operation, Parameter, Schema
from adapters.http.routes import Route
from domain.errors import GrantInvalid, QueryInvalid
from domain.ports.tokens import KnownToken
from domain.services.server.tokens import Issued, TokenService
from domain.session.grants import (
    MAX_EXPIRES_S,
    MAX_ID_CHARACTERS,
    MAX_TEXT_CHARACTERS,
    Grant,
    roles_named,
)
from domain.session.roles import Role
from domain.session.rooms import MAX_ROOM_CHARACTERS

INVITATION_S = 7 * 86_400.0
"""How long an invitation is valid, if nothing else is asked for."""
MAX_PAGE = 100
_INVITATION = "invitation"
_ROLES = [role.value for role in Role]

_NULLABLE_TEXT: Schema = {"type": ["string", "null"]}
_NULLABLE_TIME: Schema = {"type": ["string", "null"], "format": "date-time"}
_EXPIRES: Schema = {"type": "number", "exclusiveMinimum": 0, "maximum": MAX_EXPIRES_S}
_ASKED_NAME: Schema = {"type": "string", "maxLength": MAX_TEXT_CHARACTERS}
_ASKED_ROOM: Schema = {"type": "string", "maxLength": MAX_ROOM_CHARACTERS}
_TOKEN_FIELDS: Mapping[str, Schema] = {
    "id": {"type": "string", "description": "By which it is revoked."},
    "sub": {"type": "string", "description": "What logs call its bearer."},
    "role": {"type": ["string", "null"], "description": "null: a token of others, revoked here."},
    "name": {**_NULLABLE_TEXT, "description": "The only name of its sessions."},
    "room": {**_NULLABLE_TEXT, "description": "The only room of its sessions."},
    "once": {"type": "boolean", "description": "Whether it opens one session only."},
    "issued": _NULLABLE_TIME,
    "expires": _NULLABLE_TIME,
    "revoked": {**_NULLABLE_TIME, "description": "null: it is not revoked."},
    "used": {**_NULLABLE_TIME, "description": "When it opened its one session."},
}


def _object(title: str, fields: Mapping[str, Schema], required: Sequence[str]) -> Schema:
    return {
        "title": title,
        "type": "object",
        "properties": dict(fields),
        "required": list(required),
        "additionalProperties": False,
    }


TOKEN = _object("Token", _TOKEN_FIELDS, [*_TOKEN_FIELDS])
NEW_TOKEN = _object(
    "NewToken",
    {"token": {"type": "string", "description": "Its text, shown once."}, **_TOKEN_FIELDS},
    ["token", *_TOKEN_FIELDS],
)
TOKEN_PAGE = _object(
    "TokenPage",
    {
        "tokens": {"type": "array", "items": TOKEN},
        "next": {**_NULLABLE_TEXT, "description": "`before` of the next page; null: the last."},
    },
    ["tokens", "next"],
)
TOKEN_REQUEST = _object(
    "TokenRequest",
    {
        "role": {"type": "string", "enum": _ROLES},
        "sub": {**_ASKED_NAME, "description": "What logs call its bearer; by default the name."},
        "name": _ASKED_NAME,
        "room": _ASKED_ROOM,
        "once": {"type": "boolean"},
        "expires_s": _EXPIRES,
    },
    ["role"],
)
INVITATION_REQUEST = _object(
    "InvitationRequest",
    {"name": _ASKED_NAME, "room": _ASKED_ROOM, "once": {"type": "boolean"}, "expires_s": _EXPIRES},
    [],
)
INVITATION = _object(
    "Invitation",
    {
        "url": {"type": "string", "description": "The link; its fragment has the token."},
        "id": {"type": "string", "description": "Of the token, to revoke it."},
        "expires": {"type": "string", "format": "date-time"},
        "qr": {
            "type": ["array", "null"],
            "items": {"type": "string", "pattern": "^[01]+$"},
            "description": "The link as a QR code: its rows, with 1 for each dark module and 0 for "
            "each light one, without the quiet zone. null: the link is too long for one.",
        },
    },
    ["url", "id", "expires", "qr"],
)


class TokenHandlers:
    """Issues, lists and revokes tokens, for administrators."""

    def __init__(self, service: TokenService) -> None:
        self._service = service

    def routes(self) -> Sequence[Route]:
        admin, path = Role.ADMIN, "/api/tokens"
        return [
            Route("POST", path, self._issue, admin, JSON, operation=_ISSUE),
            Route("GET", path, self._list, admin, operation=_LIST),
            Route("DELETE", f"{path}/{{id}}", self._revoke, admin, operation=_REVOKE),
            Route("POST", "/api/invitations", self._invite, admin, JSON, operation=_INVITE),
        ]

    async def _issue(self, request: web.Request) -> web.StreamResponse:
        body = await _read(request, TOKEN_REQUEST)
        role = body.get("role")
        if not isinstance(role, str):
            raise GrantInvalid("role has to be publish, watch or admin")
        issued = await self._issued(body, role, sub=body.get("sub"), default_s=None)
        known = KnownToken(grant=issued.grant, id=issued.grant.id)
        return _json({"token": issued.text, **_token_json(known)}, status=201)

    async def _invite(self, request: web.Request) -> web.StreamResponse:
        url = public_url_of(request)
        body = await _read(request, INVITATION_REQUEST)
        sub = body.get("name") or _INVITATION
        publish = Role.PUBLISH.value
        issued = await self._issued(body, publish, sub=sub, default_s=INVITATION_S)
        grant = issued.grant
        # browsers send the fragment of a URL to nobody
        link = f"{url}/#token={issued.text}"
        answer = {
            "url": link,
            "id": grant.id,
            "expires": _time(grant.expires_at),
            "qr": await asyncio.to_thread(qr_rows, link),
        }
        return _json(answer, status=201)

    async def _issued(
        self, body: Mapping[str, Any], role: str, *, sub: Any, default_s: float | None
    ) -> Issued:
        once = body.get("once")
        if not isinstance(once, bool | None):
            raise GrantInvalid("once has to be true or false")
        name, room = _optional(body, "name"), _optional(body, "room")
        if not isinstance(sub, str | None):
            raise GrantInvalid("sub has to be text")
        grant = Grant(
            # the service replaces the id
            id="new",
            roles=roles_named({role}),
            subject=(name or "") if sub is None else sub,
            name=name,
            room=room,
            once=bool(once),
        )
        return await self._service.issue(grant, expires_s=_expires_s(body, default_s))

    async def _list(self, request: web.Request) -> web.StreamResponse:
        limit = _limit(request)
        before = _id(request.query.get("before", "")) or None
        found = await self._service.page(limit=limit + 1, before=before)
        page = found[:limit]
        following = page[-1].id if len(found) > limit else None
        return _json({"tokens": [_token_json(known) for known in page], "next": following})

    async def _revoke(self, request: web.Request) -> web.StreamResponse:
        await self._service.revoke(_id(request.match_info["id"]))
        return web.Response(status=204)


async def _read(request: web.Request, schema: Schema) -> dict[str, Any]:
    """Read a JSON object. Raises `GrantInvalid` for fields that its schema does not have."""
    body = await read_json(request)
    # a limit that is misspelled must not be left out
    for name in body.keys() - schema["properties"].keys():
        raise GrantInvalid(f"there is no field {name[:MAX_TEXT_CHARACTERS]!r}")
    return body


def _optional(body: Mapping[str, Any], name: str) -> str | None:
    value = body.get(name)
    if not isinstance(value, str | None):
        raise GrantInvalid(f"{name} has to be text")
    return value


def _expires_s(body: Mapping[str, Any], default_s: float | None) -> float | None:
    value = body.get("expires_s")
    if value is None:
        return default_s
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    try:
        seconds = float(value) if is_number else math.nan
    except OverflowError:  # an integer may have more digits than a float can represent
        seconds = math.inf
    if not math.isfinite(seconds):
        raise GrantInvalid("expires_s has to be a number of seconds")
    return seconds


def _id(text: str) -> str:
    """Check an id that a request names. Raises `QueryInvalid`."""
    if len(text) > MAX_ID_CHARACTERS or not is_unicode(text):
        raise QueryInvalid(f"an id is Unicode of at most {MAX_ID_CHARACTERS} characters")
    return text


def _limit(request: web.Request) -> int:
    text = request.query.get("limit", str(MAX_PAGE))
    if not (text.isascii() and text.isdigit() and len(text) < 5 and 0 < int(text) <= MAX_PAGE):
        raise QueryInvalid(f"limit has to be a number from 1 to {MAX_PAGE}")
    return int(text)


def _token_json(known: KnownToken) -> dict[str, Any]:
    grant = known.grant
    return {
        "id": known.id,
        "sub": "" if grant is None else grant.subject,
        "role": None if grant is None else ",".join(sorted(role.value for role in grant.roles)),
        "name": None if grant is None else grant.name,
        "room": None if grant is None else grant.room,
        "once": grant is not None and grant.once,
        "issued": _time(None if grant is None else grant.issued_at),
        "expires": _time(None if grant is None else grant.expires_at),
        "revoked": _time(known.revoked_at),
        "used": _time(known.used_at),
    }


def _time(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    at = datetime.datetime.fromtimestamp(seconds, tz=datetime.UTC)
    return at.isoformat(timespec="seconds").replace("+00:00", "Z")


def _json(body: Mapping[str, Any], *, status: int = 200) -> web.Response:
    return web.json_response(
        text=json.dumps(body, ensure_ascii=False), status=status, content_type=JSON
    )


_TAG = "tokens"
_ISSUE = Operation(
    name="issueToken",
    tag=_TAG,
    summary="Issue a token; name, room and once are for the role publish only",
    body=Content(schema=TOKEN_REQUEST),
    answers={201: Content(text="The token.", schema=NEW_TOKEN)},
    problems=[400, 507],
)
_LIST = Operation(
    name="listTokens",
    tag=_TAG,
    summary="Tokens that were issued or revoked, the newest first",
    parameters=[
        Parameter(
            name="limit",
            text="How many at most.",
            schema={"type": "integer", "minimum": 1, "maximum": MAX_PAGE, "default": MAX_PAGE},
        ),
        Parameter(name="before", text="`next` of the page before."),
    ],
    answers={200: Content(text="A page.", schema=TOKEN_PAGE)},
    problems=[400, 507],
)
_REVOKE = Operation(
    name="revokeToken",
    tag=_TAG,
    summary="Revoke a token at once; also one of another issuer, which is not known yet",
    answers={204: Content(text="It is revoked.")},
    problems=[400, 507],
)
_INVITE = Operation(
    name="invite",
    tag=_TAG,
    summary="Make a link with which somebody can publish",
    body=Content(schema=INVITATION_REQUEST),
    answers={201: Content(text="The link.", schema=INVITATION)},
    problems=[400, 507],
)
