"""How long a socket's datagrams wait for others, by how much there is to do."""

from __future__ import annotations

import time

import pytest

from adapters.transport.patience import BUSY, LONG_S, SHORT_S, Patience
from adapters.transport.udp import LOOK_S
from domain.services.ingest import UNREAD_S

EACH_S = 15e-6
SAVED = 0.5
MIDDLE = sum(BUSY) / 2


class Thread:
    """A thread that reads for as much of its time as it is told to, and less while patient."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        self.owed = 0.0
        self.wait_s = SHORT_S
        monkeypatch.setattr(time, "monotonic", lambda: self.now)
        self.patience = Patience()

    def go_on(
        self,
        seconds: float,
        reads: float,
        *,
        each_s: float = EACH_S,
        saved: float = SAVED,
        late_s: float = 0.006,
    ) -> float:
        """The patience after that: packets take a share of the time without any."""
        until = self.now + seconds
        while self.now < until:
            self.now += LOOK_S
            self.owed += LOOK_S * reads / each_s
            count, self.owed = int(self.owed), self.owed % 1
            is_patient = self.wait_s == LONG_S
            self.patience.packets += count
            sockets = round(count / (10 if is_patient else 2))
            self.patience.sockets += sockets
            self.patience.late_s += sockets * late_s
            self.patience.worked_s += count * each_s * (1 - saved if is_patient else 1)
            self.wait_s = self.patience.seconds(now=self.now)
        return self.wait_s

    def seen(self, seconds: float, reads: float, **how: float) -> list[float]:
        """Its patience in every quarter of a second of that time."""
        return [self.go_on(0.25, reads, **how) for _ in range(round(seconds * 4))]


@pytest.fixture
def thread(monkeypatch: pytest.MonkeyPatch) -> Thread:
    return Thread(monkeypatch)


def test_one_that_has_time_waits_for_one_packet_more(thread: Thread) -> None:
    assert thread.go_on(20, reads=0.0) == SHORT_S
    assert set(thread.seen(60, reads=BUSY[1] - 0.01)) == {SHORT_S}


def test_one_that_has_none_waits_for_ten_until_it_has_again(thread: Thread) -> None:
    thread.go_on(20, reads=BUSY[0] - 0.02)
    assert thread.go_on(2, reads=0.4) == LONG_S
    assert thread.go_on(15, reads=MIDDLE) == LONG_S
    assert thread.go_on(5, reads=BUSY[0] - 0.01) == SHORT_S
    assert thread.go_on(20, reads=MIDDLE) == SHORT_S
    assert thread.go_on(20, reads=BUSY[1] + 0.01) == LONG_S
    assert thread.go_on(2, reads=0.0) == SHORT_S  # all have gone at once


def test_it_learns_what_a_packet_takes(thread: Thread) -> None:
    """The same packets, on a machine that changes its pace."""
    packets_hz = 0.15 / EACH_S
    assert thread.go_on(20, reads=0.15) == SHORT_S
    assert thread.go_on(5, reads=0.3, each_s=0.3 / packets_hz) == LONG_S
    thread.go_on(32, reads=0.15)  # what it believes, and a moment to learn
    assert set(thread.seen(60, reads=0.15)) == {SHORT_S}


def test_who_is_late_has_no_time(thread: Thread) -> None:
    """It has never had any, and cannot know what a packet takes when it has."""
    thread.go_on(1, reads=0.15, late_s=0.05)
    seen = thread.seen(120, reads=0.15, late_s=0.05)
    assert seen.count(LONG_S) > 0.9 * len(seen)
    thread.go_on(32, reads=0.15)  # what it believes, and a moment to learn
    assert set(thread.seen(60, reads=0.15)) == {SHORT_S}


def test_what_was_learned_before_it_was_late_is_not_believed(thread: Thread) -> None:
    thread.go_on(20, reads=0.15)
    thread.go_on(1, reads=0.15, late_s=0.05)
    assert set(thread.seen(2, reads=0.15, late_s=0.05)) == {LONG_S}


def test_a_network_that_stalls_is_no_reason(thread: Thread) -> None:
    """All that it held up comes at once."""
    for _ in range(20):
        assert thread.go_on(2.0, reads=0.15) == SHORT_S
        thread.go_on(0.3, reads=0.0)
        assert thread.go_on(0.05, reads=0.6, late_s=0.05) == SHORT_S


def test_clients_that_come_make_no_difference(thread: Thread) -> None:
    """A handshake holds up the thread for a moment, and is not reading."""
    thread.go_on(20, reads=0.18)
    for _ in range(40):
        assert thread.go_on(0.15, reads=0.18, late_s=0.03) == SHORT_S
        assert thread.go_on(0.10, reads=0.18) == SHORT_S


def test_many_that_connect_are_forgotten_soon(thread: Thread) -> None:
    thread.go_on(3, reads=0.15, late_s=0.2)
    thread.go_on(4, reads=0.15)
    assert set(thread.seen(60, reads=0.15)) == {SHORT_S}


def test_a_few_sockets_that_are_late_show_nothing(thread: Thread) -> None:
    for _ in range(20):
        assert thread.go_on(0.5, reads=0.02, late_s=0.05) == SHORT_S


@pytest.mark.parametrize("saved", [0.0, SAVED, 0.8])
@pytest.mark.parametrize("reads", [0.1, 0.18, 0.2, 0.215, 0.24, 0.3, 0.6])
def test_it_settles_whatever_patience_saves(thread: Thread, reads: float, saved: float) -> None:
    """What it saves is no reason to be less patient; swinging to and fro would gain half of it."""
    thread.go_on(10, reads, saved=saved)
    seen = thread.seen(120, reads, saved=saved)
    if reads > BUSY[1]:
        assert seen.count(LONG_S) > 0.95 * len(seen)  # now and then it is learned anew
    else:
        assert set(seen) == {SHORT_S}


def test_no_hole_is_given_up_over_a_packet_that_is_not_yet_read() -> None:
    assert LONG_S + 2 * (2 * LOOK_S) < UNREAD_S  # found by one look, and due by another
