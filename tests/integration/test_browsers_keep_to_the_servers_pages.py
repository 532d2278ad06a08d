"""What browsers send from pages of a server, and from pages of another port of its host.

They send the cookie from both, which is why the server has to look at where a request comes from.
"""

from __future__ import annotations

import asyncio
import pathlib
import socket

import pytest
from aiohttp import web

from adapters.http.routes import Route
from domain.events.server import RequestRefused
from domain.session.roles import ALL_ROLES, Role
from tests.contracts.test_browsers_sign_in import Seen
from tests.contracts.test_pages_of_others_change_nothing import PATH, SIGN_IN, SOCKET, Things
from tests.fakes.http import FakeSessions, http_server
from tests.rigs.browser import BROWSERS, opened

TOKEN = "the token of an administrator"
PAGE, FORM = "/page", "/api/form"
WITHIN_S = 20
LIBRARY = """
  const status = async (path, options = {}) => {
    try { return (await fetch(url + path, { credentials: "include", ...options })).status; }
    catch { return "refused"; }
  };
  const socket = (path) => new Promise((resolve) => {
    const one = new WebSocket(url.replace("http", "ws") + path);
    let isOpen = false;
    one.onopen = () => { isOpen = true; };
    one.onclose = () => resolve(isOpen);
  });
  const json = { "Content-Type": "application/json" };
  const body = (value) => ({ method: "POST", headers: json, body: JSON.stringify(value) });
"""
OWN_PAGE = f"""
async ({{ url, token }}) => {{
  {LIBRARY}
  return {{
    before: await status("{SIGN_IN}"),
    wrong: await status("{SIGN_IN}", body({{ token: "wrong" }})),
    signed: await status("{SIGN_IN}", body({{ token }})),
    who: await (await fetch("{SIGN_IN}")).json(),
    read: await status("{PATH}"),
    posted: await status("{PATH}", body({{}})),
    deleted: await status("{PATH}", {{ method: "DELETE" }}),
    socket: await socket("{SOCKET}"),
    cookie: document.cookie,
  }};
}}
"""
OTHER_PAGE = f"""
async ({{ url, token }}) => {{
  {LIBRARY}
  const plain = {{ method: "POST", mode: "no-cors", body: '{{"token": "x"}}' }};
  const found = {{
    read: await status("{PATH}"),
    hidden: await status("{PATH}", {{ mode: "no-cors" }}),
    posted: await status("{PATH}", body({{}})),
    plain: await status("{PATH}", plain),
    deleted: await status("{PATH}", {{ method: "DELETE" }}),
    signed: await status("{SIGN_IN}", body({{ token }})),
    out: await status("{SIGN_IN}", {{ method: "DELETE" }}),
    socket: await socket("{SOCKET}"),
  }};
  const frame = document.createElement("iframe");
  frame.name = "frame";
  const form = document.createElement("form");
  form.method = "POST"; form.enctype = "text/plain"; form.target = "frame";
  form.action = url + "{FORM}";
  document.body.append(frame, form);
  form.submit();
  return found;
}}
"""
STILL = f'async () => (await fetch("{SIGN_IN}")).status'
SIGNED_OUT = f"""
async () => [(await fetch("{SIGN_IN}", {{ method: "DELETE" }})).status,
             (await fetch("{SIGN_IN}")).status]
"""


class Page:
    """A page that may ask anybody for anything; which is up to those who are asked."""

    def __init__(self) -> None:
        self.forms = 0

    def routes(self) -> list[Route]:
        return [
            Route("GET", PAGE, self._page, None),
            Route("POST", FORM, self._form, Role.ADMIN),
        ]

    async def _page(self, _request: web.Request) -> web.StreamResponse:
        headers = {"Content-Security-Policy": "connect-src *; frame-src *; form-action *"}
        return web.Response(text="<!doctype html>", content_type="text/html", headers=headers)

    async def _form(self, _request: web.Request) -> web.StreamResponse:
        self.forms += 1
        return web.Response()


def machine_address() -> str | None:
    """Return an address of this machine in a network; None if it is in none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing: the system chooses an address
        except OSError:
            return None
        address = str(probe.getsockname()[0])
    return None if address.startswith("127.") else address


def refused_in(seen: Seen) -> set[str]:
    """Return the requests that were refused because of their page."""
    refused = [event for event in seen.events if isinstance(event, RequestRefused)]
    return {
        event.request
        for event in refused
        if event.status == 403 and "another origin" in event.reason
    }


@pytest.mark.parametrize("where", ["this machine", "a network"])
@pytest.mark.parametrize("name", sorted(BROWSERS))
async def test_only_pages_of_the_server_use_its_cookie(
    name: str, where: str, tmp_path: pathlib.Path
) -> None:
    if BROWSERS[name] is None:
        pytest.skip(f"{name} is not installed")
    # over HTTP to another machine, browsers do not say from which site a request comes
    host = "127.0.0.1" if where == "this machine" else machine_address()
    if host is None:
        pytest.skip("this machine is in no network")
    things, forms, seen = Things(), Page(), Seen()
    server = http_server(
        FakeSessions(), host=host, tokens={TOKEN: ALL_ROLES}, more=[things, forms], events=seen
    )
    other = http_server(FakeSessions(), host=host, tokens={"other": ALL_ROLES}, more=[Page()])
    url, other_url = await server.start(), await other.start()
    argument = {"url": url, "token": TOKEN}
    try:
        async with opened(name, tmp_path / "home", {}) as browser:
            page = browser.page
            await page.goto(url + PAGE)
            assert await page.evaluate(OWN_PAGE, argument) == {
                "before": 401,
                "wrong": 401,
                "signed": 200,
                "who": {"role": "admin", "name": f"{TOKEN} token", "needs_token": True},
                "read": 200,
                "posted": 204,
                "deleted": 204,
                "socket": True,
                "cookie": "",
            }
            assert things.changes == 2
            await page.goto(other_url + PAGE)
            found = await page.evaluate(OTHER_PAGE, argument)
            assert found.pop("socket") is False
            assert set(found.values()) <= {"refused", 0, 403}
            # it was the cookie that came, and the server that has refused it
            async with asyncio.timeout(WITHIN_S):
                while not {f"GET {PATH}", f"POST {FORM}"} <= refused_in(seen):
                    await asyncio.sleep(0.02)
            assert (things.changes, forms.forms) == (2, 0)
            await page.goto(url + PAGE)
            assert await page.evaluate(STILL) == 200
            assert await page.evaluate(SIGNED_OUT) == [204, 401]
    finally:
        await server.stop()
        await other.stop()
