"""Whatever arrives: requests stay within their limits, and each hole is asked for."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from domain.rtp.order import ReorderBuffer
from domain.rtp.packets import RtpPacket
from domain.rtp.retransmission import (
    ASK_INTERVAL_S,
    ASKED_WITHIN,
    MAX_ASKED_TOGETHER,
    MAX_BUDGET,
    REORDERING_S,
    SHORTEST_INTERVAL_S,
    Missing,
    RetransmissionRequests,
    SentPackets,
    unwrap_rtx,
)

HOLD_S = 1.0


def packet(sequence: int, at: float = 0.0) -> RtpPacket:
    return RtpPacket(111, sequence % 2**16, sequence * 960 % 2**32, 1, b"x", arrived=at)


@given(
    start=st.integers(0, 2**16 - 1),
    loss=st.floats(0, 1),
    answered=st.floats(0, 1),
    round_trip_s=st.floats(0.001, 0.5),
    seed=st.integers(0, 2**32),
)
def test_requests_stay_within_their_limits(
    start: int, loss: float, answered: float, round_trip_s: float, seed: int
) -> None:
    dice = random.Random(seed)
    order, requests = ReorderBuffer(hold_s=HOLD_S), RetransmissionRequests()
    answers: list[tuple[float, int]] = []
    asked: dict[int, list[float]] = {}
    nacks: list[float] = []
    lacking: dict[int, float] = {}
    count = 0
    for step in range(600):
        now = step * 0.01
        arriving = [sequence for at, sequence in answers if at <= now]
        answers = [answer for answer in answers if answer[0] > now]
        if step % 2 == 0:
            count += 1
            if dice.random() >= loss or step == 0:
                arriving.append(start + step // 2)
        for sequence in arriving:
            item = packet(sequence, now)
            if not order.pass_in_order(item):
                requests.note_arrived(item)
                order.push(item)
        order.poll(now=now)
        missing = order.missing(within=ASKED_WITHIN)
        for item in missing:
            lacking.setdefault(item.sequence, item.known_at)
        if now < requests.ask_at:
            continue
        sequences = requests.ask(missing, highest=order.highest, hold_s=HOLD_S, now=now)
        assert {*sequences} <= {item.sequence for item in missing}
        assert len(sequences) <= 2 * MAX_ASKED_TOGETHER  # repeated ones and new ones
        if sequences:
            assert not nacks or now - nacks[-1] >= ASK_INTERVAL_S - 1e-9
            nacks.append(now)
        for sequence in sequences:
            times = asked.setdefault(sequence, [])
            # each is repeated once, a moment later; the next request follows after a round trip
            if len(times) >= 2:
                assert now - times[-2] >= SHORTEST_INTERVAL_S / 2 - 1e-9
            times.append(now)
            assert now <= lacking[sequence] + HOLD_S
            if dice.random() < answered:
                answers.append((now + round_trip_s, start + (sequence - start) % 2**16))
    total = sum(map(len, asked.values()))
    assert total <= 2 * (MAX_BUDGET + count)  # repeated once


@given(
    sequences=st.sets(st.integers(0, 300), min_size=1, max_size=25),
    start=st.integers(0, 2**16 - 1),
)
def test_each_hole_is_asked_for(sequences: set[int], start: int) -> None:
    missing = [Missing((start + n) % 2**16, 5.0) for n in sorted(sequences)]
    requests = RetransmissionRequests()
    asked = requests.ask(missing, highest=start, hold_s=HOLD_S, now=5.0 + REORDERING_S)
    assert asked == [item.sequence for item in missing]
    again = requests.ask(missing, highest=start, hold_s=HOLD_S, now=5.0 + REORDERING_S + 0.05)
    assert again == []


@given(
    start=st.integers(0, 2**16 - 1),
    held=st.sets(st.integers(1, 120), max_size=60),
    within=st.integers(1, 150),
)
def test_what_is_missing_are_the_numbers_between(start: int, held: set[int], within: int) -> None:
    order = ReorderBuffer(hold_s=HOLD_S)
    order.push(packet(start, 0.0))
    order.poll(now=2.0)
    for n in sorted(held):
        order.push(packet(start + n, 2.0 + n / 1000))
    highest = max(held, default=0)
    lacking = [n for n in range(max(1, highest - within), highest) if n not in held]
    found = order.missing(within=within)
    assert [item.sequence for item in found] == [(start + n) % 2**16 for n in lacking]
    for n, item in zip(lacking, found, strict=True):
        assert item.known_at == 2.0 + min(other for other in held if other > n) / 1000
    assert order.highest == (start + highest) % 2**16
    assert order.has_hole == (held != set(range(1, len(held) + 1)))


@given(
    first=st.integers(0, 2**16 - 1),
    count=st.integers(1, 2000),
    asked=st.lists(st.integers(-600, 50), max_size=200),
)
def test_what_was_sent_lately_is_sent_again(first: int, count: int, asked: list[int]) -> None:
    sent = SentPackets()
    for n in range(count):
        sent.add(packet(first + n))
    sequences = [(first + count - 1 + n) % 2**16 for n in asked]
    again = [item.sequence for item in sent.requested(sequences, now=100.0)]
    known = {(first + n) % 2**16 for n in range(max(0, count - 512), count)}
    expected = [sequence for sequence in dict.fromkeys(sequences) if sequence in known]
    assert again == expected
    # not again at once, and not more than 100 a second
    assert sent.requested(again, now=100.02) == []
    assert len(sent.requested(again, now=100.1)) == min(len(again), 250 - len(again) + 10)


@given(payload=st.binary(max_size=50), sequence=st.integers(0, 2**16 - 1), marker=st.booleans())
def test_retransmission_streams_are_unwrapped(payload: bytes, sequence: int, marker: bool) -> None:
    wrapped = RtpPacket(
        97, 7, 960, 5, sequence.to_bytes(2, "big") + payload, marker=marker, arrived=3.0
    )
    restored = unwrap_rtx(wrapped, payload_type=111, ssrc=9)
    assert restored is not None
    assert (restored.payload_type, restored.ssrc, restored.sequence) == (111, 9, sequence)
    assert (restored.timestamp, restored.payload) == (960, payload)
    assert (restored.marker, restored.arrived) == (marker, 3.0)
