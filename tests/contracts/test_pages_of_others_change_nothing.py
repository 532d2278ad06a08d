"""What a page of another origin can do with a user's browser: nothing that its cookie allows."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from adapters.http.bodies import JSON
from adapters.http.routes import Route
from domain.session.roles import ALL_ROLES, Role
from tests.fakes.http import FakeSessions, http_server

TOKEN = "the_administrators_token"
PATH, SOCKET, SIGN_IN = "/api/things", "/api/socket", "/api/sign-in"
COOKIE = {"Cookie": f"gapless={TOKEN}"}
LISTED = "https://listed.example"
OFFER = {"sdp": "v=0", "type": "offer"}


class Things:
    """Counts what is changed."""

    def __init__(self) -> None:
        self.changes = 0

    def routes(self) -> list[Route]:
        return [
            Route("GET", PATH, self._get, Role.WATCH),
            Route("POST", PATH, self._change, Role.ADMIN, JSON),
            Route("DELETE", PATH, self._change, Role.ADMIN),
            Route("GET", SOCKET, self._socket, Role.WATCH),
        ]

    async def _get(self, _request: web.Request) -> web.StreamResponse:
        return web.json_response({"changes": self.changes})

    async def _change(self, _request: web.Request) -> web.StreamResponse:
        self.changes += 1
        return web.Response(status=204)

    async def _socket(self, request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.close()
        return socket


class Server:
    def __init__(self, url: str, http: aiohttp.ClientSession, things: Things) -> None:
        self.url = url
        self.http = http
        self.things = things

    @property
    def port(self) -> str:
        return self.url.rpartition(":")[2]

    async def send(
        self, method: str, path: str, headers: dict[str, str | None], **more: Any
    ) -> aiohttp.ClientResponse:
        """Send headers, except those that are None."""
        given = {name: text.replace("{port}", self.port) for name, text in headers.items() if text}
        async with self.http.request(method, self.url + path, headers=given, **more) as answer:
            await answer.read()
        assert "Access-Control-Allow-Credentials" not in answer.headers
        return answer

    async def status(self, *request: Any, **more: Any) -> int:
        return (await self.send(*request, **more)).status

    async def connect(self, headers: dict[str, str | None]) -> int:
        """Ask for a WebSocket; return the status."""
        key = {
            "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        }  # fmt: skip
        return await self.status("GET", SOCKET, headers | key)


@asynccontextmanager
async def serving(**options: Any) -> AsyncIterator[Server]:
    things = Things()
    server = http_server(FakeSessions(), more=[things], **options)
    url = await server.start()
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as http:
        yield Server(url, http, things)
    await server.stop()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with serving(tokens={TOKEN: ALL_ROLES}) as found:
        yield found


OWN, SIBLING = "http://127.0.0.1:{port}", "http://127.0.0.1:3000"
OWN_PAGE: list[dict[str, str | None]] = [
    {"Sec-Fetch-Site": "same-origin", "Origin": OWN},
    {"Sec-Fetch-Site": "same-origin"},
    # behind a proxy that nobody has named, the host is another; no script can set the other header
    {"Sec-Fetch-Site": "same-origin", "Origin": "https://public.example"},
    {"Origin": OWN},
]
OTHER_PAGE: list[dict[str, str | None]] = [
    {"Sec-Fetch-Site": site, "Origin": origin}
    for site in ("cross-site", "same-site", "Same-Origin", "same-origin, same-origin", "x")
    for origin in (None, SIBLING, "null", OWN)
] + [
    {"Origin": origin}
    for origin in (
        SIBLING, "null", "https://127.0.0.1:{port}", "http://127.0.0.1", "http://localhost:{port}",
        "http://127.0.0.1:{port}.evil.example", "http://evil.example", "http://[::1]:{port}",
        "http:", "http://x@127.0.0.1:{port}", "http://127.0.0.1:{port}/",
    )
]  # fmt: skip


@pytest.mark.parametrize("headers", OWN_PAGE)
async def test_a_page_of_the_server_may_do_what_the_cookie_allows(
    server: Server, headers: dict[str, str | None]
) -> None:
    for method, status in (("GET", 200), ("HEAD", 200), ("POST", 204), ("DELETE", 204)):
        assert await server.status(method, PATH, headers | COOKIE) == status
    assert server.things.changes == 2


@pytest.mark.parametrize("headers", OTHER_PAGE)
async def test_a_page_of_others_is_refused_with_the_cookie(
    server: Server, headers: dict[str, str | None]
) -> None:
    for method in ("GET", "HEAD", "POST", "DELETE", "PUT"):
        assert await server.status(method, PATH, headers | COOKIE) == 403
    assert await server.status("GET", "/api/no/such/path", headers | COOKIE) == 403
    assert await server.connect(headers | COOKIE) == (101 if headers["Origin"] == OWN else 403)
    assert server.things.changes == 0


async def test_without_knowing_the_page_a_cookie_changes_nothing(server: Server) -> None:
    assert await server.status("GET", PATH, {**COOKIE}) == 200
    for method in ("POST", "DELETE", "PUT"):
        assert await server.status(method, PATH, {**COOKIE}) == 403
    assert await server.connect({**COOKIE}) == 403
    assert server.things.changes == 0


async def test_an_address_that_is_typed_or_a_bookmark_shows_what_the_cookie_allows(
    server: Server,
) -> None:
    typed = {"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate"}
    assert await server.status("GET", PATH, COOKIE | typed) == 200
    assert await server.status("POST", PATH, COOKIE | typed) == 403
    assert server.things.changes == 0


@pytest.mark.parametrize(
    ("origin", "status"),
    [(OWN, 101), (SIBLING, 403), ("http://localhost:{port}", 403), ("null", 403), (None, 403)],
)
async def test_a_web_socket_with_the_cookie_is_for_the_servers_own_origin(
    server: Server, origin: str | None, status: int
) -> None:
    # the origin decides, whatever else a browser tells
    for site in (None, "same-origin", "none"):
        headers = {"Origin": origin, "Sec-Fetch-Site": site}
        assert await server.connect(headers | COOKIE) == status


async def test_a_page_that_shows_a_token_may_be_of_any_origin(server: Server) -> None:
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    for headers in OTHER_PAGE:
        assert await server.status("DELETE", PATH, headers | bearer) == 204
        assert await server.connect(headers | bearer) == 101


@pytest.mark.parametrize("headers", OTHER_PAGE)
async def test_a_page_of_others_signs_nobody_in_or_out(
    server: Server, headers: dict[str, str | None]
) -> None:
    for method, more in (("POST", {"json": {"token": TOKEN}}), ("DELETE", {})):
        answer = await server.send(method, SIGN_IN, headers | COOKIE, **more)
        assert answer.status == 403
        assert "Set-Cookie" not in answer.headers


async def test_behind_a_proxy_the_public_origin_counts() -> None:
    public = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "studio.example:443"}
    cookie = {"Cookie": f"__Host-gapless={TOKEN}"}
    own, inner = {"Origin": "https://studio.example"}, {"Origin": OWN}
    options: dict[str, Any] = {"tokens": {TOKEN: ALL_ROLES}}
    async with serving(**options, trusted_proxies=["127.0.0.1"]) as server:
        assert await server.status("DELETE", PATH, {**public, **cookie, **own}) == 204
        assert await server.connect({**public, **cookie, **own}) == 101
        for origin in (inner, {"Origin": "http://studio.example"}, {"Origin": "https://example"}):
            assert await server.status("DELETE", PATH, {**public, **cookie, **origin}) == 403
            assert await server.connect({**public, **cookie, **origin}) == 403
    async with serving(**options) as server:  # the same headers, from anybody
        assert await server.status("DELETE", PATH, {**public, **COOKIE, **own}) == 403


async def test_the_servers_own_pages_need_not_be_listed() -> None:
    async with serving(tokens={TOKEN: ALL_ROLES}, pages=[LISTED]) as server:
        assert await server.connect({"Origin": OWN} | COOKIE) == 101
        assert await server.status("DELETE", PATH, {"Origin": OWN} | COOKIE) == 204
        # a page that is listed has no use of the cookie, either
        assert await server.connect({"Origin": LISTED} | COOKIE) == 403
        assert await server.status("DELETE", PATH, {"Origin": LISTED} | COOKIE) == 403


# -- without tokens -------------------------------------------------------------------------------


@pytest.mark.parametrize("headers", [*OTHER_PAGE, {"Origin": LISTED}])
async def test_without_tokens_a_page_of_others_changes_nothing_of_the_api(
    headers: dict[str, str | None],
) -> None:
    async with serving() as server:
        for method in ("POST", "DELETE", "PUT"):
            # also with a token: a server that has none would take any text
            for bearer in ({}, {"Authorization": "Bearer x"}):
                assert await server.status(method, PATH, headers | bearer) == 403
        assert server.things.changes == 0


async def test_without_tokens_own_pages_programs_and_listed_pages_may_change_things() -> None:
    async with serving(pages=[LISTED]) as server:
        senders: list[dict[str, str | None]] = [{"Origin": LISTED, "Sec-Fetch-Site": "cross-site"}]
        for headers in [*OWN_PAGE, {}, *senders]:
            assert await server.status("DELETE", PATH, headers) == 204
        assert await server.status("DELETE", PATH, {"Origin": SIBLING}) == 403


async def test_without_tokens_pages_of_this_machine_may_watch_and_publish() -> None:
    page: dict[str, str | None] = {"Origin": SIBLING, "Sec-Fetch-Site": "same-site"}
    async with serving() as server:
        answer = await server.send("GET", PATH, page)
        assert answer.headers["Access-Control-Allow-Origin"] == SIBLING
        assert await server.connect(page) == 101
        assert await server.status("POST", "/offer", page, json=OFFER) == 200
        assert await server.status("DELETE", "/sessions/session", page) == 204


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "", None])
async def test_no_form_of_another_page_is_taken_for_json(kind: str | None) -> None:
    """Browsers send forms anywhere without asking, an old one without saying from where."""
    async with serving() as server:
        for path in ("/offer", "/ice-candidate", "/whip", SIGN_IN):
            data = b'{"sdp": "v=0", "type": "offer", "token": "x"}'
            headers = {"Content-Type": kind}
            skip = [] if kind else ["Content-Type"]
            assert await server.status(
                "POST", path, headers, data=data, skip_auto_headers=skip
            ) in (400, 415)
