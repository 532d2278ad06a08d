"""The contract of signaling, for the HTTP client with the HTTP server, and for the fake."""

from __future__ import annotations

import datetime
import pathlib
import socket
from collections.abc import AsyncIterator

import pytest

from adapters.http.client import HttpSignaling
from adapters.http.tls import TlsFiles
from domain.errors import (
    Refusal,
    ServerRefused,
    ServerUnreachable,
    WrongServer,
)
from domain.ports.signaling import SignalingClient
from domain.recording.ledger import RestoreMode
from domain.recording.restoring import SpoolInfo
from domain.session.ice import IceCandidate, IceDescription, IceServer
from domain.sound.formats import AudioFormat, SampleFormat
from tests.fakes.http import FakeSessions, http_server
from tests.fakes.signaling import FakeSignaling
from tests.rigs.tls import self_signed


@pytest.fixture(params=["http", "fake"])
async def joined(
    request: pytest.FixtureRequest,
) -> AsyncIterator[tuple[SignalingClient, FakeSessions | FakeSignaling]]:
    """A client, and the sessions that receive its requests."""
    if request.param == "fake":
        fake = FakeSignaling()
        yield fake, fake
        return
    service = FakeSessions()
    server = http_server(service)
    client = HttpSignaling(server=await server.start(), token=None)
    yield client, service
    await client.close()
    await server.stop()


async def test_an_offer_is_answered(
    joined: tuple[SignalingClient, FakeSessions | FakeSignaling],
) -> None:
    client, heard = joined
    answer = await client.offer("v=0 offer", name="Küche")
    assert (answer.sdp, answer.session_id, answer.resume) == ("v=0 answer", "session", "secret")
    assert heard.offers == [("v=0 offer", "Küche")]
    await client.offer("v=0 another", name="", resume="secret")
    assert heard.resumed == [None, "secret"]


SPOOL = SpoolInfo(
    2**32 - 1,
    AudioFormat(96_000, 8, SampleFormat.S24),
    RestoreMode.ALL,
    datetime.datetime(2026, 1, 31, 12, 0, 0, 250_000, datetime.UTC),
)


async def test_an_offer_says_how_its_spool_belongs_to_what_is_sent(
    joined: tuple[SignalingClient, FakeSessions | FakeSignaling],
) -> None:
    client, heard = joined
    plain = SpoolInfo(0, AudioFormat(44_100, 1))
    for spool in (SPOOL, plain, None):
        await client.offer("v=0 offer", name="", spool=spool)
    assert heard.spools == [SPOOL, plain, None]


async def test_the_answer_names_stun_and_turn_servers() -> None:
    server = http_server(FakeSessions())
    client = HttpSignaling(server=await server.start(), token=None)
    answer = await client.offer("v=0 offer", name="")
    assert answer.ice_servers == (IceServer("turn:t", "u", "c"),)
    await client.close()
    await server.stop()


async def test_an_ice_restart_is_refused_where_there_is_no_such_session() -> None:
    server = http_server(FakeSessions())
    client = HttpSignaling(server=await server.start(), token=None)
    with pytest.raises(ServerRefused, match="404"):
        await client.restart_ice("secret", IceDescription("abcd", "x" * 22), ice_tag="tag")
    await client.close()
    await server.stop()


async def test_candidates_arrive_in_order_and_so_does_their_end(
    joined: tuple[SignalingClient, FakeSessions | FakeSignaling],
) -> None:
    client, heard = joined
    candidates = [IceCandidate("candidate:1", "0", 0), IceCandidate(None, "0", 0)]
    for candidate in candidates:
        await client.send_candidate("session", candidate)
    assert heard.candidates == [("session", candidate) for candidate in candidates]


async def test_deleting_twice_is_no_error(
    joined: tuple[SignalingClient, FakeSessions | FakeSignaling],
) -> None:
    client, heard = joined
    assert await client.delete("session") == 1.0
    await client.delete("session")
    assert heard.deleted[0] == "session"


async def test_a_client_learns_why_the_server_has_ended_its_session(
    joined: tuple[SignalingClient, FakeSessions | FakeSignaling],
) -> None:
    client, heard = joined
    assert await client.reason_of_end("ended by its client") is None
    heard.reason = "it lasted too long"
    assert await client.reason_of_end("session") == "it lasted too long"


async def test_closing_twice_is_no_error(
    joined: tuple[SignalingClient, FakeSessions | FakeSignaling],
) -> None:
    client, _ = joined
    await client.close()
    await client.close()


async def test_a_refusal_says_why_in_the_servers_words() -> None:
    server = http_server(FakeSessions(), token="right")
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
    service = FakeSessions()
    service.is_failing = True
    server = http_server(service)
    client = HttpSignaling(server=await server.start(), token=None)
    with pytest.raises(ServerRefused, match=r"\(500\): the disk is gone") as refused:
        await client.delete("session")
    assert refused.value.refusal is Refusal.FINAL
    await client.close()
    await server.stop()


async def test_an_address_without_a_server_is_unreachable() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        client = HttpSignaling(server=f"http://127.0.0.1:{taken.getsockname()[1]}", token=None)
        with pytest.raises(ServerUnreachable, match="no server at"):
            await client.offer("x", name="")
        await client.close()


async def test_tls_needs_a_trusted_certificate(tmp_path: pathlib.Path) -> None:
    server = http_server(FakeSessions(), tls=TlsFiles(*self_signed(tmp_path)))
    url = await server.start()
    assert url.startswith("https://")
    stranger = HttpSignaling(server=url, token=None)
    with pytest.raises(WrongServer, match="not trusted"):
        await stranger.offer("x", name="")
    await stranger.close()
    await server.stop()
