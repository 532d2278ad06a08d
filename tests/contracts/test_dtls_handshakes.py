"""DTLS handshakes with certificates of all kinds, and why one fails."""

from __future__ import annotations

import asyncio
import itertools
import logging
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiortc import RTCCertificate, RTCPeerConnection, RTCSessionDescription
from cryptography.hazmat.primitives.asymmetric import ec

from adapters.runtime.asyncio_runtime import BackgroundTasks
from adapters.transport.dtls.handshake import DtlsSession, _datagrams
from adapters.transport.sdp.parsing import parse_answer
from domain.errors import ConnectionFailed
from domain.ports.signaling import ClientConnection, ServerConnection
from domain.recording.effects import EndReason
from domain.rtp.packets import RtpPacket
from tests.contracts.test_transport_contract import (
    Heard,
    connect,
    fingerprint_in,
    real_publisher,
    real_server,
)
from tests.rigs.certificates import elliptic_certificate, peer_with, rsa_certificate
from tests.rigs.clients import local_server

roles = pytest.mark.parametrize("setup", ["actpass", "active"])
"""Whether the server is the DTLS client (as usual) or the DTLS server."""


@asynccontextmanager
async def published(
    certificate: RTCCertificate, setup: str, *, fingerprint: str = ""
) -> AsyncIterator[tuple[ServerConnection, Heard, RTCPeerConnection]]:
    """Let an aiortc peer with a certificate publish to a server."""
    spawner, heard = BackgroundTasks(), Heard()
    peer = await peer_with(certificate)
    offer = peer.localDescription.sdp.replace("a=setup:actpass", f"a=setup:{setup}")
    if fingerprint:
        lines = [line for line in offer.splitlines() if not line.startswith("a=fingerprint")]
        at = lines.index(f"a=setup:{setup}")
        offer = "\r\n".join([*lines[:at], f"a=fingerprint:{fingerprint}", *lines[at:], ""])
    server = await real_server(spawner).accept(offer, ice_servers=())
    server.start(heard)
    await peer.setRemoteDescription(RTCSessionDescription(server.answer_sdp, "answer"))
    try:
        yield server, heard, peer
    finally:
        await peer.close()
        await server.close()
        await spawner.join()


@asynccontextmanager
async def joined(
    publisher: ClientConnection,
    setup: str = "actpass",
    prepare: Callable[[ServerConnection], None] = lambda server: None,
) -> AsyncIterator[tuple[ServerConnection, Heard]]:
    """Connect one of our publishers to a server, on which `prepare` is called before."""
    spawner, heard = BackgroundTasks(), Heard()
    offer = publisher.offer_sdp.replace("a=setup:actpass", f"a=setup:{setup}")
    server = await real_server(spawner).accept(offer, ice_servers=())
    prepare(server)
    server.start(heard)
    try:
        await connect(publisher, server)
        yield server, heard
    finally:
        await publisher.close()
        await server.close()
        await spawner.join()


@roles
@pytest.mark.parametrize("kind", ["rsa-2048", "p-256", "p-384", "p-521"])
async def test_peers_with_usual_certificates_connect(setup: str, kind: str) -> None:
    certificate = {
        "rsa-2048": rsa_certificate,
        "p-256": lambda: elliptic_certificate(ec.SECP256R1()),
        "p-384": lambda: elliptic_certificate(ec.SECP384R1()),
        "p-521": lambda: elliptic_certificate(ec.SECP521R1()),
    }[kind]()
    async with published(certificate, setup) as (server, heard, _):
        await heard.until(lambda: len(heard.packets) >= 10)
        assert heard.established == 1
        assert server.obstacle is None
        assert server.rejected == 0  # type: ignore[attr-defined]


@roles
async def test_a_peer_with_an_rsa_certificate_closes(setup: str) -> None:
    async with published(rsa_certificate(), setup) as (_, heard, peer):
        await heard.until(lambda: len(heard.packets) >= 1)
        await peer.close()
        await heard.until(lambda: heard.closed == 1)
        assert heard.reason is None


@roles
async def test_a_flight_that_is_larger_than_a_datagram_arrives(
    setup: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = rsa_certificate(4096)
    monkeypatch.setattr(RTCCertificate, "generateCertificate", lambda: certificate)
    publisher = real_publisher()
    monkeypatch.undo()
    async with joined(publisher, setup) as (_, heard):
        publisher.send(RtpPacket(111, 1, 0, 7, b"\x78x"))
        await heard.until(lambda: len(heard.packets) == 1)


@roles
async def test_a_peer_with_several_certificates_uses_one_of_them(setup: str) -> None:
    """Their fingerprints are values of one hash (RFC 8122 § 5)."""
    certificate = elliptic_certificate(ec.SECP256R1())
    own, other = (item.getFingerprints()[0].value for item in (certificate, rsa_certificate()))
    for values in ([own, other], [other, own]):
        lines = "\r\na=fingerprint:".join(f"sha-256 {value}" for value in values)
        async with published(certificate, setup, fingerprint=lines) as (_, heard, _):
            await heard.until(lambda: len(heard.packets) >= 1)


@roles
@pytest.mark.parametrize("kind", ["rsa", "ecdsa"])
async def test_a_wrong_fingerprint_is_told(
    setup: str, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    certificate = rsa_certificate() if kind == "rsa" else RTCCertificate.generateCertificate()
    wrong = "sha-256 " + ":".join(["AB"] * 32)
    async with published(certificate, setup, fingerprint=wrong) as (server, heard, _):
        await heard.until(lambda: heard.closed == 1)
        assert heard.established == len(heard.packets) == 0
        assert heard.reason == server.obstacle
        assert "the sha-256 fingerprint of the peer's certificate is not the one" in str(
            heard.reason
        )
    assert [record.getMessage() for record in caplog.records if record.name == "gapless"] == [
        f"a connection failed: {heard.reason}"
    ]


@roles
async def test_an_unsupported_certificate_is_told(setup: str) -> None:
    """FFmpeg's WHIP muxer makes a P-224 key where it is built with GnuTLS."""
    async with published(elliptic_certificate(ec.SECP224R1()), setup) as (_, heard, _):
        await heard.until(lambda: heard.closed == 1)
        assert heard.established == 0
        reason = str(heard.reason)
        assert reason.startswith("the DTLS handshake failed: ")
        assert "P-256" in reason
        assert ("alert" if setup == "actpass" else "wrong curve") in reason


@roles
async def test_a_peer_that_does_not_answer_is_told(setup: str) -> None:
    """It has a network path, and sends no DTLS."""
    spawner, heard = BackgroundTasks(), Heard()
    publisher = real_publisher()
    offer = publisher.offer_sdp.replace("a=setup:actpass", f"a=setup:{setup}")
    server = await real_server(spawner).accept(offer, ice_servers=())
    assert server.obstacle == "no network path has been found"
    server.start(heard)
    ice = publisher._transport.ice  # type: ignore[attr-defined]
    answer = parse_answer(server.answer_sdp)
    ice.set_remote(answer.username, answer.password)
    await ice.gather(())
    for candidate in answer.candidates:
        await ice.add_remote_candidate(candidate)
    await ice.connect()
    while server.obstacle == "no network path has been found":
        await asyncio.sleep(0.01)
    assert server.obstacle == "the DTLS handshake is not complete: the peer has sent nothing"
    await publisher.close()
    await server.close()
    await spawner.join()
    assert heard.closed == heard.established == 0  # the close was the server's own


@pytest.mark.parametrize("is_silent", [True, False])
async def test_the_end_of_the_session_says_why_the_handshake_failed(is_silent: bool) -> None:
    async with local_server(connect_timeout_s=1) as server:
        peer = await peer_with(rsa_certificate())
        offer = peer.localDescription.sdp
        if not is_silent:
            fingerprints = re.compile("a=fingerprint:sha-.*\r\n")
            offer = fingerprints.sub(f"a=fingerprint:sha-256 {'AB:' * 31}AB\r\n", offer)
        _, body = await server.post("/offer", sdp=offer, type="offer")
        if is_silent:
            # it connects by ICE only
            ice = next(iter(peer._RTCPeerConnection__iceTransports))
            ice._connection.remote_username, ice._connection.remote_password = (
                parse_answer(body["sdp"]).username,
                parse_answer(body["sdp"]).password,
            )
            for candidate in parse_answer(body["sdp"]).candidates:
                await ice._connection.add_remote_candidate(candidate)
            await ice._connection.connect()
        else:
            await peer.setRemoteDescription(RTCSessionDescription(body["sdp"], "answer"))
        reason = await server.seen.next_end()
        assert reason is (EndReason.INACTIVE if is_silent else EndReason.CLOSED)
        (detail,) = server.seen.details
        assert ("the peer has sent nothing" if is_silent else "fingerprint") in str(detail)
        await peer.close()


async def test_a_client_is_told_why_the_handshake_failed() -> None:
    spawner, heard = BackgroundTasks(), Heard()
    publisher, other = real_publisher(), real_publisher()
    server = await real_server(spawner).accept(publisher.offer_sdp, ice_servers=())
    server.start(heard)
    answer = server.answer_sdp
    wrong = answer.replace(fingerprint_in(answer), fingerprint_in(other.offer_sdp))
    with pytest.raises(ConnectionFailed, match="no secure connection .* fingerprint of the peer"):
        await connect(publisher, server, answer_sdp=wrong)
    await publisher.close()
    await other.close()
    await server.close()
    await spawner.join()


@roles
@pytest.mark.parametrize("number", [1, 2])
async def test_lost_flights_are_sent_again(
    setup: str, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher = real_publisher()

    def drop(server: ServerConnection) -> None:
        for end in (publisher, server):
            lose_datagram(end._transport.ice, number, monkeypatch)  # type: ignore[attr-defined]

    async with joined(publisher, setup, drop) as (_, heard):
        publisher.send(RtpPacket(111, 1, 0, 7, b"\x78x"))
        await heard.until(lambda: len(heard.packets) == 1)


def lose_datagram(ice: Any, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lose one DTLS datagram of those that an end sends."""
    send, numbers = ice.send, itertools.count(1)

    def lossy(data: bytes) -> bool:
        is_dtls = 20 <= data[0] <= 63
        return True if is_dtls and next(numbers) == number else bool(send(data))

    monkeypatch.setattr(ice, "send", lossy)


def test_records_are_packed_into_datagrams_undivided() -> None:
    records = [bytes(11) + length.to_bytes(2, "big") + bytes(length) for length in (900, 400, 9)]
    assert list(_datagrams(b"".join(records))) == [records[0], records[1] + records[2]]
    assert list(_datagrams(records[0] * 3)) == [records[0]] * 3
    assert list(_datagrams(b"")) == []


@roles
async def test_a_connection_that_is_closed_amid_its_handshake_is_not_established(
    setup: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    opened: list[ServerConnection] = []
    closings: list[asyncio.Task[None]] = []
    begun = asyncio.Event()
    handshake = DtlsSession.handshake

    async def closed_before_its_end(self: DtlsSession, *args: Any) -> None:
        await handshake(self, *args)
        closings.append(asyncio.create_task(opened[0].close()))
        async with asyncio.timeout(5):
            while opened[0]._transport._dtls is not None:  # type: ignore[attr-defined]
                await asyncio.sleep(0)
        begun.set()

    monkeypatch.setattr(DtlsSession, "handshake", closed_before_its_end)
    certificate = elliptic_certificate(ec.SECP256R1())
    async with published(certificate, setup) as (server, heard, _):
        opened.append(server)
        async with asyncio.timeout(10):
            await begun.wait()
        await closings[0]
    assert heard.established == 0
    assert not server._transport.is_open  # type: ignore[attr-defined]
    assert server.obstacle is not None
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
