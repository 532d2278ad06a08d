"""``/api/sign-in``: for the browser of somebody who has a token, and types it once."""

from __future__ import annotations

from collections.abc import Sequence

from aiohttp import web

from adapters.http.access import Access, Identity, identity_of
from adapters.http.bodies import JSON, read_json
from adapters.http.cookies import MAX_BYTES, fits_cookie, remove_cookie, set_cookie
from adapters.http.operations import Content, Operation, Schema
from adapters.http.routes import Route
from domain.errors import GrantInvalid
from domain.session.roles import Role

PATH = "/api/sign-in"
SIGN_IN: Schema = {
    "title": "SignIn",
    "type": "object",
    "properties": {"token": {"type": "string", "description": "Of the role watch or admin."}},
    "required": ["token"],
    "additionalProperties": False,
}
SIGNED_IN: Schema = {
    "title": "SignedIn",
    "type": "object",
    "properties": {
        "role": {"type": "string", "enum": ["watch", "admin"]},
        "name": {"type": "string", "description": "Of the token; empty without one."},
        "needs_token": {
            "type": "boolean",
            "description": "false: the server has no tokens, and whoever reaches it may do all.",
        },
    },
    "required": ["role", "name", "needs_token"],
    "additionalProperties": False,
}


class SignInHandlers:
    """Keeps a token in a cookie, which scripts cannot read."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def routes(self) -> Sequence[Route]:
        return [
            Route("POST", PATH, self._sign_in, None, JSON, operation=_SIGN_IN),
            Route("GET", PATH, self._who, Role.WATCH, operation=_WHO),
            Route("DELETE", PATH, self._sign_out, None, operation=_SIGN_OUT),
        ]

    async def _sign_in(self, request: web.Request) -> web.StreamResponse:
        self._access.check_page(request)
        token = (await read_json(request)).get("token")
        if not isinstance(token, str):
            raise GrantInvalid('a sign-in is {"token": "…"}')
        token = token.strip()
        identity = await self._access.sign_in(request, token)
        response = _answer(identity)
        if identity.needs_token:
            if not fits_cookie(token):
                raise GrantInvalid(f"this token is too long for a cookie ({MAX_BYTES} bytes)")
            set_cookie(request, response, token)
        return response

    async def _who(self, request: web.Request) -> web.StreamResponse:
        return _answer(identity_of(request))

    async def _sign_out(self, request: web.Request) -> web.StreamResponse:
        self._access.check_page(request)
        response = web.Response(status=204)
        remove_cookie(request, response)
        return response


def _answer(identity: Identity) -> web.Response:
    return web.json_response(
        {
            "role": identity.role.value,
            "name": identity.name,
            "needs_token": identity.needs_token,
        }
    )


_TAG = "sign-in"
_SIGN_IN = Operation(
    name="signIn",
    tag=_TAG,
    summary="Sign a browser in: its cookie is as good as the token, for pages of this server",
    body=Content(schema=SIGN_IN),
    answers={200: Content(text="Signed in.", schema=SIGNED_IN)},
    problems=[400, 401, 403, 415, 429],
)
_WHO = Operation(
    name="getSignedIn",
    tag=_TAG,
    summary="As whom a browser is signed in, or whose token a request has",
    answers={200: Content(text="It is signed in.", schema=SIGNED_IN)},
)
_SIGN_OUT = Operation(
    name="signOut",
    tag=_TAG,
    summary="Sign a browser out. The token stays valid until it is revoked",
    answers={204: Content(text="Signed out.")},
    problems=[403],
)
