"""Every process gives the same answer to which node has a session."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from domain.session.placement import (
    ABSENT,
    MAX_NODES,
    NodeId,
    OfferAssigner,
    assigner_of,
    digest_of_offer,
    node_number_of,
    silent_s,
)

counts = st.integers(1, MAX_NODES)


@given(count=counts, data=st.data(), secret=st.binary(min_size=8, max_size=32))
def test_a_marked_secret_belongs_to_exactly_one_node(
    count: int, data: st.DataObject, secret: bytes
) -> None:
    node = NodeId(data.draw(st.integers(0, count - 1)), count)
    marked = node.mark(secret.hex())
    assert len(marked) == 2 * len(secret)
    assert marked[2:] == secret.hex()[2:]
    assert node_number_of(marked, count) == node.number
    assert node.owns(marked)
    assert node.owns(f"20261123T044325000Z-guest-1-{marked}")


@given(count=counts, text=st.text(max_size=80))
def test_every_text_belongs_to_exactly_one_node(count: int, text: str) -> None:
    nodes = [NodeId(number, count) for number in range(count)]
    assert sum(node.owns(text) for node in nodes) == 1
    assert 0 <= node_number_of(text, count) < count
    assert 0 <= assigner_of(digest_of_offer(text), count) < count


def test_each_node_assigns_some_offers() -> None:
    assigners = [assigner_of(digest_of_offer(f"v=0 {number}"), 4) for number in range(1000)]
    assert all(200 < assigners.count(node) < 300 for node in range(4))


@given(there=st.lists(st.integers(0, 20), min_size=1, max_size=8), offers=st.integers(1, 200))
def test_offers_even_out_the_sessions_of_nodes(there: list[int], offers: int) -> None:
    counts = list(there)
    assigner = OfferAssigner(counts)
    assigned = [assigner.node_for(digest_of_offer(f"offer {number}")) for number in range(offers)]
    for node, before in enumerate(there):
        assert counts[node] == before + assigned.count(node)
    taken_by = {counts[node] for node in assigned}
    assert max(taken_by) - min(counts) <= 1


def test_an_offer_that_is_sent_again_gets_the_same_node() -> None:
    counts = [0, 0, 0]
    assigner = OfferAssigner(counts)
    node = assigner.node_for(b"offer")
    counts[node] = 5
    assert assigner.node_for(b"offer") == node
    assert assigner.node_for(b"another") != node


def test_a_node_that_is_not_running_gets_no_offers() -> None:
    counts = [ABSENT, 3, ABSENT]
    assigner = OfferAssigner(counts)
    assert {assigner.node_for(b"%d" % number) for number in range(10)} == {1}


def test_offers_assigned_while_no_node_is_running_are_assigned_again() -> None:
    counts = [ABSENT, ABSENT]
    assigner = OfferAssigner(counts)
    assigner.node_for(b"offer")
    assert counts == [ABSENT, ABSENT]
    counts[1] = 0
    assert assigner.node_for(b"offer") == 1


@given(count=counts, data=st.data(), digest=st.binary(min_size=32, max_size=32))
def test_a_node_to_avoid_assigns_no_offers(count: int, data: st.DataObject, digest: bytes) -> None:
    avoid = data.draw(st.sets(st.integers(0, count - 1), max_size=count - 1))
    assigner = assigner_of(digest, count, avoid=avoid)
    assert assigner not in avoid
    usual = assigner_of(digest, count)
    assert assigner == usual or usual in avoid


def test_a_node_to_avoid_gets_no_offers() -> None:
    counts = [0, 9, 5]
    assigner = OfferAssigner(counts)
    assert assigner.node_for(b"one", avoid={0}) == 2
    assert assigner.node_for(b"one") == 2
    assert assigner.node_for(b"one", avoid={2}) == 0  # its node has frozen since
    assert assigner.node_for(b"one") == 0
    assert counts == [1, 9, 6]


def test_a_node_is_silent_since_its_heartbeat_once_it_has_begun() -> None:
    assert silent_s(100.0, now=100.0) == 0.0
    assert silent_s(100.0, now=103.5) == 3.5
    assert silent_s(0.0, now=103.5) == 0.0
