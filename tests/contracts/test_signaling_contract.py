"""What signaling promises: the HTTP client against the HTTP server, and the fake."""

from __future__ import annotations

import pathlib
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from adapters.http.client import HttpSignaling
from adapters.http.neighbours import Neighbours
from adapters.http.server import SignalingServer
from domain.errors import (
    OfferRejected,
    RecordingIncomplete,
    Refusal,
    ServerRefused,
    ServerUnreachable,
    SessionUnknown,
    WrongServer,
)
from domain.ports.signaling import ServerConnection, SignalingClient
from domain.session.ice import IceCandidate, IceDescription, IceServer
from domain.session.placement import Registrar, Share
from tests.fakes.signaling import FakeSignaling
from tests.rigs.tls import self_signed


@dataclass(frozen=True)
class Accepted:
    session_id: str = "session"
    resume: str = "secret"
    answer_sdp: str = "v=0 answer"
    ice_tag: str = "tag"
    ice_servers: tuple[IceServer, ...] = (IceServer("turn:t", "u", "c"),)


class Service:
    """What the server is for: keeps what it is asked."""

    session_count = 0

    def __init__(self) -> None:
        self.offers: list[tuple[str, str]] = []
        self.candidates: list[tuple[str, IceCandidate]] = []
        self.resumed: list[str | None] = []
        self.deleted: list[str] = []
        self.failing = False

    def states(self) -> dict[str, int]:
        return {}

    async def offer(self, sdp: str, *, name: str, resume: str | None = None) -> Accepted:
        if sdp == "bad":
            raise OfferRejected("it is bad")
        self.offers.append((sdp, name))
        self.resumed.append(resume)
        return Accepted()

    def connection_of(self, secret: str) -> ServerConnection:
        raise SessionUnknown(secret)

    async def restart_ice(self, secret: str, remote: IceDescription) -> IceDescription:
        raise SessionUnknown(secret)

    def session_of(self, secret: str) -> str:
        raise SessionUnknown(secret)

    def add_candidate(self, session_id: str, candidate: IceCandidate) -> None:
        self.candidates.append((session_id, candidate))

    async def delete(self, session_id: str) -> float:
        if session_id in self.deleted:
            raise SessionUnknown("over")
        if self.failing:
            raise RecordingIncomplete("the disk is gone")
        self.deleted.append(session_id)
        return 1.0


def alone() -> Neighbours:
    return Neighbours(Share(), Registrar(Share(), [0]), None)


def http_server(service: Service, token: str | None = None) -> SignalingServer:
    return SignalingServer(
        service, host="127.0.0.1", port=0, token=token, tls_cert=None, tls_key=None,
        allow_anyone=False, version="1", neighbours=alone(),
    )  # fmt: skip


@pytest.fixture(params=["http", "fake"])
async def joined(
    request: pytest.FixtureRequest,
) -> AsyncIterator[tuple[SignalingClient, Service | FakeSignaling]]:
    """A client, and where what it says arrives."""
    if request.param == "fake":
        fake = FakeSignaling()
        yield fake, fake
        return
    service = Service()
    server = http_server(service)
    client = HttpSignaling(server=await server.start(), token=None)
    yield client, service
    await client.close()
    await server.stop()


async def test_an_offer_is_answered(
    joined: tuple[SignalingClient, Service | FakeSignaling],
) -> None:
    client, heard = joined
    answer = await client.offer("v=0 offer", name="Küche")
    assert (answer.sdp, answer.session_id, answer.resume) == ("v=0 answer", "session", "secret")
    assert heard.offers == [("v=0 offer", "Küche")]
    await client.offer("v=0 another", name="", resume="secret")
    assert heard.resumed == [None, "secret"]


async def test_the_answer_names_stun_and_turn_servers() -> None:
    server = http_server(Service())
    client = HttpSignaling(server=await server.start(), token=None)
    answer = await client.offer("v=0 offer", name="")
    assert answer.ice_servers == (IceServer("turn:t", "u", "c"),)
    await client.close()
    await server.stop()


async def test_an_ice_restart_is_refused_where_there_is_no_such_session() -> None:
    server = http_server(Service())
    client = HttpSignaling(server=await server.start(), token=None)
    with pytest.raises(ServerRefused, match="404"):
        await client.restart_ice("secret", IceDescription("abcd", "x" * 22), ice_tag="tag")
    await client.close()
    await server.stop()


async def test_candidates_arrive_in_order_and_so_does_their_end(
    joined: tuple[SignalingClient, Service | FakeSignaling],
) -> None:
    client, heard = joined
    candidates = [IceCandidate("candidate:1", "0", 0), IceCandidate(None, "0", 0)]
    for candidate in candidates:
        await client.send_candidate("session", candidate)
    assert heard.candidates == [("session", candidate) for candidate in candidates]


async def test_deleting_twice_is_no_error(
    joined: tuple[SignalingClient, Service | FakeSignaling],
) -> None:
    client, heard = joined
    assert await client.delete("session") == 1.0
    await client.delete("session")
    assert heard.deleted[0] == "session"


async def test_closing_twice_is_no_error(
    joined: tuple[SignalingClient, Service | FakeSignaling],
) -> None:
    client, _ = joined
    await client.close()
    await client.close()


async def test_a_refusal_says_why_in_the_servers_words() -> None:
    server = http_server(Service(), token="right")
    url = await server.start()
    for token, sdp, status, reason in [
        ("wrong", "x", 401, "bearer token"),
        ("right", "bad", 400, "it is bad"),
    ]:
        client = HttpSignaling(server=url, token=token)
        with pytest.raises(ServerRefused, match=reason) as refused:
            await client.offer(sdp, name="")
        assert f"the server refused ({status}): " in str(refused.value)
        assert refused.value.refusal is Refusal.FINAL
        await client.close()
    await server.stop()


async def test_a_recording_that_failed_is_a_final_refusal() -> None:
    service = Service()
    service.failing = True
    server = http_server(service)
    client = HttpSignaling(server=await server.start(), token=None)
    with pytest.raises(ServerRefused, match=r"\(500\): the disk is gone") as refused:
        await client.delete("session")
    assert refused.value.refusal is Refusal.FINAL
    await client.close()
    await server.stop()


async def test_nobody_at_the_address_is_unreachable() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        client = HttpSignaling(server=f"http://127.0.0.1:{taken.getsockname()[1]}", token=None)
        with pytest.raises(ServerUnreachable, match="no server at"):
            await client.offer("x", name="")
        await client.close()


async def test_over_tls_only_a_certificate_that_is_trusted_will_do(tmp_path: pathlib.Path) -> None:
    certificate, key = self_signed(tmp_path)
    server = SignalingServer(
        Service(), host="127.0.0.1", port=0, token=None, tls_cert=certificate, tls_key=key,
        allow_anyone=False, version="1", neighbours=alone(),
    )  # fmt: skip
    url = await server.start()
    assert url.startswith("https://")
    stranger = HttpSignaling(server=url, token=None)
    with pytest.raises(WrongServer, match="not trusted"):
        await stranger.offer("x", name="")
    await stranger.close()
    await server.stop()
