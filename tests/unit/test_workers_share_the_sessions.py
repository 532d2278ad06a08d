"""Whose a session is: one answer in every process."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from domain.session.placement import ABSENT, MAX_WORKERS, Registrar, Share, owner_of, registrar_of

counts = st.integers(1, MAX_WORKERS)


@given(count=counts, data=st.data(), secret=st.binary(min_size=8, max_size=32))
def test_what_a_worker_marks_is_its_own_and_nobody_elses(
    count: int, data: st.DataObject, secret: bytes
) -> None:
    share = Share(data.draw(st.integers(0, count - 1)), count)
    marked = share.mark(secret.hex())
    assert len(marked) == 2 * len(secret)
    assert marked[2:] == secret.hex()[2:]
    assert owner_of(marked, count) == share.number
    assert share.owns(marked)
    assert share.owns(f"20261123T044325000Z-guest-1-{marked}")


@given(count=counts, text=st.text(max_size=80))
def test_whatever_is_asked_for_has_one_owner(count: int, text: str) -> None:
    shares = [Share(number, count) for number in range(count)]
    assert sum(share.owns(text) for share in shares) == 1
    assert 0 <= owner_of(text, count) < count
    assert 0 <= registrar_of(text, count) < count


def test_each_worker_is_the_registrar_of_some_offers() -> None:
    registrars = [registrar_of(f"v=0 {number}", 4) for number in range(1000)]
    assert all(200 < registrars.count(worker) < 300 for worker in range(4))


@given(there=st.lists(st.integers(0, 20), min_size=1, max_size=8), offers=st.integers(1, 200))
def test_offers_level_what_workers_have(there: list[int], offers: int) -> None:
    counts = list(there)
    registrar = Registrar(Share(0, len(counts)), counts)
    takers = [registrar.taker_of(f"offer {number}") for number in range(offers)]
    for worker, before in enumerate(there):
        assert counts[worker] == before + takers.count(worker)
    taken_by = {counts[worker] for worker in takers}
    assert max(taken_by) - min(counts) <= 1


def test_an_offer_that_is_sent_again_goes_where_it_went() -> None:
    counts = [0, 0, 0]
    registrar = Registrar(Share(1, 3), counts)
    taker = registrar.taker_of("offer")
    counts[taker] = 5
    assert registrar.taker_of("offer") == taker
    assert registrar.taker_of("another") != taker


def test_a_worker_that_is_not_there_gets_no_offers() -> None:
    counts = [ABSENT, 3, ABSENT]
    registrar = Registrar(Share(1, 3), counts)
    assert {registrar.taker_of(f"offer {number}") for number in range(10)} == {1}
    registrar.tell(2)
    assert counts == [ABSENT, 2, ABSENT]
