"""Bad requests get a clear error, leave nothing behind, and disturb no other client."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncIterator

import aiohttp
import pytest

from tests.rigs.clients import Local, Publishing, local_server, resources_held, returns_to


@pytest.fixture
async def server() -> AsyncIterator[Local]:
    async with local_server() as running:
        yield running


def good_offer(server: Local) -> str:
    return server.open_connection().offer_sdp


def without(sdp: str, pattern: str) -> str:
    return re.sub(pattern, "", sdp, flags=re.MULTILINE)


BAD_OFFERS = {
    "empty": (lambda sdp: "", "empty"),
    "white space": (lambda sdp: " \r\n ", "empty"),
    "no SDP": (lambda sdp: "hello", "no audio"),
    "no audio": (lambda sdp: sdp.partition("m=audio")[0], "no audio"),
    "video only": (lambda sdp: sdp.replace("m=audio", "m=video"), "no audio"),
    "nothing to receive": (lambda sdp: sdp.replace("a=sendonly", "a=recvonly"), "no audio"),
    "no fingerprint": (lambda sdp: without(sdp, r"^a=fingerprint.*\n"), "no fingerprint"),
    "no setup": (lambda sdp: without(sdp, r"^a=setup.*\n"), "no fingerprint, or no setup"),
    "weak hash": (lambda sdp: sdp.replace("sha-256", "md5"), "no fingerprint"),
    "no ICE": (lambda sdp: without(sdp, r"^a=ice-(ufrag|pwd).*\n"), "no ICE credentials"),
    "no common codec": (lambda sdp: sdp.replace("opus/48000/2", "L24/48000/2"), "no codec"),
    "bad m-line": (lambda sdp: sdp.replace("m=audio 9", "m=audio nine"), "cannot be read"),
    "bad rtpmap": (lambda sdp: sdp.replace("111 opus", "opus"), "cannot be read"),
    "bad setup": (lambda sdp: sdp.replace("actpass", "sideways"), "cannot be read"),
    "bad candidate": (lambda sdp: sdp + "a=candidate:1 x\r\n", "cannot be read"),
    "port 0": (lambda sdp: sdp.replace("m=audio 9", "m=audio 0"), "no audio"),
    "much too long": (lambda sdp: sdp + "a=x\r\n" * 30_000, "longer than"),
}


@pytest.mark.parametrize("kind", BAD_OFFERS)
async def test_a_bad_offer_is_refused_with_its_reason(server: Local, kind: str) -> None:
    await server.post("/offer", sdp="warm up", type="offer")
    offer = good_offer(server)
    before = await resources_held()
    change, reason = BAD_OFFERS[kind]
    status, body = await server.post("/offer", sdp=change(offer), type="offer")
    assert status == 400
    assert reason in body["error"]
    assert server.container.sessions().session_count == 0
    await returns_to(before)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 400),
        ({"sdp": "x"}, 400),
        ({"sdp": 1, "type": "offer"}, 400),
        ({"sdp": "x", "type": "answer"}, 400),
        ({"sdp": "x", "type": "offer", "name": 5}, 400),
        ({"sdp": "x", "type": "offer", "name": "n" * 1000}, 400),
        ({"sdp": "x", "type": "offer", "resume": "unknown"}, 404),
    ],
)
async def test_an_offer_of_the_wrong_shape_is_refused(
    server: Local, body: dict[str, object], status: int
) -> None:
    answered, reply = await server.post("/offer", **body)
    assert answered == status
    assert reply["error"]


@pytest.mark.parametrize(
    ("data", "kind", "status"),
    [
        (b"{", "application/json", 400),
        (b"[]", "application/json", 400),
        (b"\xff\xfe", "application/json", 400),
        (b"[" * 100_000, "application/json", 400),
        (b'{"sdp": "x", "type": "offer"}', "text/plain", 415),
        (b"x" * 1_000_000, "application/json", 413),
    ],
    ids=["cut off", "a list", "no text", "deep", "not JSON", "huge"],
)
async def test_a_malformed_body_is_refused(
    server: Local, data: bytes, kind: str, status: int
) -> None:
    async with server.http.post(
        f"{server.url}/offer", data=data, headers={"Content-Type": kind}
    ) as response:
        assert response.status == status
        assert (await response.json())["error"]


@pytest.mark.parametrize(
    "candidate",
    ["rubbish", "candidate:1 1 udp x 192.0.2.1 9 typ host", "candidate:1 1 udp 1 h 99999 typ host"],
)
async def test_a_bad_candidate_is_refused_and_the_session_lives(
    server: Local, candidate: str
) -> None:
    _, answer = await server.post("/offer", sdp=good_offer(server), type="offer")
    status, body = await server.post("/ice-candidate", id=answer["id"], candidate=candidate)
    assert status == 400
    assert "candidate" in body["error"]
    assert server.container.sessions().session_count == 1


@pytest.mark.parametrize("candidate", [None, "", "candidate:1 1 udp 1 192.0.2.9 9 typ host"])
async def test_candidates_for_unknown_sessions_are_refused(
    server: Local, candidate: str | None
) -> None:
    status, body = await server.post("/ice-candidate", id="nobody", candidate=candidate)
    assert status == 404
    assert "no such session" in body["error"]


@pytest.mark.parametrize("candidate", ["candidate:1 1 udp 1 no.such.host 9 typ host", "", None])
async def test_unreachable_candidates_are_accepted(server: Local, candidate: str | None) -> None:
    _, answer = await server.post("/offer", sdp=good_offer(server), type="offer")
    for _ in range(2):
        body = {"id": answer["id"], "candidate": candidate, "sdpMid": "0", "sdpMLineIndex": 0}
        assert (await server.post("/ice-candidate", **body))[0] == 204


async def test_unknown_paths_and_methods_are_refused(server: Local) -> None:
    async with server.http.get(f"{server.url}/nothing") as response:
        assert response.status == 404
    async with server.http.get(f"{server.url}/offer") as response:
        assert response.status == 405
        assert set(response.headers["Allow"].split(",")) == {"POST", "OPTIONS"}
    async with server.http.delete(f"{server.url}/sessions/nobody") as response:
        assert response.status == 404


async def test_a_body_that_never_arrives_is_given_up(
    server: Local, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapters.http.bodies.BODY_S", 0.2)
    host, port = server.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(
        b"POST /offer HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: 100\r\n\r\n{"
    )
    assert b"408" in await reader.readline()
    writer.close()
    await writer.wait_closed()


async def test_every_request_except_health_needs_a_token() -> None:
    async with local_server(token="secret") as server:
        offer = good_offer(server)
        assert (await server.post("/offer", sdp=offer, type="offer"))[0] == 401
        async with server.http.get(f"{server.url}/health") as response:
            assert response.status == 200
        for token, status in [("wrong", 401), ("sécret", 401), ("secret", 200)]:
            headers = {"Authorization": f"Bearer {token}"}
            async with server.http.post(
                f"{server.url}/offer", json={"sdp": offer, "type": "offer"}, headers=headers
            ) as response:
                assert response.status == status
                if status == 401:
                    assert response.headers["WWW-Authenticate"] == 'Bearer realm="gapless"'


def ports(answer: str) -> list[tuple[str, int]]:
    return [
        (fields[4], int(fields[5]))
        for line in answer.splitlines()
        if line.startswith("a=candidate:") and ":" not in (fields := line.split())[4]
    ]


async def test_datagrams_from_strangers_change_nothing(server: Local) -> None:
    client = Publishing(server)
    offer = await server.post("/offer", sdp=client.connection.offer_sdp, type="offer")
    client.id, client.answer = offer[1]["id"], offer[1]["sdp"]
    stranger = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    # empty; a DTLS ClientHello; invalid SRTP, SRTCP and STUN; noise
    attacks = [
        b"", b"\x16\xfe\xff" + bytes(40), b"\x80\x6f" + bytes(60), b"\x80\xc8" + bytes(60),
        b"\x00\x01\x00\x00\x21\x12\xa4\x42" + bytes(12), b"\x00", b"\xff" * 1200, b"\x50" * 20,
    ]  # fmt: skip

    def attack() -> None:
        for address in ports(client.answer):
            for data in attacks:
                stranger.sendto(data, address)

    attack()

    await client.connect(client.answer)
    client.send(10)
    for _ in range(5):
        attack()
    client.send(10)
    await client.close()
    stranger.close()
    await server.seen.next_end()
    ((_, seconds),) = server.seen.finished
    assert seconds == pytest.approx(0.4)
    assert server.seen.failures == []


async def test_one_bad_client_does_not_disturb_another(server: Local) -> None:
    good = Publishing(server)
    await good.start()
    good.send(5)
    for change, _ in BAD_OFFERS.values():
        await server.post("/offer", sdp=change(good.connection.offer_sdp), type="offer")
        good.send(1)
    for payload in (b"", b"\xff", bytes(2000)[:1100], b"\x7f\x00"):
        good.send_payload(payload)
    good.send(5)
    await good.close()
    await server.seen.next_end()
    ((_, seconds),) = server.seen.finished
    assert seconds == pytest.approx(good.sent * 0.02)


@pytest.mark.parametrize("ending", ["closed", "deleted", "vanished", "never connected"])
async def test_a_session_leaves_nothing_behind(ending: str) -> None:
    async with local_server(inactivity_timeout_s=0.5, connect_timeout_s=0.5) as server:
        await server.post("/offer", sdp="warm up", type="offer")
        before = await resources_held()
        for _ in range(5):
            client = Publishing(server)
            if ending == "never connected":
                await server.post("/offer", sdp=client.connection.offer_sdp, type="offer")
            else:
                await client.start()
                client.send(5)
            if ending == "deleted":
                async with server.http.delete(f"{server.url}/sessions/{client.id}") as response:
                    assert response.status == 204
            if ending == "closed":
                await client.close()
            await server.seen.next_end()
            await client.close()
        await returns_to(before)


async def test_a_shutdown_during_a_session_leaves_nothing_behind() -> None:
    async with aiohttp.ClientSession():
        before = await resources_held()
        async with local_server() as server:
            clients = [Publishing(server) for _ in range(3)]
            for client in clients:
                await client.start()
                client.send(5)
        for client in clients:
            await client.close()
        assert len(server.seen.finished) == 3
        await returns_to(before)
