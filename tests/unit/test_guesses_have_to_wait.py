"""Whoever guesses secrets has to wait for longer and longer, in bounded memory."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.session.addresses import network_of
from domain.session.guesses import MAX_NETWORKS, MAX_WAIT_S, RECOVERY_S, Guesses
from domain.session.tally import INTERVAL_S, Tally


def test_some_may_be_wrong_and_further_ones_wait_for_twice_as_long_each_time() -> None:
    guesses = Guesses(free=3)
    now, waits = 0.0, []
    for _ in range(3):
        assert guesses.failed("a", now=now) == 0.0
    for _ in range(9):
        waits.append(guesses.failed("a", now=now))
        now += waits[-1]
        assert guesses.failed("a", now=now) == 0.0  # it has waited
    # what is forgotten meanwhile makes some of them shorter
    assert waits[:3] == pytest.approx([1.0, 2.0, 4.0], rel=0.05)
    assert waits == sorted(waits)
    assert waits[-1] <= MAX_WAIT_S
    assert waits[-1] > MAX_WAIT_S / 2


def test_what_comes_while_it_has_to_wait_does_not_prolong_the_wait() -> None:
    guesses = Guesses(free=1)
    guesses.failed("a", now=0.0)
    for step in range(1000):
        assert guesses.failed("a", now=step / 1000) == pytest.approx(1 - step / 1000)
    assert guesses.failed("a", now=1.0) == 0.0


def test_after_a_while_as_many_are_free_as_at_first() -> None:
    guesses = Guesses(free=3)
    now = 0.0
    for _ in range(1000):
        now += guesses.failed("a", now=now)
    now += 3 * RECOVERY_S + MAX_WAIT_S
    assert [guesses.failed("a", now=now) for _ in range(3)] == [0.0] * 3
    assert guesses.failed("a", now=now) > 0.0


@given(st.lists(st.floats(0, 100), max_size=300), st.integers(1, 10))
def test_a_network_is_told_that_it_is_wrong_ever_less_often(pauses: list[float], free: int) -> None:
    guesses, now, told = Guesses(free=free), 0.0, 0
    for pause in pauses:
        now += pause
        told += guesses.failed("a", now=now) == 0.0
    assert told <= free * (1 + now / RECOVERY_S) + 7 + now / 32


def test_one_network_does_not_wait_for_another() -> None:
    guesses = Guesses(free=1)
    for _ in range(10):
        guesses.failed("a", now=0.0)
    assert guesses.failed("b", now=0.0) == 0.0


def test_memory_is_bounded_whatever_number_of_networks_there_is() -> None:
    guesses = Guesses(free=1)
    for _ in range(2):
        guesses.failed("kept", now=0.0)
    for number in range(3 * MAX_NETWORKS):
        guesses.failed(f"{number}", now=0.0)
        if number % 1000 == 0:
            assert guesses.failed("kept", now=0.0) > 0.0  # who goes on is not forgotten
    assert len(guesses._networks) == MAX_NETWORKS


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("", ""),
    ],
)
def test_a_customer_of_a_provider_is_an_address_or_an_ipv6_network(
    address: str, network: str
) -> None:
    assert network_of(address) == network


# -- counting what is too much to be told ---------------------------------------------------------


def test_the_first_things_of_a_kind_are_told_and_the_others_counted() -> None:
    tally: Tally[str] = Tally(told=2, kinds=3)
    assert [tally.note("a", instead="", now=0.0) for _ in range(5)] == [True, True] + [False] * 3
    assert tally.note("b", instead="", now=30.0)
    assert tally.end(now=INTERVAL_S - 1) == []
    assert tally.next_end == INTERVAL_S
    assert tally.end(now=INTERVAL_S) == [("a", 3)]
    assert tally.note("a", instead="", now=INTERVAL_S)
    assert tally.next_end == 30.0 + INTERVAL_S
    assert tally.end(now=1000.0) == []
    assert tally.next_end is None


def test_kinds_beyond_a_number_count_as_one() -> None:
    tally: Tally[int] = Tally(told=1, kinds=10)
    told = [tally.note(kind, instead=-1, now=0.0) for kind in range(1000)]
    assert sum(told) == 11
    assert tally.end(now=INTERVAL_S) == [(-1, 989)]
