"""A server behind Caddy and nginx, as docs/server.md has them, does all that it does alone."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import io
import json
import pathlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest

from tests.rigs.clients import Publishing, Remote
from tests.rigs.processes import Server, serving
from tests.rigs.reverse_proxies import PROGRAMS, lines_for, reverse_proxy
from tests.rigs.tls import trusting_anybody
from tests.rigs.watching import following

TOKEN = "a token of the server's administrator"
PIECE_BYTES = 12 << 20
SPOOL = {"rtp_timestamp": 0, "sample_rate_hz": 48_000, "channels": 1, "sample_format": "s16"}
FORGED = "198.51.100.7"


@dataclass(frozen=True)
class Behind:
    """A server behind a proxy."""

    server: Server
    url: str
    audit_log: pathlib.Path


@dataclass(frozen=True)
class Proxied:
    """A server behind a proxy, with a client of the proxy."""

    server: Server
    url: str
    audit_log: pathlib.Path
    http: aiohttp.ClientSession


@pytest.fixture(scope="module", params=PROGRAMS)
def behind(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Behind]:
    if PROGRAMS[request.param] is None:
        pytest.skip(f"{request.param} is not installed")
    folder = tmp_path_factory.mktemp(request.param)
    audit_log = folder / "audit.log"
    settings = folder / "gapless.toml"
    settings.write_text(
        lines_for("toml").replace("REPLACE", TOKEN).replace("record.example.org", "127.0.0.1")
    )
    arguments = ("--config", str(settings), "--audit-log", str(audit_log))
    with (
        serving(folder / "recordings", *arguments) as server,
        reverse_proxy(request.param, server.url, folder) as url,
    ):
        yield Behind(server, url, audit_log)


@pytest.fixture
async def proxied(behind: Behind) -> AsyncIterator[Proxied]:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    connector = aiohttp.TCPConnector(ssl=trusting_anybody())
    async with aiohttp.ClientSession(headers=headers, connector=connector) as http:
        yield Proxied(behind.server, behind.url, behind.audit_log, http)


@asynccontextmanager
async def publishing(proxied: Proxied) -> AsyncIterator[tuple[Publishing, aiohttp.ClientResponse]]:
    """Publish by WHIP through the proxy; the sound takes its own way."""
    client = Publishing(Remote(proxied.server.url, proxied.http))
    offer, sdp = client.connection.offer_sdp, {"Content-Type": "application/sdp"}
    async with proxied.http.post(f"{proxied.url}/whip?name=Ana", data=offer, headers=sdp) as answer:
        assert answer.status == 201, await answer.text()

        async def send(_candidate: object) -> None:
            """The server is on this machine, and needs no candidates."""

        await client.connection.connect(await answer.text(), ice_servers=(), send_candidate=send)
    try:
        yield client, answer
    finally:
        await client.close()


async def test_a_guest_is_recorded_and_watched(proxied: Proxied) -> None:
    http, url = proxied.http, proxied.url
    async with http.post(f"{url}/api/tokens", json={"role": "watch", "sub": "Ben"}) as made:
        watcher = await made.json()
    async with (
        following(http, url, token=watcher["token"]) as events,
        publishing(proxied) as (client, answer),
    ):
        # at once: nothing waits in the proxy for more
        opened = await asyncio.wait_for(events.wait_for("session.opened"), 5)
        await asyncio.wait_for(_spoken(client, 100), 10)
        async with http.ws_connect(f"{url}/api/sessions/{opened['session']}/pcm") as socket:
            assert (await socket.receive_json(timeout=5))["type"] == "hello"
            await _spoken(client, 50)
            assert (await socket.receive(timeout=5)).type is aiohttp.WSMsgType.BINARY
        fragment = {"Content-Type": "application/trickle-ice-sdpfrag"}
        fragment["If-Match"] = answer.headers["ETag"]
        whip = url + answer.headers["Location"]
        async with http.patch(whip, data="a=end-of-candidates\r\n", headers=fragment) as patched:
            assert patched.status in (204, 400), await patched.text()
        async with http.delete(whip) as deleted:
            assert deleted.status == 200, await deleted.text()
        await asyncio.wait_for(events.wait_for("recording.completed"), 5)
        async with http.delete(f"{url}/api/tokens/{watcher['id']}") as revoked:
            assert revoked.status == 204
        with contextlib.suppress(aiohttp.ClientPayloadError):  # it is cut off
            await events.end()


async def _spoken(client: Publishing, packets: int) -> None:
    for _ in range(packets):
        client.send(1)
        await asyncio.sleep(0.02)


async def test_pages_come_and_links_lead_back_to_the_proxy(proxied: Proxied) -> None:
    http, url = proxied.http, proxied.url
    for page in ("/", "/studio"):
        async with http.get(url + page) as answer:
            assert (answer.status, answer.content_type) == (200, "text/html")
            assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    async with http.post(f"{url}/api/invitations", json={"name": "Ana"}) as answer:
        assert (await answer.json())["url"].startswith(f"{url}/#token=")


async def test_a_log_of_the_proxy_has_no_secret_of_a_session(proxied: Proxied) -> None:
    http, url = proxied.http, proxied.url
    async with publishing(proxied) as (_, answer):
        whip = answer.headers["Location"]
        async with http.delete(url + whip) as deleted:
            assert deleted.status == 200
    async with http.get(f"{url}/studio") as page:
        assert page.status == 200
    secret = whip.rpartition("/")[2]
    for log in proxied.audit_log.parent.glob("*.log"):
        text = log.read_text()
        assert secret not in text, log.name
        # the others are logged
        assert log.name != "gapless.log" or "GET /studio" in text


async def test_a_piece_of_the_usual_size_passes(proxied: Proxied) -> None:
    """It is the server that says what is wrong with it, and not the proxy that it is too large."""
    http, url = proxied.http, proxied.url
    connection = Remote(url, http).open_connection()
    try:
        offer = {"sdp": connection.offer_sdp, "type": "offer", "spool": SPOOL}
        async with http.post(f"{url}/offer", json=offer) as answer:
            session = await answer.json()
            assert answer.status == 200, session
        no_flac = bytes(PIECE_BYTES)
        digest = base64.b64encode(hashlib.sha256(no_flac).digest()).decode()
        headers = {
            "Authorization": f"Bearer {session['resume']}",
            "Content-Type": "audio/flac",
            "Content-Digest": f"sha-256=:{digest}:",
        }
        sound = f"{url}/sessions/{session['id']}/sound/0"
        async with http.put(sound, data=io.BytesIO(no_flac), headers=headers) as answer:
            assert answer.status == 422, await answer.text()
    finally:
        await connection.close()


async def test_nobody_chooses_the_address_that_is_logged(proxied: Proxied) -> None:
    headers = {"Authorization": "Bearer wrong", "X-Forwarded-For": FORGED}
    async with proxied.http.get(f"{proxied.url}/api/sessions", headers=headers) as answer:
        assert answer.status == 401
    async with asyncio.timeout(10):
        while not (lines := _refused(proxied.audit_log)):
            await asyncio.sleep(0.05)
    assert {line["address"] for line in lines} == {"127.0.0.1"}


def _refused(audit_log: pathlib.Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in audit_log.read_text().splitlines()]
    return [line for line in lines if line["event"] == "refused"]
