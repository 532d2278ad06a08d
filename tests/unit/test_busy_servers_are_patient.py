"""How long a socket's datagrams wait for others, by how much there is to do."""

from __future__ import annotations

import time

import pytest

from adapters.transport.udp import BUSY, LONG_S, LOOK_S, SHORT_S, _Patience

EACH_S = 50e-6
SAVED = 0.2


class Thread:
    """A thread that works as much of its time as it is told to, and less while it is patient."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = self.worked_s = 100.0
        self.owed = 0.0
        self.wait_s = SHORT_S
        monkeypatch.setattr(time, "monotonic", lambda: self.now)
        monkeypatch.setattr(time, "thread_time", lambda: self.worked_s)
        self.patience = _Patience()

    def go_on(
        self,
        seconds: float,
        busy: float,
        *,
        each_s: float = EACH_S,
        other: float = 0.0,
        saved: float = SAVED,
        at_a_time: float = 1.0,
    ) -> float:
        """The patience after that: packets take a share of the time, and something else does."""
        until = self.now + seconds
        while self.now < until:
            self.now += LOOK_S
            takes = busy / (1 + saved) if self.wait_s == LONG_S else busy
            self.worked_s += LOOK_S * (takes + other)
            self.owed += LOOK_S * busy / each_s
            self.patience.packets += int(self.owed)
            self.patience.sockets += int(self.owed / at_a_time)
            self.owed -= int(self.owed)
            self.wait_s = self.patience.seconds(now=self.now)
        return self.wait_s


@pytest.fixture
def thread(monkeypatch: pytest.MonkeyPatch) -> Thread:
    return Thread(monkeypatch)


def test_one_that_has_time_waits_for_one_packet_more(thread: Thread) -> None:
    assert thread.go_on(20, busy=0.0) == SHORT_S
    assert thread.go_on(20, busy=BUSY[1] - 0.02) == SHORT_S


def test_one_that_has_none_waits_for_ten_until_it_has_again(thread: Thread) -> None:
    thread.go_on(20, busy=BUSY[0] - 0.1)
    assert thread.go_on(1, busy=1.0) == LONG_S
    assert thread.go_on(15, busy=sum(BUSY) / 2) == LONG_S
    assert thread.go_on(5, busy=BUSY[0] - 0.02) == SHORT_S
    assert thread.go_on(20, busy=sum(BUSY) / 2) == SHORT_S
    assert thread.go_on(20, busy=BUSY[1] + 0.02) == LONG_S
    assert thread.go_on(1, busy=0.0) == SHORT_S  # all have gone at once


def test_it_learns_what_a_packet_takes(thread: Thread) -> None:
    packets_a_second = 0.5 / EACH_S
    assert thread.go_on(20, busy=0.5) == SHORT_S
    dear_s = 0.9 / packets_a_second
    assert thread.go_on(5, busy=0.9, each_s=dear_s) == LONG_S
    thread.go_on(35, busy=0.5)
    assert thread.go_on(60, busy=0.5) == SHORT_S


def test_clients_that_come_make_no_difference(thread: Thread) -> None:
    thread.go_on(20, busy=0.5)
    for _ in range(20):  # four handshakes a second, of which each takes 20 ms
        assert thread.go_on(0.05, busy=0.5, other=0.4) == SHORT_S
        assert thread.go_on(0.20, busy=0.5) == SHORT_S
    assert thread.go_on(1, busy=0.5, other=0.5) == SHORT_S


def test_many_that_connect_make_none_while_there_is_no_media_yet(thread: Thread) -> None:
    thread.go_on(5, busy=0.0, other=1.0)
    assert thread.go_on(20, busy=0.5) == SHORT_S


def test_what_was_learned_while_many_connected_is_put_right_within_half_a_minute(
    thread: Thread,
) -> None:
    thread.go_on(5, busy=0.2, other=0.8)
    thread.go_on(35, busy=0.5)
    assert thread.go_on(60, busy=0.5) == SHORT_S


def test_sockets_that_have_much_show_that_there_is_no_time(thread: Thread) -> None:
    """It has never had any, and cannot know what a packet takes when it has."""
    waits = [thread.go_on(0.05, busy=1.0, saved=1.0, at_a_time=5.0) for _ in range(20)]
    assert waits.count(LONG_S) >= len(waits) // 2


def test_a_few_sockets_that_have_much_show_nothing(thread: Thread) -> None:
    """The network held them up, as it does."""
    for _ in range(20):
        assert thread.go_on(0.05, busy=0.05, at_a_time=10.0) == SHORT_S


@pytest.mark.parametrize("saved", [0.0, SAVED, 1.0])
@pytest.mark.parametrize("busy", [0.5, 0.58, 0.6, 0.64, 0.72, 0.9])
def test_it_settles_whatever_patience_saves(thread: Thread, busy: float, saved: float) -> None:
    """What it saves is no reason to be less patient; swinging to and fro would gain half of it."""
    thread.go_on(5, busy=0.3)
    thread.go_on(10, busy, saved=saved)
    seen = [thread.go_on(0.25, busy, saved=saved) for _ in range(400)]
    if busy > BUSY[1]:
        assert seen.count(LONG_S) > 0.95 * len(seen)  # now and then it is learned anew
    else:
        assert set(seen) == {SHORT_S}
