"""The contract of placements: every node gives the same answer."""

from __future__ import annotations

import pathlib
import socket
import tempfile
import time
from collections.abc import AsyncIterator

import pytest

from adapters.placement.single import SingleNode
from adapters.placement.workers import WorkerPlacement
from domain.errors import NodeUnavailable
from domain.ports.placement import KnownSession, NewOffer, Node, Placement, SessionKey
from domain.session.placement import ABSENT, UNREACHABLE_S, UNRESPONSIVE_S, NodeId


class Nodes:
    """The placements of all nodes of a server."""

    def __init__(self, placements: list[Placement], counts: list[int]) -> None:
        self.placements = placements
        self.counts = counts

    async def open(self) -> None:
        for placement in self.placements:
            await placement.open()
            placement.report(0)

    async def close(self) -> None:
        for placement in self.placements:
            await placement.close()

    async def where(self, key: SessionKey) -> set[Node | None]:
        """Ask every node where a session lives."""
        return {await one.node_of(key) or one.here for one in self.placements}


@pytest.fixture(params=["single", "one worker", "three workers"])
async def nodes(request: pytest.FixtureRequest) -> AsyncIterator[Nodes]:
    with tempfile.TemporaryDirectory() as folder:  # names of Unix sockets have to be short
        count = 3 if request.param == "three workers" else 1
        counts = [ABSENT] * count
        placements: list[Placement] = (
            [SingleNode()]
            if request.param == "single"
            else [WorkerPlacement(NodeId(n, count), counts, folder) for n in range(count)]
        )
        found = Nodes(placements, counts)
        await found.open()
        yield found
        await found.close()


@pytest.fixture
async def workers() -> AsyncIterator[Nodes]:
    with tempfile.TemporaryDirectory() as folder:
        counts = [ABSENT] * 2
        found = Nodes([WorkerPlacement(NodeId(n, 2), counts, folder) for n in range(2)], counts)
        await found.open()
        yield found
        await found.close()


async def test_all_nodes_agree_where_a_session_lives(nodes: Nodes) -> None:
    for text in ("00ff", "01ff", "02ff", "ffff", "", "no number", "ünknown"):
        assert len(await nodes.where(KnownSession(text))) == 1


async def test_all_nodes_agree_where_an_offer_goes_however_often_it_comes(nodes: Nodes) -> None:
    found = [await nodes.where(NewOffer(f"v=0 {number}")) for number in range(30)]
    assert all(len(where) == 1 for where in found)
    assert found == [await nodes.where(NewOffer(f"v=0 {number}")) for number in range(30)]
    everywhere = set[Node | None]().union(*found)
    assert everywhere == {placement.here for placement in nodes.placements}


async def test_the_others_are_all_but_this_one(nodes: Nodes) -> None:
    everybody = {placement.here for placement in nodes.placements}
    for placement in nodes.placements:
        assert {*placement.others()} == everybody - {placement.here}


async def test_closing_twice_is_no_error(nodes: Nodes) -> None:
    await nodes.close()
    await nodes.close()


async def test_offers_go_to_the_node_with_the_fewest_sessions(workers: Nodes) -> None:
    first, second = workers.placements
    first.report(9)
    second.report(2)
    assert workers.counts == [9, 2]
    for number in range(7):
        assert await workers.where(NewOffer(f"v=0 {number}")) == {second.here}
    first.report(0)
    assert await workers.where(NewOffer("v=0 another")) == {first.here}


async def test_an_offer_cannot_be_placed_while_its_assigner_is_gone(workers: Nodes) -> None:
    first, second = workers.placements
    await second.close()
    offers = [NewOffer(f"v=0 {number}") for number in range(20)]
    answered = 0
    for offer in offers:
        try:
            await first.node_of(offer)
            answered += 1
        except NodeUnavailable:
            pass
    assert 0 < answered < len(offers)
    await second.open()  # it is restarted on the same socket
    for offer in offers:
        await first.node_of(offer)


async def test_a_connection_without_a_question_disturbs_no_other(workers: Nodes) -> None:
    first, second = workers.placements
    assert second.here is not None
    path = str(pathlib.Path(second.here.address).with_suffix(".offers"))
    for question in (b"", b"short"):
        with socket.socket(socket.AF_UNIX) as stranger:
            stranger.connect(path)
            stranger.sendall(question)
    for number in range(10):
        await first.node_of(NewOffer(f"v=0 {number}"))


async def test_a_frozen_node_is_avoided_until_it_responds_again() -> None:
    with tempfile.TemporaryDirectory() as folder:
        counts, heartbeats = [ABSENT] * 2, [0.0] * 2
        first, second = (
            WorkerPlacement(NodeId(number, 2), counts, folder, heartbeats) for number in range(2)
        )
        found = Nodes([first, second], counts)
        await found.open()
        offers = [NewOffer(f"v=0 {number}") for number in range(20)]
        of_first, of_second = (
            next(text for text in map(str, range(1000)) if NodeId(number, 2).owns(text))
            for number in range(2)
        )
        assert {await first.node_of(offer) for offer in offers} == {None, second.here}
        heartbeats[1] -= UNRESPONSIVE_S
        began = time.monotonic()
        assert {await first.node_of(offer) for offer in offers} == {None}
        assert time.monotonic() - began < 0.5  # it is not asked
        # a busy machine may delay it: its own sessions wait longer
        assert await first.node_of(KnownSession(of_second)) == second.here
        heartbeats[1] -= UNREACHABLE_S - UNRESPONSIVE_S
        with pytest.raises(NodeUnavailable, match="does not respond"):
            await first.node_of(KnownSession(of_second))
        assert await first.node_of(KnownSession(of_first)) is None
        assert first.others() == []
        second.report(0)
        assert await first.node_of(KnownSession(of_second)) == second.here
        assert first.others() == [second.here]
        await found.close()


async def test_a_node_that_is_not_running_is_not_asked_to_assign_offers(workers: Nodes) -> None:
    first, second = workers.placements
    await second.close()
    workers.counts[1] = ABSENT
    for number in range(20):
        assert await first.node_of(NewOffer(f"v=0 {number}")) is None
