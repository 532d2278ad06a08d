"""Whose a session is: one answer in every process."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from domain.ownership import MAX_WORKERS, Share, owner_of, taker_of

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
    assert taker_of(text, count) == taker_of(text, count) < count


def test_offers_are_spread() -> None:
    takers = [taker_of(f"v=0 {number}", 4) for number in range(1000)]
    assert all(200 < takers.count(worker) < 300 for worker in range(4))
