"""A browser signs in with a token, and its cookie is as good as the token until that is revoked."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
import yarl
from aiohttp import web

from adapters.http.callers import caller_of
from adapters.http.cookies import MAX_BYTES
from adapters.http.refusals import FREE_TOKENS
from adapters.http.routes import Route, key_in_path
from adapters.http.streams import CHECK_S
from domain.events import Event
from domain.ports.placement import KnownSession, Node
from domain.services.server.tokens import TokenService
from domain.session.grants import Grant
from domain.session.roles import ALL_ROLES, Role
from tests.fakes.http import FakeSessions, http_server, token_service
from tests.fakes.placement import FakePlacement

WATCH, ADMIN, PUBLISH = "the watchers' token; ä=1", "the administrators' token", "a publisher's one"
TOKENS = {
    WATCH: frozenset({Role.WATCH, Role.PUBLISH}),
    ADMIN: ALL_ROLES,
    PUBLISH: frozenset({Role.PUBLISH}),
}
PATH = "/api/sign-in"


class Things:
    """Routes of the API: one for each role, and one whose answer goes on."""

    def routes(self) -> list[Route]:
        return [
            Route("GET", "/api/things", self._get, Role.WATCH),
            Route("DELETE", "/api/things", self._get, Role.ADMIN),
            Route(
                "GET", "/api/things/{id}/socket", self._socket, Role.WATCH,
                session_key=key_in_path, is_streamed=True,
            ),
            Route("DELETE", "/api/things/{id}", self._get, Role.ADMIN, session_key=key_in_path),
            Route("GET", "/api/ticks", self._ticks, Role.WATCH, is_streamed=True),
            Route("GET", "/things", self._get, Role.WATCH),
        ]  # fmt: skip

    async def _get(self, request: web.Request) -> web.StreamResponse:
        return web.json_response(
            {"token": caller_of(request).token, "cookie": request.headers.get("Cookie")}
        )

    async def _socket(self, request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_str(caller_of(request).token)
        await socket.close()
        return socket

    async def _ticks(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            while True:
                await response.write(b"tick\n")
                await asyncio.sleep(0.02)
        return response


@dataclass
class Seen:
    events: list[Event] = field(default_factory=list)

    def publish(self, event: Event) -> None:
        self.events.append(event)


@dataclass
class Browser:
    """Sends what a page of the server sends; keeps its cookies."""

    url: str
    signed: TokenService
    http: aiohttp.ClientSession
    seen: Seen

    async def send(
        self, method: str, path: str, *, headers: dict[str, str] | None = None, **more: Any
    ) -> tuple[int, Any, list[str]]:
        """Return status, JSON and the lines of Set-Cookie."""
        given = {"Origin": self.url, "Sec-Fetch-Site": "same-origin"} | (headers or {})
        async with self.http.request(method, self.url + path, headers=given, **more) as answer:
            is_json = "json" in answer.headers.get("Content-Type", "")
            body = await answer.json(content_type=None) if is_json else None
            return answer.status, body, answer.headers.getall("Set-Cookie", [])

    async def sign_in(self, token: str) -> tuple[int, Any, list[str]]:
        return await self.send("POST", PATH, json={"token": token})

    async def issue(self, *roles: Role, subject: str = "Ana") -> tuple[str, str]:
        """Return a token and its id."""
        grant = Grant(id="new", roles=frozenset(roles), subject=subject)
        issued = await self.signed.issue(grant, expires_s=600)
        return issued.text, issued.grant.id


@asynccontextmanager
async def browsing(**options: Any) -> AsyncIterator[Browser]:
    signed, seen = token_service(), Seen()
    options = {"tokens": TOKENS, "more": [Things()]} | options
    server = http_server(FakeSessions(), signed=signed, events=seen, **options)
    url = await server.start()
    jar = aiohttp.CookieJar(unsafe=True)  # of an IP address, too
    async with aiohttp.ClientSession(cookie_jar=jar) as http:
        yield Browser(url, signed, http, seen)
    await server.stop()
    signed.close()


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with browsing() as found:
        yield found


@pytest.mark.parametrize(("token", "role"), [(WATCH, "watch"), (ADMIN, "admin")])
async def test_the_cookie_has_the_roles_of_the_token(
    browser: Browser, token: str, role: str
) -> None:
    who = {"role": role, "name": f"{token} token", "needs_token": True}
    assert (await browser.send("GET", PATH))[0] == 401
    assert (await browser.send("GET", "/api/things"))[0] == 401
    status, body, (cookie,) = await browser.sign_in(f" {token}\n")
    assert (status, body) == (200, who)
    name, _, attributes = cookie.partition("=")
    assert name == "gapless"
    # no Expires, and no Domain: other hosts do not get it
    assert attributes.split("; ")[1:] == ["Path=/", "HttpOnly", "SameSite=Strict"]
    assert (await browser.send("GET", PATH))[:2] == (200, who)
    found = {"token": f"{token} token", "cookie": browser_cookie(cookie)}
    assert (await browser.send("GET", "/api/things"))[:2] == (200, found)
    assert (await browser.send("DELETE", "/api/things"))[0] == (200 if role == "admin" else 403)
    status, _, (cookie,) = await browser.send("DELETE", PATH)
    assert status == 204
    assert "Max-Age=0" in cookie
    assert (await browser.send("GET", PATH))[0] == 401


def browser_cookie(line: str) -> str:
    return line.partition(";")[0]


async def test_a_signed_token_signs_in_under_its_bearers_name(browser: Browser) -> None:
    token, _ = await browser.issue(Role.WATCH)
    assert (await browser.sign_in(token))[:2] == (
        200,
        {"role": "watch", "name": "Ana", "needs_token": True},
    )
    assert (await browser.send("GET", "/api/things"))[0] == 200


async def test_whose_token_a_program_has_is_told_it(browser: Browser) -> None:
    for token, status in ((WATCH, 200), (ADMIN, 200), (PUBLISH, 403), ("wrong", 401)):
        bearer = {"Authorization": f"Bearer {token}".encode().decode("latin-1")}
        if token != WATCH:  # no header has its letters
            assert (await browser.send("GET", PATH, headers=bearer))[0] == status


@pytest.mark.parametrize("body", [{}, {"token": 1}, {"token": None}, [], {"token": "\ud800"}])
async def test_what_is_no_sign_in_is_refused(browser: Browser, body: Any) -> None:
    status, _, cookies = await browser.send("POST", PATH, json=body)
    assert (status, cookies) == (400, [])


async def test_a_token_for_publishing_signs_nobody_in(browser: Browser) -> None:
    for token in (PUBLISH, (await browser.issue(Role.PUBLISH))[0]):
        status, body, cookies = await browser.sign_in(token)
        assert (status, cookies) == (403, [])
        assert "neither" in body["detail"]


async def test_a_token_too_long_for_a_cookie_is_refused() -> None:
    long = "a" * (MAX_BYTES + 1)
    async with browsing(tokens={long: ALL_ROLES, long[1:]: ALL_ROLES}) as browser:
        status, body, cookies = await browser.sign_in(long)
        assert (status, cookies) == (400, [])
        assert "too long" in body["detail"]
        assert (await browser.sign_in(long[1:]))[0] == 200
        assert (await browser.send("GET", "/api/things"))[0] == 200


@pytest.mark.parametrize("how", ["sign-in", "cookie"])
async def test_guesses_have_to_wait_whichever_way_they_come(browser: Browser, how: str) -> None:
    async def guess(number: int) -> int:
        if how == "sign-in":
            return (await browser.sign_in(f"guess {number}"))[0]
        cookie = {"Cookie": f"gapless=guess{number}"}
        return (await browser.send("GET", "/api/things", headers=cookie))[0]

    assert [await guess(number) for number in range(FREE_TOKENS)] == [401] * FREE_TOKENS
    assert 429 in [await guess(number) for number in range(5)]
    assert (await browser.sign_in(WATCH))[0] == 200
    assert (await browser.send("GET", "/api/things"))[0] == 200


async def test_a_cookie_is_no_bearer_token_outside_of_the_api(browser: Browser) -> None:
    await browser.sign_in(ADMIN)
    offer = {"sdp": "v=0", "type": "offer"}
    sdp = {"Content-Type": "application/sdp"}
    assert (await browser.send("POST", "/offer", json=offer))[0] == 401
    assert (await browser.send("POST", "/whip", data="v=0", headers=sdp))[0] == 401
    assert (await browser.send("DELETE", "/sessions/session"))[0] == 401
    assert (await browser.send("PUT", "/sessions/session/sound/0", data=b""))[0] == 401
    assert (await browser.send("GET", "/sessions/session/wanted"))[0] == 401
    assert (await browser.send("GET", "/things"))[0] == 401
    status, body, _ = await browser.send("GET", "/health")
    assert (status, body) == (200, {"status": "ok"})
    # nor where it is spelled as if it were inside
    for path in ("/api/../offer", "/api/%2e%2e/offer", "//api/offer"):
        url = yarl.URL(browser.url + path, encoded=True)
        async with browser.http.post(url, json=offer) as answer:
            assert answer.status in (401, 403)


async def test_a_secret_of_a_session_in_a_cookie_opens_nothing() -> None:
    secret = "ab" * 32
    async with browsing() as browser:
        headers = {"Cookie": f"gapless={secret}"}
        assert (await browser.send("DELETE", "/sessions/session", headers=headers))[0] == 401
        assert (await browser.send("GET", "/api/things", headers=headers))[0] == 401


async def test_an_authorization_header_comes_before_a_cookie(browser: Browser) -> None:
    await browser.sign_in(WATCH)
    for header, status in (("Bearer wrong", 401), ("Basic eDp5", 401), (f"Bearer {ADMIN}", 200)):
        headers = {"Authorization": header}
        assert (await browser.send("GET", "/api/things", headers=headers))[0] == status


@pytest.mark.parametrize(
    ("cookies", "status"),
    [
        ("other=1; gapless={admin} ;x=y", 200),
        ("gapless={admin}; gapless={admin}", 200),
        # whose it is, nobody can know: both are right
        ("gapless={admin}; gapless={watch}", 401),
        ("gapless={watch}; gapless={admin}", 401),
        ("gapless=%ff", 401),
        ("gapless", 401),
        ("gapless=", 401),
    ],
)
async def test_a_cookie_that_is_none_or_several_signs_nobody_in(
    browser: Browser, cookies: str, status: int
) -> None:
    cookie = cookies.format(admin=quote(ADMIN), watch=quote(WATCH))
    assert (await browser.send("GET", "/api/things", headers={"Cookie": cookie}))[0] == status


async def test_a_server_without_tokens_says_that_nobody_has_to_sign_in() -> None:
    who = {"role": "admin", "name": "", "needs_token": False}
    async with browsing(tokens={}) as browser:
        assert (await browser.send("GET", PATH))[:2] == (200, who)
        assert await browser.sign_in("anything") == (200, who, [])


async def test_over_https_the_cookie_is_bound_to_the_host_and_encrypted() -> None:
    public = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "studio.example"}
    page = public | {"Origin": "https://studio.example"}
    async with browsing(trusted_proxies=("127.0.0.1",)) as browser:
        _, _, (cookie,) = await browser.send("POST", PATH, json={"token": ADMIN}, headers=page)
        assert cookie.startswith("__Host-gapless=")
        assert cookie.split("; ")[1:] == ["Path=/", "HttpOnly", "SameSite=Strict", "Secure"]
        pair = browser_cookie(cookie)
        assert (await browser.send("GET", PATH, headers=page | {"Cookie": pair}))[0] == 200
        # one without the prefix may come from a page that is not encrypted
        plain = page | {"Cookie": pair.removeprefix("__Host-")}
        assert (await browser.send("GET", PATH, headers=plain))[0] == 401
        _, _, (cookie,) = await browser.send("DELETE", PATH, headers=page)
        assert cookie.startswith("__Host-gapless=; ")
    async with browsing() as browser:  # what only a proxy may say
        _, _, (cookie,) = await browser.send("POST", PATH, json={"token": ADMIN}, headers=public)
        assert cookie.startswith("gapless=")


async def test_what_goes_on_ends_within_a_second_of_the_end_of_its_token(browser: Browser) -> None:
    token, token_id = await browser.issue(Role.WATCH)
    await browser.sign_in(token)
    async with browser.http.get(f"{browser.url}/api/ticks") as stream:
        assert await stream.content.readline() == b"tick\n"
        await asyncio.sleep(CHECK_S)  # the check has begun
        await browser.signed.revoke(token_id)
        began = time.monotonic()
        with contextlib.suppress(aiohttp.ClientError):
            async with asyncio.timeout(20):
                while await stream.content.readline():
                    pass
        assert time.monotonic() - began < CHECK_S + 1  # on a slow machine
    status, body, _ = await browser.send("GET", PATH)
    assert status == 401
    assert "revoked" in body["detail"]
    assert (await browser.sign_in(token))[0] == 401


async def test_neither_cookie_nor_token_is_logged_or_told(
    browser: Browser, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    asyncio.get_running_loop().set_debug(True)
    token, token_id = await browser.issue(Role.WATCH)
    await browser.sign_in(token)
    await browser.sign_in("a-guess-of-somebody")
    await browser.send("GET", "/api/things", headers={"Cookie": "gapless=a-guess-of-somebody"})
    await browser.send("GET", "/api/things", headers={"Sec-Fetch-Site": "same-site"})
    await browser.signed.revoke(token_id)
    await browser.send("GET", "/api/things")
    said = caplog.text + repr(browser.seen.events)
    assert "sign-in" in said
    assert "a-guess" not in said
    assert token not in said


async def test_another_node_leaves_the_page_to_the_one_that_knows_it() -> None:
    page = "https://listed.example"
    headers = {"Origin": page, "Sec-Fetch-Site": "cross-site"}
    with tempfile.TemporaryDirectory() as folder:
        here, there = Node(f"{folder}/here"), Node(f"{folder}/there")
        second = http_server(
            FakeSessions(), placement=FakePlacement(there, here, {}), more=[Things()], pages=[page]
        )
        await second.start()
        placement = FakePlacement(here, there, {KnownSession("1"): there})
        for pages, status in (([page], 200), ([], 403)):
            async with browsing(tokens={}, placement=placement, pages=pages) as browser:
                found = await browser.send("DELETE", "/api/things/1", headers=headers)
                assert found[0] == status
        await second.stop()


async def test_another_node_gets_the_token_and_no_cookie() -> None:
    with tempfile.TemporaryDirectory() as folder:  # names of Unix sockets have to be short
        here, there = Node(f"{folder}/here"), Node(f"{folder}/there")
        second = http_server(
            FakeSessions(),
            tokens=TOKENS,
            placement=FakePlacement(there, here, {}),
            more=[Things()],
        )
        await second.start()
        placement = FakePlacement(here, there, {KnownSession("1"): there})
        async with browsing(placement=placement) as browser:
            await browser.sign_in(ADMIN)
            found = {"token": f"{ADMIN} token", "cookie": None}
            assert (await browser.send("DELETE", "/api/things/1"))[:2] == (200, found)
            origin = {"Origin": browser.url}
            async with browser.http.ws_connect(
                f"{browser.url}/api/things/1/socket", headers=origin
            ) as socket:
                assert await socket.receive_str() == f"{ADMIN} token"
        await second.stop()
