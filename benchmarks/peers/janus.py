"""Runs Janus (`janus.plugin.recordplay`, which writes packets without decoding) behind ``/offer``.

``python -m benchmarks.peers.janus FOLDER`` starts Janus, and prints its own address and Janus'
process id. On Debian: ``apt install janus``.
"""

from __future__ import annotations

import asyncio
import pathlib
import secrets
import shutil
import signal
import socket
import subprocess
import sys
from typing import Any

import aiohttp
from aiohttp import web

from benchmarks.peers.signaling import answer, listen


def is_installed() -> bool:
    return shutil.which("janus") is not None


def configure(folder: pathlib.Path, port: int) -> pathlib.Path:
    """Write a minimal configuration: HTTP and media on loopback, recordings in the folder."""
    configs = folder / "janus"
    configs.mkdir()
    files = {
        "janus.jcfg": 'general: { log_to_stdout = false }\nnat: { ice_enforce_list = "lo" }\n'
        "plugins: { }\ntransports: { }\n",
        "janus.transport.http.jcfg": 'general: { base_path = "/janus"; http = true; '
        f'port = {port}; ip = "127.0.0.1" }}\n',
        "janus.plugin.recordplay.jcfg": f'general: {{ path = "{folder}" }}\n',
    }
    for name, text in files.items():
        (configs / name).write_text(text)
    return configs


class Janus:
    """A client of Janus' HTTP API."""

    def __init__(self, url: str, http: aiohttp.ClientSession) -> None:
        self._url = url
        self._http = http
        self._handles: dict[str, str] = {}

    async def ask(self, path: str, janus: str, **more: Any) -> Any:
        body = {"janus": janus, "transaction": secrets.token_hex(6), **more}
        async with self._http.post(f"{self._url}{path}", json=body) as response:
            answered = await response.json()
        assert answered["janus"] in ("success", "ack"), answered
        return answered

    async def wait_until_ready(self) -> None:
        while True:
            try:
                async with self._http.get(f"{self._url}/info"):
                    return
            except aiohttp.ClientError:
                await asyncio.sleep(0.05)

    async def record(self, sdp: str) -> tuple[str, str]:
        """Start a recording for an offer; return its id and the answer."""
        session = str((await self.ask("", "create"))["data"]["id"])
        attached = await self.ask(f"/{session}", "attach", plugin="janus.plugin.recordplay")
        self._handles[session] = path = f"/{session}/{attached['data']['id']}"
        body = {"request": "record", "name": session}
        await self.ask(path, "message", body=body, jsep={"type": "offer", "sdp": sdp})
        while True:
            async with self._http.get(f"{self._url}/{session}", params={"maxev": "1"}) as response:
                event = await response.json()
            if "jsep" in event:
                return session, event["jsep"]["sdp"]

    async def candidate(self, session: str, candidate: str | None) -> None:
        body = {"candidate": candidate, "sdpMLineIndex": 0} if candidate else {"completed": True}
        await self.ask(self._handles[session], "trickle", candidate=body)

    async def stop(self, session: str) -> None:
        await self.ask(self._handles[session], "message", body={"request": "stop"})
        await self.ask(f"/{session}", "destroy")


def main(folder: pathlib.Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    configs = configure(folder, port)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # so that `finally` ends Janus
    process = subprocess.Popen(
        ["janus", "-F", str(configs), "-C", str(configs / "janus.jcfg")],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        asyncio.run(serve(f"http://127.0.0.1:{port}/janus", process.pid))
    finally:
        process.kill()
        process.wait()


async def serve(url: str, pid: int) -> None:
    janus = Janus(url, aiohttp.ClientSession())
    await janus.wait_until_ready()

    async def offer(request: web.Request) -> web.Response:
        session, sdp = await janus.record((await request.json())["sdp"])
        return answer(sdp, session)

    async def ice_candidate(request: web.Request) -> web.Response:
        body = await request.json()
        await janus.candidate(body["id"], body["candidate"])
        return web.Response(status=204)

    async def end(request: web.Request) -> web.Response:
        await janus.stop(request.match_info["id"])
        return web.Response(status=204)

    await listen(offer=offer, ice_candidate=ice_candidate, end=end, more=f"pid={pid}")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
