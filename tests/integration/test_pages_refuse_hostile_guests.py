"""What guests call themselves and send stays text, and other pages get nothing from a server."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from playwright.async_api import Browser, Page, expect

from tests.rigs.browser import CHROMIUM
from tests.rigs.processes import free_port
from tests.rigs.recordings import info
from tests.rigs.screens import TOKEN, Stage, World, a_browser, staged
from tests.rigs.speaker_screens import GUEST, RENDER, without_script
from tests.rigs.staged import Guest

IMAGE = '<img src=x onerror="alert(1)">'
SCRIPT = '"><script>alert(1)</script>'
OVERRIDE = "\u202egpj.exe\u202e"
LONG = "W" * 200
CONTROL = "a\x1b[31mb\u0000\u0085\u2028c"
ROOM = "<svg onload=alert(1)>"
WORLD = World(
    names=(IMAGE,),
    count=4,
    rooms=(ROOM, OVERRIDE),
    guests=tuple(
        Guest(name, room=room, gain=gain)
        for name, room, gain in (
            (IMAGE, ROOM, 1.0), (SCRIPT, ROOM, 0.0), (OVERRIDE, OVERRIDE, 1.0), (LONG, "", 1.0),
            (CONTROL, "", 1.0),
        )
    ),
)  # fmt: skip
WATCH = """
() => {
  window.refused = [];
  document.addEventListener("securitypolicyviolation", ({ violatedDirective, blockedURI }) =>
    refused.push(`${violatedDirective} ${blockedURI}`));
};
"""
MARKUP = """
() => [...document.querySelectorAll(
  "body img, body script, iframe, object, embed, [onerror], [onload], [onclick]")]
  .map((one) => one.outerHTML.slice(0, 200))
"""
"""What the pages themselves never make."""
LOOSE = """
(text) => {
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const found = [];
  while (walker.nextNode()) {
    const { data, parentElement } = walker.currentNode;
    if (data.includes(text) && !parentElement.closest("bdi, [dir], option, title"))
      found.push(parentElement.outerHTML.slice(0, 200));
  }
  return found;
}
"""
"""Where a text could change the direction of what is around it."""

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
    pytest.mark.timeout(180),
]


@asynccontextmanager
async def watched(browser: Browser, url: str, *, is_signed_in: bool = True) -> AsyncIterator[Page]:
    """Open a page in which nothing may be run, refused or failed."""
    context = await browser.new_context(permissions=["microphone"])
    faults: list[str] = []
    try:
        if is_signed_in:
            await context.request.post(f"{url}/api/sign-in", data={"token": TOKEN})
        page = await context.new_page()
        page.set_default_timeout(15_000)
        await page.add_init_script(f"({WATCH.strip().rstrip(';')})()")
        page.on("dialog", lambda dialog: faults.append(f"dialog: {dialog.message}"))
        page.on("pageerror", lambda error: faults.append(f"error: {error}"))
        yield page
        assert faults == []
    finally:
        await context.close()


async def nothing_became_markup(page: Page) -> None:
    assert await page.evaluate("refused") == []
    assert await page.evaluate(MARKUP) == []
    assert await page.evaluate(LOOSE, "\u202e") == []


async def test_the_studio_shows_names_rooms_and_reports_as_text() -> None:
    async with a_browser() as browser, staged(WORLD, for_s=1.0) as stage:
        await report(stage)
        async with watched(browser, stage.url) as page:
            await page.goto(f"{stage.url}/studio#live")
            for name in (IMAGE, SCRIPT):
                await expect(page.get_by_role("heading", name=name)).to_be_visible()
            await expect(page.locator(".card")).to_have_count(len(WORLD.guests))
            await page.get_by_text("Figures").first.click()
            await page.get_by_role("button", name="Message").first.click()
            await page.get_by_label("Message to the speaker").first.fill(IMAGE)
            await page.keyboard.press("Enter")
            await nothing_became_markup(page)
            await page.get_by_role("button", name="End", exact=True).first.click()
            await page.get_by_role("dialog").wait_for()
            await nothing_became_markup(page)
            reported = next(iter(stage.sessions))
            for view in (
                "recordings", f"recordings?id={info(1).id}", f"recordings?id={IMAGE}",
                f"recordings?id={reported}", "rooms", f"rooms?room={ROOM}",
                f"rooms?room={OVERRIDE}", "invite", f"{IMAGE}?{SCRIPT}",
            ):  # fmt: skip
                await page.goto(f"{stage.url}/studio")
                await page.evaluate("(view) => { location.hash = view; }", view)
                await page.locator("main :is(h1, .notice)").first.wait_for()
                await page.wait_for_timeout(500)  # for what it asks the server for
                await nothing_became_markup(page)
                if view.endswith(reported):
                    told = await page.locator(".happenings").inner_text()
                    for text in (IMAGE, SCRIPT, OVERRIDE):  # it does not turn round the rest
                        assert f"\N{FIRST STRONG ISOLATE}{text}\N{POP DIRECTIONAL ISOLATE}" in told
            await page.goto(f"{stage.url}/studio#invite")
            await page.get_by_label("Name of the guest").fill(IMAGE)
            await page.get_by_label("Room").fill(OVERRIDE)
            await page.get_by_role("button", name="Make a link").click()
            await page.locator(".invitation svg").wait_for()
            await nothing_became_markup(page)


async def report(stage: Stage) -> None:
    """Let each guest say of its microphone what it likes."""
    async with aiohttp.ClientSession() as http:
        for session, secret in stage.sessions.items():
            events = [
                {"type": "microphone", "position": at, "at": "2026-03-04T09:30:00Z", "text": text}
                for at, text in enumerate((IMAGE, SCRIPT, OVERRIDE))
            ]
            async with http.post(
                f"{stage.url}/sessions/{session}/capture-events",
                json={"events": events}, headers={"Authorization": f"Bearer {secret}"},
            ) as answer:  # fmt: skip
                assert answer.status < 300, await answer.text()


def link_for(name: str, room: str) -> str:
    """Return a link with a token that nobody has signed, for a name and a room."""
    claims = {"sub": name, "name": name, "room": room, "role": "publish", "exp": 4_000_000_000}
    parts = [base64.urlsafe_b64encode(json.dumps(one).encode()).decode().rstrip("=")
             for one in ({"alg": "HS256", "typ": "JWT"}, claims)]  # fmt: skip
    return "/#token=" + ".".join([*parts, "c2lnbmF0dXJl"])


async def test_a_guests_page_shows_links_and_messages_as_text() -> None:
    async with (
        a_browser() as browser,
        staged(World()) as stage,
        watched(browser, stage.url, is_signed_in=False) as page,
    ):
        for link in (
            link_for(IMAGE, ROOM), link_for(OVERRIDE, SCRIPT), f"/#token={IMAGE}",
            f"/#token=a.{base64.urlsafe_b64encode(b'[1]').decode()}.b", "/#token=%00%ff%u0000",
        ):  # fmt: skip
            await page.goto("about:blank")
            await page.goto(stage.url + link)
            await page.locator("main h1").wait_for()
            await nothing_became_markup(page)
        await page.goto("about:blank")
        await page.goto(stage.url + link_for(IMAGE, ROOM))
        await expect(page.locator("main")).to_contain_text(IMAGE)
        await page.goto("about:blank")
        await without_script(page, stage.url)
        said = [{"id": "1", "at": "2026-03-04T10:05:00Z", "text": text}
                for text in (IMAGE, OVERRIDE)]  # fmt: skip
        state = GUEST | {"messages": said, "incident": {"type": "other", "text": IMAGE}}
        await page.evaluate(RENDER, state | {"screen": "recording"})
        await expect(page.locator(".message").first).to_contain_text(IMAGE)
        await nothing_became_markup(page)


# -- other pages -------------------------------------------------------------------------------

ATTACK = """
async ({ url, session, recording }) => {
  const tried = async (path, options) => {
    try { return (await fetch(url + path, { credentials: "include", ...options })).status; }
    catch { return 0; }
  };
  const json = { "Content-Type": "application/json" };
  const form = Object.assign(document.createElement("form"), {
    method: "POST", action: `${url}/api/invitations`, enctype: "text/plain", target: "frame",
  });
  form.append(Object.assign(document.createElement("input"), { name: '{"name":"', value: 'x"}' }));
  const frame = Object.assign(document.createElement("iframe"), { name: "frame" });
  document.body.append(frame, form);
  form.submit();
  const loaded = (tag, path) => new Promise((resolve) => {
    const one = document.createElement(tag);
    one.onload = one.onloadedmetadata = () => resolve(true);
    one.onerror = () => resolve(false);
    one.src = url + path;
    document.body.append(one);
  });
  const opened = (path) => new Promise((resolve) => {
    const socket = new WebSocket(url.replace("http", "ws") + path);
    socket.onopen = () => { socket.close(); resolve(true); };
    socket.onerror = () => resolve(false);
  });
  return {
    statuses: [
      await tried("/api/sessions"),
      await tried(`/api/sessions/${session}`, { method: "DELETE" }),
      await tried(`/api/recordings/${recording}`, { method: "DELETE" }),
      await tried("/api/invitations", { method: "POST", body: "{}", headers: json }),
      await tried("/api/invitations", { method: "POST", body: "{}", mode: "no-cors" }),
      await tried(`/api/sessions/${session}/messages`,
        { method: "POST", body: '{"text": "x"}', headers: json }),
    ],
    got: [
      await loaded("img", `/api/recordings/${recording}/peaks`),
      await loaded("audio", `/api/recordings/${recording}/audio`),
      await loaded("script", `/api/openapi.json`),
      await opened(`/api/sessions/${session}/pcm`),
    ],
  };
}
"""


@asynccontextmanager
async def other_page() -> AsyncIterator[str]:
    """Serve a page on another port, which may do what a page can."""

    async def answer(_request: web.Request) -> web.Response:
        return web.Response(text="<!doctype html><body>", content_type="text/html")

    app = web.Application()
    app.router.add_get("/", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield f"http://127.0.0.1:{port}/"
    finally:
        await runner.cleanup()


async def test_a_page_of_another_port_changes_and_learns_nothing() -> None:
    world = World(names=("Ana",), count=1, guests=(Guest("Ana"),))
    async with a_browser() as browser, staged(world, for_s=2.0) as stage, other_page() as other:
        (session,) = stage.sessions
        recording = info(1).id
        before = await known(stage, session, recording)
        async with watched(browser, stage.url) as page:
            await page.goto(other)
            argument = {"url": stage.url, "session": session, "recording": recording}
            found = await page.evaluate(ATTACK, argument)
            assert set(found["statuses"]) <= {0, 403}
            assert found["got"] == [False] * 4
        assert await known(stage, session, recording) == before


async def known(stage: Stage, session: str, recording: str) -> list[Any]:
    """Return what an administrator sees of what was attacked."""
    found = []
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with aiohttp.ClientSession(headers=headers) as http:
        for path in (f"sessions/{session}", f"recordings/{recording}", "tokens"):
            async with http.get(f"{stage.url}/api/{path}") as answer:
                body = await answer.json()
                found.append((answer.status, body.get("id"), body.get("tokens")))
    return found


async def test_no_page_is_shown_in_a_frame_of_another() -> None:
    async with (
        a_browser() as browser,
        staged(World()) as stage,
        other_page() as other,
        watched(browser, stage.url) as page,
    ):
        await page.goto(other)
        for path in ("/", "/studio"):
            await page.evaluate(
                "(url) => new Promise((resolve) => {"
                " const frame = document.createElement('iframe');"
                " frame.onload = resolve; frame.src = url; document.body.append(frame); })",
                stage.url + path,
            )
        framed = page.frames[1:]
        assert [frame.url for frame in framed] == ["chrome-error://chromewebdata/"] * 2


async def test_an_invitation_opens_nothing_of_others() -> None:
    world = World(names=("Ben",), count=1, guests=(Guest("Ben", room="theirs"),))
    async with staged(world, for_s=1.0) as stage:
        (session,) = stage.sessions
        admin = {"Authorization": f"Bearer {TOKEN}"}
        async with aiohttp.ClientSession() as http:
            asked = {"name": "Ana", "room": "hers"}
            url = f"{stage.url}/api/invitations"
            async with http.post(url, json=asked, headers=admin) as answer:
                link = (await answer.json())["url"]
            guest = {"Authorization": f"Bearer {link.partition('#token=')[2]}"}
            for method, path, allowed in (
                ("GET", "/api/sessions", 403),
                ("GET", f"/api/sessions/{session}", 403),
                ("GET", f"/api/sessions/{session}/pcm", 403),
                ("DELETE", f"/api/sessions/{session}", 403),
                ("GET", "/api/recordings", 403),
                ("GET", f"/api/recordings/{info(1).id}/audio", 403),
                ("GET", "/api/events", 403),
                ("GET", "/api/tokens", 403),
                ("POST", "/api/invitations", 403),
                ("DELETE", f"/sessions/{session}", 403),
                ("GET", f"/sessions/{session}/messages", 401),
                ("GET", f"/sessions/{session}/wanted", 401),
                ("POST", f"/sessions/{session}/capture-events", 401),
                ("POST", "/api/sign-in", 403),
            ):
                body: dict[str, Any] = {}
                if path == "/api/sign-in":
                    body = {"token": link.partition("#token=")[2]}
                async with http.request(
                    method, stage.url + path, headers=guest, json=body
                ) as answer:
                    assert answer.status == allowed, f"{method} {path}: {await answer.text()}"
            offer = {"sdp": "v=0", "type": "offer", "name": "Ben", "room": "theirs"}
            async with http.post(f"{stage.url}/offer", json=offer, headers=guest) as answer:
                assert answer.status == 403
