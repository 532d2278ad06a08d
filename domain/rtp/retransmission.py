"""Retransmission: which missing packets a receiver asks for, and what a sender sends again.

A receiver asks by generic NACKs (RFC 4585 § 6.2.1). The sender repeats the packets as they were,
or in a retransmission stream of its own (RTX, RFC 4588).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from domain.errors import PayloadInvalid
from domain.rtp.packets import RtpPacket

ASK_INTERVAL_S = 0.02
"""Shortest time between two NACKs to one source."""
REORDERING_S = 0.01
"""How long a packet may be overtaken before it is asked for; more where packets are reordered."""
MAX_ASKED_TOGETHER = 25
"""Sequence numbers in one NACK: the sender answers all of them at once."""
ASKED_PER_PACKET = 1
"""For each packet that the sender has sent, so many requests are allowed on average.

At 40 % loss in both directions it takes 0.8. Retransmissions then need at most as much of the
network as the stream itself.
"""
MAX_BUDGET = 250
"""Requests that may be saved up for an outage."""
ASKED_WITHIN = 200
"""Only packets among the latest sequence numbers are asked for: four seconds of packets of 20 ms.
What a long outage has lost would need more of the network than a stream does."""
FIRST_INTERVAL_S = 0.1
"""Time until a packet is asked for again while the round trip time is unknown; then it doubles."""
SHORTEST_INTERVAL_S, LONGEST_INTERVAL_S = 0.05, 1.0
"""Limits of that time once the round trip time is known."""
FIRST_WINDOW, SMALLEST_WINDOW, LARGEST_WINDOW = 25, 10, 100
"""Requests that may be unanswered at a time."""
MAX_UNANSWERED = 30
UNANSWERED_S = 3.0
"""After so many NACKs in a row without an answer, and this time, the sender is taken for one that
does not answer."""
RETRY_S = 5.0
"""How often such a sender is asked all the same."""
_ONCE_S = 60.0
"""How long requests are not sent twice to a sender that answers both."""
_TOLERANCE_S = 10.0
"""A larger tolerance for reordering is halved after this time without reordered packets."""
_REMEMBERED = 256
"""Answered requests that are remembered, to recognize needless ones by their duplicates."""
_FEWEST_ANSWERED = 0.1
"""If a smaller share of requests is answered, the network is taken for congested."""
_MANY_ANSWERED = 0.75
"""If a smaller share is answered, requests are lost as well, and each is sent twice."""
_SLOTS = 512  # divides 2^16, so that a packet's place follows from its sequence number
_RESEND_INTERVAL_S = 0.04
"""A packet is sent again once in this time at most: a request may come twice."""
_RESEND_RATE_HZ, _RESEND_BURST = 100.0, 250.0
"""Limits of what a sender sends again, whatever it is asked for; a receiver of ours needs less."""


@dataclass(slots=True)
class Retransmitted(RtpPacket):
    """A packet that was restored from a retransmission stream (RTX)."""


@dataclass(frozen=True, slots=True)
class Missing:
    """A packet that is waited for."""

    sequence: int
    """16 bits."""
    known_at: float
    """When a packet behind it arrived (monotonic seconds)."""


@dataclass(slots=True)
class _Request:
    known_at: float
    asked_at: list[float] = field(default_factory=list)
    """When the packet was asked for."""
    arrived_at: float = 0.0


class RoundTripEstimate:
    """The time from a request to its answer, as smoothed mean and deviation (RFC 6298 § 2).

    It is measured where answers are processed, and includes the time until they are read.
    """

    def __init__(self) -> None:
        self.mean_s: float | None = None
        self.shortest_s = 0.0
        """The shortest one measured so far; it rises by 2 % a second, as paths change."""
        self._deviation_s = 0.0
        self._added_at = 0.0

    def add(self, sample_s: float, *, now: float) -> None:
        """Add a measured round trip time."""
        passed_s, self._added_at = now - self._added_at, now
        if self.mean_s is None:
            self.mean_s, self._deviation_s, self.shortest_s = sample_s, sample_s / 4, sample_s
            return
        self._deviation_s += (abs(sample_s - self.mean_s) - self._deviation_s) / 4
        self.mean_s += (sample_s - self.mean_s) / 8
        self.shortest_s = min(sample_s, self.shortest_s * 1.02 ** min(max(passed_s, 0.0), 60.0))

    def interval_s(self, times: int) -> float:
        """Return how long to wait for the answer to a packet's request number `times`."""
        if self.mean_s is None:
            return FIRST_INTERVAL_S * 2.0 ** (times - 1)
        interval_s = self.mean_s + max(0.01, self._deviation_s)
        return min(max(interval_s, SHORTEST_INTERVAL_S), LONGEST_INTERVAL_S)

    def is_congested(self, sample_s: float) -> bool:
        """Whether an answer took so long that queues must be filling up on the path."""
        return sample_s > 2 * self.shortest_s + 0.1


class RetransmissionRequests:
    """Decides which missing packets of one source to ask for, and when.

    Each packet is asked for soon after a later one has arrived, and again after each round trip
    until it arrives or until an answer would be too late. Three limits keep requests from
    congesting the path: a budget that grows with the packets of the stream, a window of unanswered
    requests that grows with answers and shrinks when few or late ones come, and a maximum per
    NACK. A sender that never answers is asked every `RETRY_S` only. A request that follows an
    unanswered one is sent twice in a row, which a sender answers once; where many are unanswered,
    all are.

    A packet that was asked for may only have been delayed. If it comes twice, this shows: then
    requests wait longer for reordered packets.
    """

    def __init__(self) -> None:
        self.answered = 0
        """Packets that have arrived after a request, and probably because of it."""
        self.ask_at = 0.0
        """`ask` need not be called before this time."""
        self._evaluated_at = 0.0
        self._requests: dict[int, _Request] = {}
        self._answered: dict[int, _Request] = {}  # the latest ones
        self._arrived: list[tuple[int, float]] = []  # since `ask` was called, at most `_SLOTS`
        self._round_trip = RoundTripEstimate()
        self._tolerance_s = REORDERING_S
        self._tolerated_until = 0.0
        self._highest: int | None = None
        self._budget = float(MAX_BUDGET)
        self._window = float(FIRST_WINDOW)
        self._is_congested = False  # whether an answer of this round was late
        self._round_ends_at = 0.0
        self._asked_in_round = 0
        self._answered_in_round = 0
        self._duplicates_in_round = 0
        self._unanswered = 0  # NACKs since the latest answer
        self._unanswered_since = 0.0
        self._answered_share = 1.0  # smoothed
        self._repeats = False  # whether requests are sent twice
        self._repeat_from = 0.0  # not before this time
        self._to_repeat: list[int] = []

    @property
    def has_news(self) -> bool:
        """Whether answers have arrived that `ask` has not evaluated yet."""
        return bool(self._arrived)

    def forget(self) -> None:
        """Forget what is missing: other sequence numbers follow, of the same sender."""
        self._requests.clear()
        self._answered.clear()
        self._arrived.clear()
        self._to_repeat = []
        self._highest = None

    def note_arrived(self, packet: RtpPacket) -> float | None:
        """Note a packet that was not next in order.

        If it had been asked for, return when it would have arrived without a loss, at the latest.
        """
        request = self._requests.get(packet.sequence)
        self.note_repeated(packet.sequence, at=packet.arrived)
        return request.known_at if request is not None and request.asked_at else None

    def note_repeated(self, sequence: int, *, at: float) -> None:
        """Note that a packet has arrived at `at`, whether or not it had arrived before."""
        if sequence in self._requests:
            self.ask_at = min(self.ask_at, self._evaluated_at + ASK_INTERVAL_S)
        elif sequence not in self._answered:
            return
        if len(self._arrived) < _SLOTS:  # a peer may repeat a packet any number of times
            self._arrived.append((sequence, at))

    def ask(
        self, missing: Collection[Missing], *, highest: int, hold_s: float, now: float
    ) -> list[int]:
        """Return the sequence numbers to ask for now, oldest first.

        `missing` are the packets to ask for, oldest first. `highest` is the highest sequence number
        that has arrived (16 bits), and `hold_s` how long a missing packet is waited for after a
        later one has arrived.
        """
        self.ask_at, self._evaluated_at = now + ASK_INTERVAL_S, now
        self._note_answers(hold_s=hold_s, now=now)
        self._note_progress(highest)
        known, requests = self._requests, {}
        for item in missing:
            requests[item.sequence] = known.get(item.sequence) or _Request(item.known_at)
        self._requests = requests
        due = self._due(hold_s=hold_s, now=now)
        for sequence in due:
            requests[sequence].asked_at.append(now)
        if due:
            self._budget -= len(due)
            self._asked_in_round += len(due)
            self._unanswered += 1
            if self._unanswered == 1:
                self._unanswered_since = now
            silent_s = now - self._unanswered_since
            if self._unanswered >= MAX_UNANSWERED and silent_s >= UNANSWERED_S:
                self.ask_at = now + RETRY_S
        repeated = [
            sequence
            for sequence in self._to_repeat
            if (request := requests.get(sequence)) is not None and now not in request.asked_at
        ]
        may_repeat = self.answered > 0 and now >= self._repeat_from
        self._to_repeat = [
            sequence
            for sequence in due
            if may_repeat and (self._repeats or len(requests[sequence].asked_at) > 1)
        ]
        return repeated + due

    def _due(self, *, hold_s: float, now: float) -> list[int]:
        """Return the sequence numbers that are due, as many as the limits allow."""
        due: list[int] = []
        waiting = 0
        for sequence, request in self._requests.items():
            # an answer has to come before the packet is given up
            last_chance = request.known_at + hold_s - self._round_trip.shortest_s
            if request.asked_at:
                interval_s = self._round_trip.interval_s(len(request.asked_at))
                due_at = request.asked_at[-1] + interval_s
                if due_at > last_chance:  # ask a little earlier rather than not at all
                    earliest = request.asked_at[-1] + max(interval_s / 2, SHORTEST_INTERVAL_S)
                    due_at = max(earliest, last_chance - 2 * ASK_INTERVAL_S)
            else:
                due_at = request.known_at + self._tolerance_s
            if due_at <= now < last_chance:
                due.append(sequence)
            else:
                waiting += bool(request.asked_at)
        room = min(self._window - waiting, self._budget, MAX_ASKED_TOGETHER)
        return due[: max(0, int(room))]

    def _note_answers(self, *, hold_s: float, now: float) -> None:
        arrived, self._arrived = self._arrived, []
        for sequence, at in arrived:
            request = self._requests.pop(sequence, None)
            if request is None:
                if (answered := self._answered.pop(sequence, None)) is not None:
                    self._note_duplicate(answered, at, hold_s=hold_s, now=now)
            elif request.asked_at and at > request.asked_at[0]:
                request.arrived_at = at
                self._note_answer(sequence, request, now=now)
            else:
                self._tolerate(at - request.known_at, hold_s=hold_s, now=now)
        if now >= self._tolerated_until:
            self._tolerance_s = max(REORDERING_S, self._tolerance_s / 2)
            self._tolerated_until = now + _TOLERANCE_S
        if now >= self._round_ends_at:
            self._end_round(now)

    def _note_answer(self, sequence: int, request: _Request, *, now: float) -> None:
        self.answered += 1
        self._answered_in_round += 1
        self._unanswered = 0
        while len(self._answered) >= _REMEMBERED:
            del self._answered[next(iter(self._answered))]
        self._answered[sequence] = request
        if len(request.asked_at) == 1:
            # which of several requests was answered is not known (Karn's algorithm, RFC 6298 § 3)
            sample_s = now - request.asked_at[0]
            self._round_trip.add(sample_s, now=now)
            if self._round_trip.is_congested(sample_s):
                self._is_congested = True
                return
        self._window = min(LARGEST_WINDOW, self._window + 1)

    def _note_duplicate(self, request: _Request, at: float, *, hold_s: float, now: float) -> None:
        """Learn from a packet that arrived twice: a request for it was needless."""
        self._duplicates_in_round += 1
        if self._repeats:  # it may be the answer to a repeated request
            return
        if len(request.asked_at) == 1:  # the packet itself came late, and the answer after it
            self.answered -= 1
            self._round_trip.add(at - request.asked_at[0], now=now)
            self._tolerate(request.arrived_at - request.known_at, hold_s=hold_s, now=now)
        else:  # the second request was sent before the answer to the first one
            self._round_trip.add(at - request.asked_at[1], now=now)

    def _tolerate(self, late_s: float, *, hold_s: float, now: float) -> None:
        """Wait longer for reordered packets: one was overtaken for `late_s`."""
        if late_s >= self._tolerance_s / 2:
            self._tolerated_until = now + _TOLERANCE_S
            self._tolerance_s = max(self._tolerance_s, min(1.25 * late_s, hold_s / 2))

    def _note_progress(self, highest: int) -> None:
        if self._highest is not None:
            progress = (highest - self._highest) % 2**16
            if progress < 2**15:
                self._budget = min(MAX_BUDGET, self._budget + ASKED_PER_PACKET * progress)
        self._highest = highest

    def _end_round(self, now: float) -> None:
        asked, answered = self._asked_in_round, self._answered_in_round
        if self._repeats and self._duplicates_in_round > max(answered / 2, SMALLEST_WINDOW / 2):
            self._repeat_from = now + _ONCE_S
        self._asked_in_round = self._answered_in_round = self._duplicates_in_round = 0
        self._round_ends_at = now + 2 * self._round_trip.interval_s(1)
        if not asked or self._round_trip.mean_s is None:
            return
        share = min(1.0, answered / asked)
        weight = min(1.0, asked / 50)
        self._answered_share += (share - self._answered_share) * weight
        self._repeats = now >= self._repeat_from and self._answered_share < _MANY_ANSWERED
        if self._is_congested or (asked >= 2 * SMALLEST_WINDOW and share < _FEWEST_ANSWERED):
            self._window = max(SMALLEST_WINDOW, self._window / 2)
            self._is_congested = False


class SentPackets:
    """The latest packets of a sender, to be sent again on request.

    It keeps 512 packets: ten seconds of packets of 20 ms. `add` may be called in a different
    thread than `requested`.
    """

    def __init__(self) -> None:
        self._packets: list[RtpPacket | None] = [None] * _SLOTS
        self._sent_again: dict[int, float] = {}  # when, by sequence number
        self._tokens = _RESEND_BURST
        self._filled_at = 0.0

    def add(self, packet: RtpPacket) -> None:
        """Keep a packet that is sent; its sequence number follows the previous one's."""
        self._packets[packet.sequence % _SLOTS] = packet

    def requested(self, sequences: Sequence[int], *, now: float) -> list[RtpPacket]:
        """Return the packets to send again.

        Unknown ones are left out, and so are those that were sent again a moment ago, and what
        exceeds 250 packets at once and 100 a second.
        """
        self._tokens += (now - self._filled_at) * _RESEND_RATE_HZ
        self._tokens, self._filled_at = min(self._tokens, _RESEND_BURST), now
        again: list[RtpPacket] = []
        for sequence in sequences:
            packet = self._packets[sequence % _SLOTS]
            if packet is None or packet.sequence != sequence or self._tokens < 1:
                continue
            if now - self._sent_again.get(sequence, -_RESEND_INTERVAL_S) < _RESEND_INTERVAL_S:
                continue
            if len(self._sent_again) >= _SLOTS:
                del self._sent_again[next(iter(self._sent_again))]
            self._sent_again.pop(sequence, None)
            self._sent_again[sequence] = now
            self._tokens -= 1
            again.append(packet)
        return again


def unwrap_rtx(packet: RtpPacket, *, payload_type: int, ssrc: int) -> Retransmitted | None:
    """Restore the packet that a retransmission packet carries (RFC 4588 § 4).

    `payload_type` and `ssrc` are those of the original stream. Returns None for padding, which
    senders use to probe the path. Raises `PayloadInvalid`.
    """
    if not packet.payload:
        return None
    if len(packet.payload) < 2:
        raise PayloadInvalid("a retransmission packet is truncated")
    return Retransmitted(
        payload_type,
        int.from_bytes(packet.payload[:2], "big"),
        packet.timestamp,
        ssrc,
        packet.payload[2:],
        packet.marker,
        packet.arrived,
    )
