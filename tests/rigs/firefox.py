"""Firefox, driven by WebDriver BiDi over its own WebSocket."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import pathlib
import re
import shutil
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

FIREFOX = shutil.which("firefox-esr") or shutil.which("firefox")

_PREFERENCES = {
    "app.normandy.enabled": False,
    "app.update.disabledForTesting": True,
    "browser.shell.checkDefaultBrowser": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "media.autoplay.default": 0,
    "media.autoplay.blocking_policy": 0,
    "media.navigator.permission.disabled": True,
    "media.peerconnection.ice.loopback": True,
    "media.peerconnection.ice.obfuscate_host_addresses": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "services.settings.server": "data:,",
}
_START_S = 60.0
BLANK = "/blank"
"""The path of an empty page, which the rig answers in place of any server.

On the pages of a server, scripts may fetch nothing.
"""
_ADDRESS = re.compile(r"ws://\S+")
_IS_FUNCTION = re.compile(r"\s*(async\s*)?(\(|\w+\s*=>|function)")


class FirefoxPage:
    """A page, with the part of Playwright's interface that the tests use."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, process_id: int) -> None:
        self._socket = socket
        self._ids = itertools.count(1)
        self._context = ""
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self.process_id = process_id
        """The leader of the process group of the browser."""

    async def start(self) -> None:
        await self.command("session.new", capabilities={})
        tree = await self.command("browsingContext.getTree")
        self._context = tree["contexts"][0]["context"]
        await self.command("session.subscribe", events=["network.beforeRequestSent"])
        await self.command(
            "network.addIntercept",
            phases=["beforeRequestSent"],
            urlPatterns=[{"type": "pattern", "pathname": BLANK}],
        )

    async def open_tab(self) -> None:
        """Go on in a new tab."""
        self._context = (await self.command("browsingContext.create", type="tab"))["context"]

    async def goto(self, url: str) -> None:
        await self.command(
            "browsingContext.navigate", context=self._context, url=url, wait="complete"
        )

    async def replace_tab(self) -> None:
        """Close the tab without asking its page, and go on in another one."""
        opened = await self.command("browsingContext.create", type="tab")
        closed, self._context = self._context, opened["context"]
        await self.command("browsingContext.close", context=closed, promptUnload=False)

    async def evaluate(self, script: str, argument: Any = None, /) -> Any:
        """Evaluate an expression, or call a function with a JSON value; waits for a promise.

        The result has to be a JSON value. Raises RuntimeError with what the page has thrown.
        """
        call = f"({script})({json.dumps(argument)})" if _IS_FUNCTION.match(script) else script
        answer = await self.command(
            "script.evaluate",
            expression=f"(async () => JSON.stringify(await {call}))()",
            target={"context": self._context},
            awaitPromise=True,
            userActivation=True,
        )
        if answer["type"] == "exception":
            raise RuntimeError(answer["exceptionDetails"]["text"])
        text = answer["result"].get("value")
        return None if text is None else json.loads(text)

    async def command(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._ids)
        answered = self._waiting[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        answer = await answered
        if answer["type"] == "error":
            raise RuntimeError(f"{method}: {answer['message']}")
        result: dict[str, Any] = answer["result"]
        return result

    async def _answer_blank(self, request: str) -> None:
        html = {"name": "Content-Type", "value": {"type": "string", "value": "text/html"}}
        parameters = {
            "request": request,
            "statusCode": 200,
            "headers": [html],
            "body": {"type": "string", "value": "<!doctype html>"},
        }
        command = {"method": "network.provideResponse", "params": parameters}
        await self._socket.send_json({"id": next(self._ids), **command})

    async def read(self) -> None:
        """Hand answers to the commands that wait for them, until the browser ends."""
        async for message in self._socket:
            answer = message.json()
            if answer.get("method") == "network.beforeRequestSent":
                if answer["params"]["isBlocked"]:
                    await self._answer_blank(answer["params"]["request"]["request"])
                continue
            if (waiting := self._waiting.pop(answer.get("id"), None)) is not None:
                waiting.set_result(answer)
        for waiting in self._waiting.values():
            waiting.set_exception(RuntimeError("Firefox has ended"))


@asynccontextmanager
async def firefox_page(
    folder: pathlib.Path, environ: Mapping[str, str]
) -> AsyncIterator[FirefoxPage]:
    """Open a page in a fresh Firefox, whose profile and home are in `folder`.

    `environ` is added to the environment; it says where PulseAudio is.
    """
    assert FIREFOX is not None
    profile = folder / "profile"
    profile.mkdir(parents=True)
    (profile / "user.js").write_text(
        "".join(
            f"user_pref({json.dumps(name)}, {json.dumps(value)});\n"
            for name, value in _PREFERENCES.items()
        )
    )
    process = await asyncio.create_subprocess_exec(
        FIREFOX, "--headless", "--no-remote", "--profile", str(profile),
        "--remote-debugging-port", "0",
        env=os.environ | {"HOME": str(folder)} | dict(environ),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )  # fmt: skip
    reading: list[asyncio.Task[None]] = []
    try:
        async with asyncio.timeout(_START_S):
            address = await _address(process)
        reading.append(asyncio.create_task(_discard(process)))
        async with (
            aiohttp.ClientSession() as http,
            http.ws_connect(f"{address}/session", max_msg_size=0) as socket,
        ):
            page = FirefoxPage(socket, process.pid)
            reading.append(asyncio.create_task(page.read()))
            async with asyncio.timeout(_START_S):
                await page.start()
            yield page
    finally:
        # its content processes are in the group, too
        os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        for task in reading:
            task.cancel()
        await asyncio.gather(*reading, return_exceptions=True)


async def _address(process: asyncio.subprocess.Process) -> str:
    assert process.stderr is not None
    lines = []
    async for line in process.stderr:
        if found := _ADDRESS.search(line.decode()):
            return found[0]
        lines.append(line.decode())
    raise RuntimeError(f"Firefox did not start: {''.join(lines)}")


async def _discard(process: asyncio.subprocess.Process) -> None:
    assert process.stderr is not None
    async for _ in process.stderr:
        pass
