"""Consent is checked while a path is used, and expires if the peer stops answering."""

from __future__ import annotations

import asyncio
from collections import Counter
from types import SimpleNamespace
from typing import cast

import pytest
from aioice import stun
from aioice.ice import CONSENT_FAILURES, StunProtocol

from adapters.transport.ice import consent
from adapters.transport.ice.candidates import parse_candidate
from adapters.transport.ice.consent import ConsentCheck
from adapters.transport.ice.options import IceOptions
from adapters.transport.ice.transport import IceTransport
from adapters.transport.sockets.port import SharedTransport
from tests.rigs.rebinding import rebound

INTERVAL_S = 0.05
LOOPBACK = IceOptions(loopback=("127.0.0.1",))


async def connected() -> tuple[IceTransport, IceTransport]:
    one, other = (IceTransport(LOOPBACK, controlling=controlling) for controlling in (True, False))
    one.set_remote(other.username, other.password)
    other.set_remote(one.username, one.password)
    for transport, peer in ((one, other), (other, one)):
        for candidate in await transport.gather(()):
            await peer.add_remote_candidate(parse_candidate(candidate))
    for transport in (one, other):
        await transport.add_remote_candidate(None)
    await asyncio.gather(one.connect(), other.connect())
    return one, other


async def until_lost(transport: IceTransport) -> None:
    async with asyncio.timeout(20):
        while not transport.is_lost:
            await asyncio.sleep(INTERVAL_S)


async def test_a_peer_that_answers_checks_keeps_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consent, "CONSENT_INTERVAL", INTERVAL_S)
    given: Counter[bool] = Counter()
    withdraw = ConsentCheck.withdraw

    def counted(check: ConsentCheck) -> None:
        given[check.is_answered] += 1
        withdraw(check)

    monkeypatch.setattr(ConsentCheck, "withdraw", counted)
    one, other = await connected()
    async with asyncio.timeout(20):
        while given.total() < 4 * CONSENT_FAILURES:
            await asyncio.sleep(INTERVAL_S)
    assert given[True] > given.total() / 2
    assert not one.is_lost
    assert not other.is_lost
    await one.close()
    await other.close()


async def test_what_is_sent_follows_a_peer_whose_address_changes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A NAT may rebind a peer that does not restart ICE."""
    monkeypatch.setattr(consent, "CONSENT_INTERVAL", INTERVAL_S)
    one, other = await connected()
    pair, peer = other._agent.selected, one._agent.selected
    assert pair is not None
    assert peer is not None
    before = pair.remote_addr
    assert isinstance(peer.protocol.transport, SharedTransport)
    after = rebound(peer.protocol.transport.port)
    assert after != before
    async with asyncio.timeout(20):
        while (selected := other._agent.selected) is None or selected.remote_addr != after:
            await asyncio.sleep(INTERVAL_S)
    received: list[bytes] = []
    one.on_media = lambda datagrams: received.extend(data for data, _ in datagrams)
    assert other.send(b"\x80 and the packets arrive")
    async with asyncio.timeout(20):
        while not received:
            await asyncio.sleep(INTERVAL_S)
    assert not other.is_lost
    await one.close()
    await other.close()


async def test_only_an_answer_with_the_right_key_counts() -> None:
    """RFC 7675 § 5.1."""
    number, key = bytes(12), b"of the path"
    protocol = SimpleNamespace(transactions={})
    check = ConsentCheck(number, key, cast("StunProtocol", protocol), sent_at=0.0)
    for signed_with, is_answered in ((b"of another", False), (key, True)):
        answer = stun.Message(stun.Method.BINDING, stun.Class.RESPONSE, number)
        answer.add_message_integrity(signed_with)
        received = stun.parse_message(bytes(answer))
        protocol.transactions[received.transaction_id].response_received(received, ("", 0))
        assert check.is_answered is is_answered


async def test_a_path_is_lost_when_the_peer_falls_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consent, "CONSENT_INTERVAL", INTERVAL_S)
    one, other = await connected()
    pair = one._agent.selected
    assert pair is not None
    await other.close()  # ICE does not signal it
    await until_lost(one)
    assert pair.protocol.transactions == {}
    await one.close()
