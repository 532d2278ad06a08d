"""How long a socket's datagrams wait for others, by how much there is to do."""

from __future__ import annotations

import time

import pytest

from adapters.transport.udp import BUSY, LOOK_S, PATIENCE_S, _Patience

SHORT_S, LONG_S = PATIENCE_S


class Thread:
    """A thread that works as much of its time as it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = self.worked_s = 100.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)
        monkeypatch.setattr(time, "thread_time", lambda: self.worked_s)
        self.patience = _Patience()

    def go_on(self, seconds: float, busy: float, *, sockets: int = 50) -> float:
        """The patience after that, each look having found so many sockets."""
        until = self.now + seconds
        while self.now < until:
            self.now += LOOK_S
            self.worked_s += LOOK_S * busy
            seconds = self.patience.look(sockets, now=self.now)
        return seconds


@pytest.fixture
def thread(monkeypatch: pytest.MonkeyPatch) -> Thread:
    return Thread(monkeypatch)


def test_one_that_has_time_waits_for_one_packet_more(thread: Thread) -> None:
    assert thread.go_on(20, busy=0.0) == SHORT_S
    assert thread.go_on(20, busy=BUSY[0] - 0.02) == SHORT_S


def test_one_that_has_none_waits_for_several_and_no_longer_than_it_has_to(thread: Thread) -> None:
    thread.go_on(20, busy=BUSY[0] - 0.1)
    assert thread.go_on(20, busy=1.0) == LONG_S
    assert thread.go_on(20, busy=sum(BUSY) / 2) == pytest.approx((SHORT_S + LONG_S) / 2, rel=0.05)
    assert thread.go_on(20, busy=0.2) == SHORT_S
    thread.go_on(20, busy=1.0)
    assert thread.go_on(2, busy=0.0, sockets=0) == SHORT_S  # all have gone at once


def test_a_client_that_comes_makes_no_difference(thread: Thread) -> None:
    thread.go_on(20, busy=0.5)
    assert thread.go_on(0.1, busy=1.0) == SHORT_S
    assert thread.go_on(1, busy=0.5) == SHORT_S


def test_many_that_connect_make_none_while_there_is_no_media_yet(thread: Thread) -> None:
    thread.go_on(5, busy=1.0, sockets=1)
    assert thread.go_on(20, busy=0.5) == SHORT_S


def test_it_settles_where_patience_makes_work_less(thread: Thread) -> None:
    """As it does: a fifth less at most. Swinging to and fro would gain half of that."""
    thread.go_on(5, busy=0.3)
    seen, wait_s = [], SHORT_S
    for _ in range(200):
        busy = 0.8 - 0.17 * (wait_s - SHORT_S) / (LONG_S - SHORT_S)
        wait_s = thread.go_on(0.25, busy)
        seen.append(wait_s)
    assert max(seen[100:]) - min(seen[100:]) < 0.005
    assert SHORT_S < wait_s < LONG_S
