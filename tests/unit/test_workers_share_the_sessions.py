"""Every process gives the same answer to which node has a session."""

from __future__ import annotations

import collections
import hashlib
import itertools
import re

from hypothesis import given
from hypothesis import strategies as st

from domain.session.placement import (
    ABSENT,
    MAX_NODES,
    NodeId,
    OfferAssigner,
    assigner_of,
    digest_of_offer,
    id_of,
    silent_s,
)

counts = st.integers(1, MAX_NODES)


keys = st.binary(max_size=64)


@given(count=counts, key=keys, data=st.data())
def test_a_node_opens_sessions_that_belong_to_it(
    count: int, key: bytes, data: st.DataObject
) -> None:
    node = NodeId(data.draw(st.integers(0, count - 1)), count, key)
    drawn: list[str] = []

    def draw() -> str:
        drawn.append(f"{len(drawn):064x}")
        return drawn[-1]

    session_id = id_of(node.choose_secret(draw))
    assert not any(node.owns(id_of(secret)) for secret in drawn[:-1])
    assert node.number_of(session_id) == node.number
    assert node.owns(session_id)
    assert node.owns(f"20261123T044325000Z-guest-1-{session_id}_2_part003")


@given(count=counts, key=keys, text=st.text(st.characters(), max_size=80))
def test_every_text_belongs_to_exactly_one_node(count: int, key: bytes, text: str) -> None:
    nodes = [NodeId(number, count, key) for number in range(count)]
    assert sum(node.owns(text) for node in nodes) == 1
    assert {node.number_of(text) for node in nodes} <= {*range(count)}
    assert 0 <= assigner_of(digest_of_offer(text), count) < count


def test_an_id_is_made_from_its_secret_and_does_not_contain_it() -> None:
    ids = [id_of(f"{number:064x}") for number in range(1000)]
    assert len({*ids}) == len(ids)
    assert all(re.fullmatch("[0-9a-f]{16}", item) for item in ids)
    assert id_of(f"{7:064x}") == ids[7]


def test_who_does_not_have_the_key_learns_nothing_from_ids_and_secrets() -> None:
    """No digit of them depends on the node, and another key gives other nodes."""
    nodes = [NodeId(number, 4, b"key") for number in range(4)]
    numbers = itertools.count()
    secrets = [[node.choose_secret(lambda: token(next(numbers))) for _ in range(400)]
               for node in nodes]  # fmt: skip
    for texts in (secrets, [[*map(id_of, own)] for own in secrets]):
        for own in texts:
            for position in range(len(own[0])):
                most = collections.Counter(text[position] for text in own).most_common(1)
                assert most[0][1] < 60  # of 400, with 16 digits: 25 on average
    for own in secrets:
        found = [NodeId(0, 4, b"another key").number_of(id_of(secret)) for secret in own]
        assert all(60 < found.count(number) < 140 for number in range(4))


def token(number: int) -> str:
    return hashlib.sha256(b"%d" % number).hexdigest()


def test_the_key_is_not_shown() -> None:
    assert "key" not in repr(NodeId(0, 2, b"the key"))


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
