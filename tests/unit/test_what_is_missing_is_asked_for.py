"""Requests for missing packets: when, how often, how many, and when not any more."""

from __future__ import annotations

import heapq
import itertools
import random
import tracemalloc
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import pytest

from domain.rtp.order import Lost, ReorderBuffer
from domain.rtp.packets import RtpPacket
from domain.rtp.retransmission import (
    ASK_INTERVAL_S,
    ASKED_WITHIN,
    MAX_ASKED_TOGETHER,
    MAX_UNANSWERED,
    REORDERING_S,
    RETRY_S,
    UNANSWERED_S,
    Missing,
    RetransmissionRequests,
    RoundTripEstimate,
)

HOLD_S = 1.0
STEP_S = 0.01


def missing(*sequences: int, known_at: float = 0.0) -> list[Missing]:
    return [Missing(sequence, known_at) for sequence in sequences]


def packet(sequence: int, at: float) -> RtpPacket:
    return RtpPacket(111, sequence % 2**16, sequence * 960 % 2**32, 1, b"x", arrived=at)


class Asking:
    """Requests of one source; `lacking` are the packets that it misses."""

    def __init__(self) -> None:
        self.requests = RetransmissionRequests()
        self.lacking: list[Missing] = []
        self.highest = 0
        self.asked: list[tuple[float, list[int]]] = []

    def run(self, start: float, end: float) -> list[tuple[float, list[int]]]:
        """Ask in steps from `start` to `end`; return what was asked, with the times."""
        before = len(self.asked)
        for step in range(round((end - start) / STEP_S)):
            now = start + step * STEP_S
            if now >= self.requests.ask_at:
                sequences = self.requests.ask(
                    self.lacking, highest=self.highest, hold_s=HOLD_S, now=now
                )
                if sequences:
                    self.asked.append((round(now, 3), sequences))
        return self.asked[before:]

    def arrive(self, sequence: int, at: float) -> float | None:
        self.lacking = [item for item in self.lacking if item.sequence != sequence]
        return self.requests.note_arrived(packet(sequence, at))


def without_repeats(times: Iterable[float]) -> list[float]:
    """The times of requests, without the second one of two in a row."""
    found: list[float] = []
    for at in times:
        if not found or at - found[-1] > 2.5 * ASK_INTERVAL_S:
            found.append(at)
    return found


def test_a_packet_is_asked_for_once_it_cannot_have_been_overtaken_only() -> None:
    asking = Asking()
    asking.lacking = missing(7, known_at=10.0)
    assert asking.run(10.0, 10.0 + REORDERING_S) == []
    assert asking.run(10.0 + REORDERING_S, 10.1) == [(pytest.approx(10.02, abs=0.02), [7])]


def test_it_is_asked_for_again_more_and_more_rarely_while_the_round_trip_is_unknown() -> None:
    asking = Asking()
    asking.lacking = missing(7)
    times = [at for at, _ in asking.run(0.0, HOLD_S)]
    assert times == pytest.approx([0.02, 0.12, 0.32, 0.72], abs=0.04)


def test_it_is_not_asked_for_when_it_was_given_up_or_has_arrived() -> None:
    asking = Asking()
    asking.lacking = missing(7, 8)
    assert asking.run(0.0, 0.05) == [(pytest.approx(0.02, abs=0.02), [7, 8])]
    asking.arrive(7, 0.06)
    asked = asking.run(0.06, 0.2)
    assert asked
    assert all(sequences == [8] for _, sequences in asked)
    asking.lacking = []
    assert asking.run(0.2, 2.0) == []


def test_the_measured_round_trip_is_the_interval() -> None:
    asking = Asking()
    for number in range(20):
        start = number * 10.0
        asking.lacking = missing(number, known_at=start)
        ((at, _),) = asking.run(start, start + 0.05)
        asking.arrive(number, at + 0.08)
        asking.run(at + 0.08, at + 0.2)
    asking.lacking = missing(99, known_at=500.0)
    times = without_repeats(at for at, _ in asking.run(500.0, 500.8))
    between = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert all(0.08 <= interval <= 0.13 for interval in between)
    assert len(times) >= 7


def test_the_last_request_comes_early_enough_to_be_answered() -> None:
    asking = Asking()
    for number in range(20):
        start = number * 10.0
        asking.lacking = missing(number, known_at=start)
        at = asking.run(start, start + 0.05)[0][0]
        asking.run(start + 0.05, at + 0.3)
        asking.arrive(number, at + 0.3)
        asking.run(at + 0.3, at + 0.4)
        if not number:  # the second request is answered, too: the round trip takes 0.3 s
            asking.requests.note_repeated(number, at=at + 0.4)
    asking.lacking = missing(99, known_at=500.0)
    times = without_repeats(at - 500.0 for at, _ in asking.run(500.0, 502.0))
    assert len(times) == 3
    assert times[-1] <= HOLD_S - 0.3


def test_answers_are_counted_and_duplicates_show_that_a_packet_was_late_only() -> None:
    asking = Asking()
    asking.lacking = missing(1, 2)
    asking.run(0.0, 0.05)
    assert asking.arrive(1, 0.1) == 0.0
    assert asking.arrive(2, 0.1) == 0.0
    asking.run(0.1, 0.2)
    assert asking.requests.answered == 2
    asking.requests.note_repeated(2, at=0.3)
    asking.lacking = missing(3, known_at=0.3)
    assert asking.run(0.3, 0.36) == []  # from now on packets may be overtaken for 100 ms
    assert asking.requests.answered == 1
    assert [at for at, _ in asking.run(0.36, 0.5)] == [pytest.approx(0.44, abs=0.03)]


def test_a_packet_that_had_arrived_before_the_request_is_no_answer() -> None:
    asking = Asking()
    asking.lacking = missing(1)
    asking.run(0.0, 0.05)  # asked at 0.02; the packet waits in its socket
    asking.arrive(1, 0.015)
    asking.run(0.05, 0.1)
    assert asking.requests.answered == 0
    assert asking.arrive(5, 0.2) is None  # never missed


def test_what_was_to_be_repeated_is_forgotten_with_its_sequence() -> None:
    asking = Asking()
    asking.lacking = missing(1, 2)
    asking.run(0.0, 0.05)
    asking.arrive(1, 0.1)
    asked = asking.run(0.1, 0.3)
    assert asked[0][1] == asked[1][1] == [2]  # not answered before: asked for twice in a row
    asking.lacking = missing(3, known_at=0.5)
    asking.run(0.5, 0.53)
    asking.lacking = missing(3, 4, known_at=0.5)
    while asking.asked[-1][1] != [3, 4]:
        asking.run(asking.requests.ask_at, asking.requests.ask_at + STEP_S)
    asking.requests.forget()
    asking.lacking = missing(3, 4, known_at=asking.requests.ask_at)
    assert asking.run(asking.requests.ask_at, asking.requests.ask_at + STEP_S) == []


def test_more_tolerance_for_reordering_is_forgotten_after_a_while() -> None:
    asking = Asking()
    asking.lacking = missing(1)
    asking.run(0.0, 0.05)
    asking.arrive(1, 0.4)
    asking.run(0.4, 0.5)
    asking.requests.note_repeated(1, at=0.6)
    for start, wait_s in ((1.0, 0.5), (15.0, 0.25), (26.0, 0.13), (37.0, 0.07)):
        asking.lacking = missing(9, known_at=start)
        ((at, _), *_) = asking.run(start, start + 0.9)
        assert at - start == pytest.approx(wait_s, abs=0.03)
        asking.lacking = []
        asking.run(start + 0.9, start + 1.0)


def test_a_sender_that_never_answers_is_asked_rarely() -> None:
    asking = Asking()
    times: list[float] = []
    for second in range(60):
        asking.lacking = missing(*range(second * 10, second * 10 + 5), known_at=float(second))
        asking.highest = second * 50
        times += [at for at, _ in asking.run(second, second + 1.0)]
    assert times[MAX_UNANSWERED - 1] < 10.0
    assert times[MAX_UNANSWERED - 1] - times[0] > UNANSWERED_S
    after = times[MAX_UNANSWERED:]
    assert 5 <= len(after) <= 60 / RETRY_S
    assert min(later - earlier for earlier, later in itertools.pairwise(after)) >= RETRY_S


def test_an_answer_brings_such_a_sender_back() -> None:
    asking = Asking()
    for second in range(20):
        asking.lacking = missing(*range(second * 5, second * 5 + 5), known_at=float(second))
        asking.run(second, second + 1.0)
    start = asking.requests.ask_at
    asking.lacking = missing(*range(500, 505), known_at=start)
    ((at, _),) = asking.run(start, start + 1.0)
    asking.arrive(500, at + 0.05)
    start = at + 0.06
    asking.lacking = missing(*range(600, 605), known_at=start)
    assert len(asking.run(start, start + 1.0)) > 2


# -- how many ------------------------------------------------------------------------------------


def test_a_long_outage_is_asked_for_bit_by_bit_and_faster_with_answers() -> None:
    """Three seconds of packets of 20 ms are missing, the round trip takes 80 ms."""
    asking = Asking()
    asking.lacking = missing(*range(150))
    asking.highest = 150
    first = asking.run(0.0, 0.09)
    assert sum(len(sequences) for _, sequences in first) <= MAX_ASKED_TOGETHER
    answers = [(at + 0.08, sequence) for at, sequences in first for sequence in sequences]
    now = 0.09
    while now < HOLD_S:
        due = [answer for answer in answers if answer[0] <= now]
        answers = [answer for answer in answers if answer[0] > now]
        for at, sequence in due:
            if any(item.sequence == sequence for item in asking.lacking):
                asking.arrive(sequence, at)
        for at, sequences in asking.run(now, now + STEP_S):
            assert len(sequences) <= MAX_ASKED_TOGETHER
            answers += [(at + 0.08, sequence) for sequence in sequences]
        now += STEP_S
    assert asking.lacking == []


def test_without_answers_a_long_outage_causes_few_requests() -> None:
    asking = Asking()
    asking.lacking = missing(*range(250))
    asking.highest = 250
    asked = asking.run(0.0, HOLD_S)
    # a window of 25, after 0.1, 0.2 and 0.4 s again
    assert sum(len(sequences) for _, sequences in asked) <= 100


@dataclass
class Network:
    """A stream over a path that loses packets in both directions, in virtual time."""

    loss: float
    round_trip_s: float
    hold_s: float = HOLD_S
    jitter_s: float = 0.0
    seed: int = 1
    answers: bool = True
    received: set[int] = field(default_factory=set)
    asked: list[tuple[float, int]] = field(default_factory=list)
    sent_again: int = 0
    nacks: int = 0
    lost: int = 0

    def run(self, packets: int) -> None:
        dice = random.Random(self.seed)
        events: list[tuple[float, int, Callable[[float], None]]] = []
        order = ReorderBuffer(hold_s=self.hold_s)
        requests = RetransmissionRequests()
        sent_again_at: dict[int, float] = {}
        arrived: set[int] = set()

        def at(time: float, call: Callable[[float], None]) -> None:
            heapq.heappush(events, (time, len(events) + dice.getrandbits(30), call))

        def pass_on(slots: list[object]) -> None:
            for slot in slots:
                if isinstance(slot, RtpPacket):
                    self.received.add(slot.sequence)
                elif isinstance(slot, Lost):
                    self.lost += slot.count

        def transmit(sequence: int, now: float) -> None:
            if dice.random() >= self.loss or sequence == 0:
                delay = self.round_trip_s / 2 + dice.uniform(0, self.jitter_s)

                def arrive(now: float) -> None:
                    if sequence in arrived:  # as SRTP's replay protection does
                        requests.note_repeated(sequence, at=now)
                        return
                    arrived.add(sequence)
                    item = packet(sequence, now)
                    if order.pass_in_order(item):
                        self.received.add(sequence)
                        return
                    requests.note_arrived(item)
                    pass_on(list(order.push(item)))

                at(now + delay, arrive)

        def send(sequence: int) -> Callable[[float], None]:
            return lambda now: transmit(sequence, now)

        def answer(sequences: list[int]) -> Callable[[float], None]:
            def call(now: float) -> None:
                for sequence in sequences:
                    if now - sent_again_at.get(sequence, -1.0) >= 0.04:
                        sent_again_at[sequence] = now
                        self.sent_again += 1
                        transmit(sequence, now)

            return call

        def tick(now: float) -> None:
            pass_on(list(order.poll(now=now)))
            if (order.has_hole or requests.has_news) and now >= requests.ask_at:
                sequences = requests.ask(
                    order.missing(within=ASKED_WITHIN),
                    highest=order.highest,
                    hold_s=self.hold_s,
                    now=now,
                )
                if sequences:
                    self.nacks += 1
                    self.asked += [(now, sequence) for sequence in sequences]
                    if self.answers and dice.random() >= self.loss:
                        at(now + self.round_trip_s / 2, answer(sequences))
            if now < packets * 0.02 + 3:
                at(now + STEP_S, tick)

        for sequence in range(packets):
            at(sequence * 0.02, send(sequence))
        at(0.0, tick)
        while events:
            now, _, call = heapq.heappop(events)
            call(now)
        pass_on(list(order.flush()))

    @property
    def share(self) -> float:
        return len(self.received) / (len(self.received) + self.lost)


@pytest.mark.parametrize(
    ("loss", "round_trip_s", "goal"),
    [
        (0.05, 0.08, 1.0),
        (0.20, 0.08, 0.999),
        (0.40, 0.08, 0.98),
        (0.05, 0.3, 0.999),
        (0.20, 0.3, 0.98),
        (0.40, 0.3, 0.90),
        (0.05, 0.002, 1.0),
        (0.40, 0.002, 0.995),
    ],
)
def test_nearly_everything_arrives(loss: float, round_trip_s: float, goal: float) -> None:
    network = Network(loss, round_trip_s)
    network.run(20_000)
    assert network.share >= goal
    lost_at_first = loss * 20_000
    # each loss costs little more than the retransmissions that are lost themselves
    assert network.sent_again <= lost_at_first / (1 - loss) * 1.35


def test_massive_loss_does_not_cause_a_flood() -> None:
    network = Network(0.7, 0.08)
    network.run(5000)
    assert network.sent_again <= 5000 * 0.6  # a request per packet, sent twice; half of them arrive
    assert network.nacks <= 100 * 51


def test_requests_become_fewer_when_answers_take_longer_and_longer() -> None:
    """A queue fills up: answers take 0.1 s at first, and then 0.6 s."""
    asking = Asking()
    per_second: list[int] = []
    answers: list[tuple[float, int]] = []
    for second in range(30):
        start, delay_s = float(second), 0.1 if second < 10 else 0.6
        asking.highest = second * 50
        before = len(asking.asked)
        new = range(second * 50, second * 50 + 50)
        asking.lacking += missing(*new, known_at=start)
        for step in range(50):
            now = start + step * 0.02
            for at, sequence in [answer for answer in answers if answer[0] <= now]:
                asking.arrive(sequence, at)
            answers = [answer for answer in answers if answer[0] > now]
            asking.lacking = [item for item in asking.lacking if item.known_at > now - HOLD_S]
            for at, sequences in asking.run(now, now + 0.02):
                answers += [(at + delay_s, sequence) for sequence in sequences]
        per_second.append(sum(len(sequences) for _, sequences in asking.asked[before:]))
    assert per_second[5] >= 50
    assert max(per_second[20:]) < per_second[5] / 2


def test_reordering_is_not_taken_for_loss_for_long() -> None:
    network = Network(0.0, 0.08, jitter_s=0.5)
    network.run(5000)
    assert network.share == 1.0
    assert network.sent_again <= 0.05 * 5000


def test_a_day_with_a_sender_that_never_answers_costs_nearly_nothing() -> None:
    network = Network(0.02, 0.08, answers=False)
    network.run(50 * 600)
    assert network.nacks <= MAX_UNANSWERED + 600 / RETRY_S + 2


def test_round_trips_are_smoothed_within_limits() -> None:
    estimate = RoundTripEstimate()
    assert estimate.mean_s is None
    assert [estimate.interval_s(times) for times in (1, 2, 3)] == [0.1, 0.2, 0.4]
    for n in range(50):
        estimate.add(0.2, now=n / 50)
    assert estimate.mean_s == pytest.approx(0.2)
    assert estimate.interval_s(1) == estimate.interval_s(5) == pytest.approx(0.21, abs=0.001)
    assert not estimate.is_congested(0.45)
    assert estimate.is_congested(0.55)
    for n in range(50):
        estimate.add(0.001, now=n / 50)
    assert estimate.interval_s(1) == 0.05
    for n in range(50):
        estimate.add(5.0, now=n / 50)
    assert estimate.interval_s(1) == 1.0


def test_packets_that_are_repeated_again_and_again_take_no_memory() -> None:
    asking = Asking()
    asking.lacking = missing(7, known_at=10.0)
    asking.run(10.0, 10.2)
    asking.arrive(7, 10.2)
    asking.run(10.2, 10.3)
    assert asking.requests.answered == 1
    tracemalloc.start()
    for _ in range(100_000):
        asking.requests.note_repeated(7, at=10.3)
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert taken < 200_000
