"""Which connections a full server keeps."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.session.addresses import network_of
from domain.session.connection_places import ConnectionPlaces, Decision, Stage

REFUSED: Decision[str] = Decision(is_admitted=False)


def places(total: int, per_address: int | None = None) -> ConnectionPlaces[str]:
    return ConnectionPlaces(max_connections=total, max_per_address=per_address)


def displaced(decision: Decision[str]) -> str | None:
    assert decision.is_admitted
    return decision.gives_way


def test_the_oldest_that_has_completed_no_request_goes_first() -> None:
    few = places(3)
    for number, key in enumerate("abc"):
        assert displaced(few.admit(key, f"10.0.0.{number}")) is None
    few.change("a", Stage.IDLE)
    assert displaced(few.admit("d", "10.0.0.9")) == "b"
    assert displaced(few.admit("e", "10.0.0.9")) == "c"


def test_whoever_has_most_unproven_connections_loses_one_of_them() -> None:
    few = places(4)
    few.admit("lonely", "10.0.0.1")
    for key in "abc":
        few.admit(key, "10.0.0.2")
    for number, victim in enumerate("ab"):
        assert displaced(few.admit(f"new {number}", f"10.0.1.{number}")) == victim


def test_then_goes_the_one_that_has_been_idle_for_longest() -> None:
    few = places(2)
    for key in "ab":
        few.admit(key, "10.0.0.1")
        few.change(key, Stage.BUSY)
    few.change("b", Stage.IDLE)
    few.change("a", Stage.IDLE)
    assert displaced(few.admit("c", "10.0.0.2")) == "b"
    few.change("c", Stage.BUSY)
    few.change("a", Stage.BUSY)
    assert few.admit("d", "10.0.0.3") == REFUSED


def test_newcomers_have_time_where_all_others_are_idle() -> None:
    """Idle ones give way, and not whoever needs a second for its request."""
    for many, addresses in (
        (places(40), [f"10.0.0.{number}" for number in range(80)]),
        (places(1000, per_address=40), ["10.0.0.1"] * 80),
    ):
        for number in range(40):
            many.admit(f"idle {number}", addresses[number])
            many.change(f"idle {number}", Stage.IDLE)
        for number in range(10):
            admission = many.admit(f"new {number}", addresses[40 + number])
            assert displaced(admission) == f"idle {number}"
        for number in range(10, 40):  # whoever needs longer while so many come has to come again
            admission = many.admit(f"new {number}", addresses[40 + number])
            assert displaced(admission) == f"new {number - 10}"
        for number in range(30, 40):
            many.change(f"new {number}", Stage.BUSY)
        assert displaced(many.admit("last", addresses[79])) == "idle 10"


def test_a_request_under_way_never_gives_way() -> None:
    few = places(2)
    for key in "ab":
        few.admit(key, "10.0.0.1")
        few.change(key, Stage.BUSY)
    assert few.admit("c", "10.0.0.2") == REFUSED
    assert few.give_way() is None
    few.leave("a")
    assert displaced(few.admit("c", "10.0.0.2")) is None
    assert few.give_way() == "c"


def test_an_address_at_its_limit_displaces_its_own_only() -> None:
    many = places(10, per_address=2)
    many.admit("other", "10.0.0.1")
    many.admit("a", "10.0.0.2")
    many.admit("b", "10.0.0.2")
    assert displaced(many.admit("c", "10.0.0.2")) == "a"
    many.change("b", Stage.IDLE)
    many.change("c", Stage.BUSY)
    assert displaced(many.admit("d", "10.0.0.2")) == "b"
    many.change("d", Stage.BUSY)
    assert many.admit("e", "10.0.0.2") == REFUSED
    assert len(many) == 3


def test_proxies_have_no_limit_of_their_own_and_stay() -> None:
    few = places(3, per_address=1)
    for key in "ab":
        assert displaced(few.admit(key, "10.0.0.1", is_exempt=True)) is None
    few.admit("c", "10.0.0.2")
    assert displaced(few.admit("d", "10.0.0.3")) == "c"
    for key in "ab":
        few.change(key, Stage.IDLE)
    assert displaced(few.admit("e", "10.0.0.4")) == "d"


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
    ],
)
def test_an_ipv6_network_counts_as_one_address(address: str, network: str) -> None:
    assert network_of(address) == network


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["admit", "exempt", "leave", "give way", *Stage]),
        st.integers(0, 30),
        st.integers(0, 4),
    ),
    max_size=80,
)


@given(STEPS)
def test_limits_hold_whatever_happens(steps: list[tuple[str | Stage, int, int]]) -> None:
    held: dict[int, tuple[int, bool, Stage]] = {}
    table: ConnectionPlaces[int] = ConnectionPlaces(max_connections=8, max_per_address=3)
    for number, (what, which, address) in enumerate(steps):
        key = sorted(held)[which % len(held)] if held else -1
        if what in ("admit", "exempt"):
            decision = table.admit(number, f"10.0.0.{address}", is_exempt=what == "exempt")
            if decision.gives_way is not None:
                _, is_exempt, stage = held.pop(decision.gives_way)
                assert not is_exempt
                assert stage is not Stage.BUSY
            if decision.is_admitted:
                held[number] = (address, what == "exempt", Stage.NEW)
            else:
                assert len(held) == 8 or sum(item[0] == address for item in held.values()) >= 3
        elif what == "leave":
            table.leave(key)
            held.pop(key, None)
        elif what == "give way":
            victim = table.give_way()
            idle = {k for k, item in held.items() if not item[1] and item[2] is not Stage.BUSY}
            assert (victim in idle) if idle else (victim is None)
            if victim is not None:
                del held[victim]
        elif isinstance(what, Stage):
            table.change(key, what)
            if key in held:
                held[key] = (*held[key][:2], what)
        assert len(table) == len(held) <= 8
        counts = [sum(i[0] == a and not i[1] for i in held.values()) for a in range(5)]
        assert max(counts) <= 3
