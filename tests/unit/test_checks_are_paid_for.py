"""What may be sent to addresses that have not answered: it is paid for, and is given back."""

from __future__ import annotations

import random

from domain.session import checks
from domain.session.allowance import Allowance
from domain.session.checks import CheckBudget, CheckLimits

SIZE = 100
ALICE, BOB = ("198.51.100.7", 4444), ("203.0.113.7", 4444)


def server_budget(limits: CheckLimits | None = None, *, max_candidates: int = 50) -> CheckBudget:
    return CheckBudget(limits or CheckLimits(), max_candidates=max_candidates, is_server=True)


def taken(
    budget: CheckBudget, address: tuple[str, int] = ALICE, *, tries: int = 1000, now: float = 0.0,
    is_connected: bool = False,
) -> int:  # fmt: skip
    """How many of so many checks may be sent at once."""
    return sum(budget.take(address, SIZE, now=now, is_connected=is_connected) for _ in range(tries))


def test_an_allowance_returns_with_time_and_up_to_its_limit() -> None:
    allowance = Allowance(3, 0.5)
    assert [allowance.take(now=10.0) for _ in range(4)] == [True, True, True, False]
    assert not allowance.take(now=11.0)
    assert allowance.take(now=12.0)
    assert [allowance.take(now=1000.0) for _ in range(4)] == [True, True, True, False]
    allowance.give_back(99)
    assert allowance.left == 3


def test_nothing_is_sent_to_an_address_that_nobody_has_paid_for() -> None:
    assert taken(server_budget()) == 0


def test_checks_take_fewer_bytes_than_the_peer_has_sent() -> None:
    budget = server_budget()
    budget.earn(2000)
    assert 0 < taken(budget) * (SIZE + 48) < 2000


def test_bytes_do_not_add_up_without_end() -> None:
    budget = server_budget()
    for _ in range(1000):
        budget.earn(10_000)
    assert taken(budget) * (SIZE + 48) <= checks.MAX_PAID_BYTES


def test_one_check_follows_each_that_came() -> None:
    budget = server_budget()
    for _ in range(5):
        budget.heard(ALICE)
        assert taken(budget) == 1
    assert taken(budget, BOB) == 0


def test_many_addresses_that_send_one_check_each_get_few() -> None:
    budget, sent = server_budget(), 0
    for number in range(10_000):
        address = (f"198.51.{number // 250}.{number % 250}", 4444)
        budget.heard(address)
        sent += taken(budget, address, tries=1, now=number / 1000)
    assert sent <= checks.CHECKS + 10 * checks.CHECKS_PER_S


def test_an_address_that_answers_costs_nothing() -> None:
    """A client may get another address hundreds of times a day, or a minute."""
    budget = server_budget()
    budget.earn(1000)
    for number in range(1000):
        address = (f"198.51.100.{number % 250}", 1000 + number)
        budget.heard(address)
        assert budget.take(address, SIZE, now=0.0, is_connected=True)
        assert budget.take(address, SIZE, now=0.0, is_connected=True)
        budget.answered(address, now=0.0)


def test_a_host_is_not_flooded_by_many_sessions() -> None:
    limits, sent = CheckLimits(), 0
    for number in range(200):
        budget = server_budget(limits)
        budget.earn(4000)
        sent += taken(budget, (ALICE[0], number + 1))
    assert sent == checks.HOST_CHECKS


def test_a_host_with_many_clients_is_not_limited() -> None:
    limits = CheckLimits()
    first = server_budget(limits)
    first.heard(ALICE)
    assert taken(first) == 1
    first.answered(ALICE, now=0.0)
    for number in range(200):
        budget = server_budget(limits)
        budget.heard((ALICE[0], number + 1))
        assert taken(budget, (ALICE[0], number + 1), now=1.0) == 1


def test_what_strangers_use_up_does_not_hold_up_who_is_connected() -> None:
    limits, sent = CheckLimits(), 0
    for number in range(1000):
        budget = server_budget(limits)
        budget.earn(4000)
        sent += taken(budget, (f"198.51.{number // 250}.{number % 250}", 4444))
    assert sent == checks.ALL_CHECKS
    connected = server_budget(limits)
    connected.heard(BOB)
    assert taken(connected, BOB, tries=1) == 0
    connected.heard(BOB)
    assert taken(connected, BOB, tries=1, is_connected=True) == 1


def test_a_client_checks_all_pairs_and_no_more() -> None:
    budget = CheckBudget(CheckLimits(), max_candidates=50, is_server=False)
    sent = sum(
        taken(budget, (f"192.168.{number}.1", 4444), tries=7) for number in range(250)
    )  # fmt: skip
    assert 100 < sent <= checks.CLIENT_CHECKS


def test_candidates_come_back_slowly() -> None:
    budget = server_budget(max_candidates=5)
    assert [budget.candidates.take(now=0.0) for _ in range(6)] == [True] * 5 + [False]
    assert budget.candidates.take(now=10.0)
    assert not budget.candidates.take(now=10.0)


def test_whatever_happens_less_is_sent_than_was_paid() -> None:
    for seed in range(50):
        chance = random.Random(seed)
        budget, now, paid, came, sent = server_budget(), 0.0, 0, 0, 0
        for _ in range(500):
            now += chance.expovariate(10)
            address = (f"198.51.100.{chance.randrange(5)}", 4444)
            match chance.randrange(4):
                case 0:
                    size = chance.randrange(300)
                    budget.earn(size)
                    paid += size
                case 1:
                    budget.heard(address)
                    came += 1
                case _:
                    sent += taken(budget, address, tries=1, now=now)
        assert sent <= came + (paid + now * checks.PAID_BYTES_PER_S) / (SIZE + 48)
