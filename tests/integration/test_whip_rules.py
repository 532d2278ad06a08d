"""The rules of RFC 9725, tested with the real server; § are its sections."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass

import aiohttp
import pytest

from domain.session.ice import IceServer
from tests.rigs.clients import Local, Publishing, local_server

SDP = {"Content-Type": "application/sdp"}
FRAGMENT = {"Content-Type": "application/trickle-ice-sdpfrag"}


@dataclass
class Published:
    """A WHIP session."""

    server: Local
    client: Publishing
    response: aiohttp.ClientResponse
    answer: str

    @property
    def url(self) -> str:
        return self.server.url + self.response.headers["Location"]

    @property
    def etag(self) -> str:
        return self.response.headers["ETag"]

    @property
    def credentials(self) -> tuple[str, str]:
        return credentials_in(self.client.connection.offer_sdp)

    async def patch(self, body: str, **headers: str) -> tuple[int, str, aiohttp.ClientResponse]:
        sent = FRAGMENT | {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.server.http.patch(self.url, data=body, headers=sent) as response:
            return response.status, await response.text(), response


def credentials_in(sdp: str) -> tuple[str, str]:
    username = re.search(r"a=ice-ufrag:(\S+)", sdp)
    password = re.search(r"a=ice-pwd:(\S+)", sdp)
    assert username and password
    return username[1], password[1]


def fragment(username: str, password: str, *lines: str) -> str:
    credentials = (f"a=ice-ufrag:{username}", f"a=ice-pwd:{password}")
    return "\r\n".join([*credentials, "m=audio 9 UDP/TLS/RTP/SAVPF 0", "a=mid:0", *lines, ""])


async def publish(server: Local, **headers: str) -> Published:
    client = Publishing(server)
    offer = client.connection.offer_sdp
    async with server.http.post(
        f"{server.url}/whip", data=offer, headers=SDP | headers
    ) as response:
        assert response.status == 201, await response.text()
        return Published(server, client, response, await response.text())


@pytest.fixture
async def server() -> AsyncIterator[Local]:
    async with local_server() as running:
        yield running


@pytest.fixture
async def published(server: Local) -> AsyncIterator[Published]:
    made = await publish(server)
    yield made
    await made.client.close()


async def test_an_offer_is_answered_with_all_that_a_publisher_needs(published: Published) -> None:
    """§ 4.2, § 4.3.1."""
    headers = published.response.headers
    assert headers["Content-Type"] == "application/sdp"
    assert re.fullmatch(r"/whip/[0-9a-f]{64}", headers["Location"])
    assert re.fullmatch(r'"[A-Za-z0-9]+"', headers["ETag"])
    assert "a=recvonly" in published.answer
    assert "a=end-of-candidates" in published.answer
    assert "useinbandfec=1;usedtx=0;stereo=0" in published.answer


async def test_the_answer_asks_for_opus_as_the_settings_say() -> None:
    settings = {"fec": False, "dtx": True, "bitrate": 24_000, "stereo": True}
    async with local_server(**settings) as server:
        made = await publish(server)
        assert "useinbandfec=0;usedtx=1;stereo=1;maxaveragebitrate=24000" in made.answer
        await made.client.close()


async def test_stun_and_turn_servers_come_as_links() -> None:
    """§ 4.6."""
    servers = (IceServer("stun:127.0.0.1:9"), IceServer("turn:127.0.0.1:9?transport=tcp"))
    async with local_server(ice_servers=servers, turn_secret="shared") as server:
        made = await publish(server)
        stun, turn = made.response.headers.getall("Link")
        assert stun == '<stun:127.0.0.1:9>; rel="ice-server"'
        assert re.fullmatch(
            r'<turn:127\.0\.0\.1:9\?transport=tcp>; rel="ice-server"; '
            r'username="\d+:[0-9a-f]{16}"; credential="[A-Za-z0-9+/]+="',
            turn,
        )
        await made.client.close()


async def test_the_same_offer_twice_is_one_session(published: Published) -> None:
    offer = published.client.connection.offer_sdp
    server = published.server
    async with server.http.post(f"{server.url}/whip", data=offer, headers=SDP) as again:
        assert again.headers["Location"] == published.response.headers["Location"]
        assert await again.text() == published.answer
    assert server.container.sessions().session_count == 1


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        ("v=0", {"Content-Type": "text/plain"}, 415),
        ("", SDP, 400),
        ("rubbish", SDP, 400),
        (b"\xff\xfe", SDP, 400),
        (b"no gzip", SDP | {"Content-Encoding": "gzip"}, 400),
    ],
)
async def test_a_bad_offer_is_refused(
    server: Local, body: str | bytes, headers: dict[str, str], status: int
) -> None:
    async with server.http.post(f"{server.url}/whip", data=body, headers=headers) as response:
        assert response.status == status
        if status == 415:
            assert response.headers["Accept-Post"] == "application/sdp"


async def test_get_has_no_content(published: Published) -> None:
    """§ 4.1: 2xx without content."""
    server = published.server
    for url in (f"{server.url}/whip", published.url):
        for method in ("GET", "HEAD"):
            async with server.http.request(method, url) as response:
                assert response.status == 204
                assert await response.read() == b""
    async with server.http.get(f"{server.url}/whip/nobody") as response:
        assert response.status == 404


async def test_other_methods_get_the_list_of_allowed_methods(published: Published) -> None:
    server = published.server
    for method, url, allowed in (
        ("PUT", f"{server.url}/whip", {"GET", "HEAD", "OPTIONS", "POST"}),
        ("DELETE", f"{server.url}/whip", {"GET", "HEAD", "OPTIONS", "POST"}),
        ("POST", published.url, {"DELETE", "GET", "HEAD", "OPTIONS", "PATCH"}),
    ):
        async with server.http.request(method, url) as response:
            assert response.status == 405
            assert set(response.headers["Allow"].split(",")) == allowed


async def test_options_list_the_media_types_of_post_and_patch(published: Published) -> None:
    """§ 4.2; RFC 5789 § 3.1."""
    server = published.server
    async with server.http.options(f"{server.url}/whip") as response:
        assert (response.status, response.headers["Accept-Post"]) == (200, "application/sdp")
    async with server.http.options(published.url) as response:
        assert response.headers["Accept-Patch"] == FRAGMENT["Content-Type"]


@pytest.mark.parametrize(
    ("settings", "origin", "allowed"),
    [
        ({}, "http://localhost:3000", True),
        ({}, "https://example.org", False),
        ({"token": "secret"}, "https://example.org", True),
    ],
)
async def test_web_pages_may_use_whip_if_that_is_safe(
    settings: dict[str, str], origin: str, allowed: bool
) -> None:
    async with local_server(**settings) as server:
        asked = {
            "Origin": origin,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization,content-type",
        }
        async with server.http.options(f"{server.url}/whip", headers=asked) as response:
            assert response.status == 200  # a preflight has no token
            assert ("Access-Control-Allow-Origin" in response.headers) is allowed
            if allowed:
                assert response.headers["Access-Control-Allow-Origin"] == origin
                assert "POST" in response.headers["Access-Control-Allow-Methods"]
                assert "Authorization" in response.headers["Access-Control-Allow-Headers"]
                assert "If-Match" in response.headers["Access-Control-Allow-Headers"]
        async with server.http.options(f"{server.url}/nothing", headers=asked) as response:
            assert response.status in (404, 405)


async def test_every_whip_request_needs_a_token() -> None:
    """§ 4.7."""
    async with local_server(token="secret") as server:
        offer = Publishing(server).connection.offer_sdp
        async with server.http.post(f"{server.url}/whip", data=offer, headers=SDP) as response:
            assert response.status == 401
            assert response.headers["WWW-Authenticate"].startswith("Bearer")
        made = await publish(server, Authorization="bearer secret")
        async with server.http.delete(made.url) as response:
            assert response.status == 401
        headers = {"Authorization": "Bearer secret"}
        async with server.http.delete(made.url, headers=headers) as response:
            assert response.status == 200
        await made.client.close()


async def test_candidates_trickle(published: Published) -> None:
    """§ 4.3.2: 204 without an entity-tag; unusable candidates are ignored."""
    candidates = (
        "a=candidate:1 1 udp 2122260223 127.0.0.1 9 typ host ufrag other",
        "a=candidate:2 1 tcp 1518280447 127.0.0.1 9 typ host tcptype active",
        "a=candidate:3 1 udp 1 a0b1c2d3.local 9 typ host",
        "a=candidate:4 3 udp 1 127.0.0.1 9 typ host",
        "a=candidate:5 1 udp 1 fe80::1%eth0 9 typ host",
        "a=candidate:6 1 udp 1 127.0.0.1 0 typ host",
    )
    body = fragment(*published.credentials, *candidates, "a=end-of-candidates")
    for tag in (published.etag, "*", '"*"', f'"other", {published.etag}'):
        status, _, response = await published.patch(body, If_Match=tag)
        assert status == 204
        assert "ETag" not in response.headers


async def test_the_ice_session_has_to_be_named(published: Published) -> None:
    """§ 4.3.1; RFC 6585 § 3; tags are compared strongly."""
    body = fragment(*published.credentials)
    assert (await published.patch(body))[0] == 428
    for tag in ('"other"', f"W/{published.etag}"):
        assert (await published.patch(body, If_Match=tag))[0] == 412


@pytest.mark.parametrize(
    "body",
    [
        "",
        "rubbish\r\n",
        "a=ice-ufrag:abcd\r\n",
        fragment("abc", "x" * 22),
        fragment("abcd\x01", "x" * 22),
        fragment("abcd", "short"),
        fragment("abcd", "x" * 22, "a=candidate:"),
        fragment("abcd", "x" * 22, "a=candidate:rubbish"),
        fragment("abcd", "x" * 22).replace("mid:0", "mid:0 x"),
        fragment("abcd", "x" * 22) + "a=x\r\n" * 2000,
    ],
)
async def test_a_malformed_fragment_is_refused(published: Published, body: str) -> None:
    status, _, _ = await published.patch(body, If_Match="*")
    assert status == 400
    assert (await published.patch("v=0", If_Match="*", Content_Type="application/sdp"))[0] == 415


async def test_ice_is_restarted_by_new_credentials(published: Published) -> None:
    """§ 4.3.3."""
    username, password = published.credentials
    assert (await published.patch(fragment("new/", password), If_Match="*"))[0] == 400
    status, answer, response = await published.patch(fragment("new/", "y" * 22), If_Match="*")
    assert status == 200
    assert response.headers["Content-Type"] == FRAGMENT["Content-Type"]
    assert response.headers["ETag"] not in ("", published.etag)
    assert credentials_in(answer) != credentials_in(published.answer)
    assert "a=candidate:" in answer
    # the tag of the old ICE session is outdated
    old = fragment(username, password, "a=candidate:1 1 udp 1 127.0.0.1 9 typ host")
    assert (await published.patch(old, If_Match=published.etag))[0] == 412
    trickled = fragment("new/", "y" * 22, "a=candidate:1 1 udp 1 127.0.0.1 9 typ host")
    assert (await published.patch(trickled, If_Match=response.headers["ETag"]))[0] == 204


async def test_a_session_is_deleted_and_then_gone(published: Published) -> None:
    """§ 4.2; entity-tags do not matter here (§ 4.3.1)."""
    server = published.server
    headers = {"If-Match": '"other"'}
    async with server.http.delete(published.url, headers=headers) as response:
        assert response.status == 200
    assert (await published.patch(fragment("abcd", "x" * 22), If_Match="*"))[0] == 404
    assert server.container.sessions().session_count == 0


async def test_whip_and_json_requests_reach_the_same_session(published: Published) -> None:
    secret = published.url.rpartition("/")[2]
    another = Publishing(published.server)
    another.resume = secret
    await another.start()
    another.send(20)
    assert published.server.container.sessions().session_count == 1
    async with published.server.http.delete(published.url) as response:
        assert response.status == 200
    ((_, seconds),) = published.server.seen.finished
    assert seconds == pytest.approx(0.4)
    await another.close()
