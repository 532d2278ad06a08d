"""How long a socket's datagrams wait for others, by how much there is to do."""

from __future__ import annotations

import time

import pytest

from adapters.transport.sockets.coalescing import (
    BUSY,
    MAX_READ_DELAY_S,
    PATIENT,
    QUICK,
    ReadCoalescing,
    ReadPace,
)

STEP_S = 0.005
EACH_S = 15e-6
SAVED = 0.5
READING = 0.25
MIDDLE = sum(BUSY) / 2


class Thread:
    """A thread that is at work for as much of its time as it is told to, and less while patient."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        self.worked_s = 0.0
        self.owed = 0.0
        self.rhythm = QUICK
        monkeypatch.setattr(time, "monotonic", lambda: self.now)
        monkeypatch.setattr(time, "thread_time", lambda: self.worked_s)
        self.patience = ReadCoalescing()

    def go_on(
        self,
        seconds: float,
        load: float,
        *,
        reading: float = READING,
        each_s: float = EACH_S,
        saved: float = SAVED,
        late_s: float = 0.006,
    ) -> ReadPace:
        """The rhythm after that.

        `load` is the share of the thread's time that work takes without patience, `reading` the
        part of it in which packets are read, `saved` the part of that which patience saves.
        """
        until = self.now + seconds
        while self.now < until:
            self.now += STEP_S
            self.owed += STEP_S * load * reading / each_s
            count, self.owed = int(self.owed), self.owed % 1
            is_patient = self.rhythm == PATIENT
            read_s = count * each_s * (1 - saved if is_patient else 1)
            self.worked_s += read_s + STEP_S * load * (1 - reading)
            self.patience.packets += count
            sockets = round(count / (15 if is_patient else 2))
            self.patience.sockets += sockets
            self.patience.late_s += sockets * late_s
            self.patience.worked_s += read_s
            self.rhythm = self.patience.rhythm(now=self.now)
        return self.rhythm

    def seen(self, seconds: float, load: float, **how: float) -> list[ReadPace]:
        """Its rhythm in every quarter of a second of that time."""
        return [self.go_on(0.25, load, **how) for _ in range(round(seconds * 4))]


@pytest.fixture
def thread(monkeypatch: pytest.MonkeyPatch) -> Thread:
    return Thread(monkeypatch)


def test_one_that_has_time_waits_for_one_packet_more(thread: Thread) -> None:
    assert thread.go_on(20, load=0.0) == QUICK
    assert set(thread.seen(60, load=BUSY[1] - 0.01)) == {QUICK}


def test_one_that_has_none_waits_for_many_until_it_has_again(thread: Thread) -> None:
    thread.go_on(20, load=BUSY[0] - 0.02)
    assert thread.go_on(5, load=0.95) == PATIENT
    assert thread.go_on(15, load=MIDDLE) == PATIENT
    assert thread.go_on(9, load=BUSY[0] - 0.02) == QUICK
    assert thread.go_on(20, load=MIDDLE) == QUICK
    assert thread.go_on(20, load=BUSY[1] + 0.01) == PATIENT
    assert thread.go_on(3, load=0.0) == QUICK  # all have gone at once


def test_it_learns_what_a_packet_takes(thread: Thread) -> None:
    """The same packets, on a machine that changes its pace."""
    packets_hz = 0.5 * READING / EACH_S
    assert thread.go_on(20, load=0.5) == QUICK
    assert thread.go_on(8, load=0.95, each_s=0.95 * READING / packets_hz) == PATIENT
    thread.go_on(32, load=0.5)  # what it believes, and a moment to learn
    assert set(thread.seen(60, load=0.5)) == {QUICK}


def test_one_that_is_always_late_cannot_learn(thread: Thread) -> None:
    """It reads more at a time than it would in time; what that takes is no measure."""
    seen = thread.seen(120, load=0.9, late_s=0.05)
    assert seen[20:].count(PATIENT) > 0.9 * len(seen[20:])
    thread.go_on(35, load=0.5)  # what it believes, and a moment to learn
    assert set(thread.seen(60, load=0.5)) == {QUICK}


def test_a_network_that_stalls_is_no_reason(thread: Thread) -> None:
    """All that it held up comes at once."""
    for _ in range(20):
        assert thread.go_on(2.0, load=0.6) == QUICK
        thread.go_on(0.3, load=0.0)
        assert thread.go_on(0.2, load=1.0, late_s=0.05) == QUICK


def test_many_that_connect_make_no_difference(thread: Thread) -> None:
    """Two seconds of handshakes beside half of what the thread can do."""
    thread.go_on(20, load=0.5)
    for _ in range(10):
        assert set(thread.seen(2, load=1.0, reading=0.1, late_s=0.2)) == {QUICK}
        assert thread.go_on(20, load=0.5) == QUICK


@pytest.mark.parametrize("reading", [READING, 0.6])
@pytest.mark.parametrize("saved", [0.0, SAVED, 0.8])
@pytest.mark.parametrize("load", [0.3, 0.6, 0.71, 0.76, 0.79, 0.82, 0.95])
def test_it_settles_whatever_patience_saves(
    thread: Thread, load: float, saved: float, reading: float
) -> None:
    """What it saves is no reason to be less patient; swinging to and fro would gain half of it."""
    thread.go_on(20, load, saved=saved, reading=reading)
    seen = thread.seen(120, load, saved=saved, reading=reading)
    if load > BUSY[1]:
        assert seen.count(PATIENT) > 0.95 * len(seen)  # now and then it is learned anew
    else:
        assert set(seen) == {QUICK}


def test_no_hole_is_given_up_over_a_packet_that_is_not_yet_read() -> None:
    assert PATIENT.look_s + PATIENT.wait_s + PATIENT.turn_s < MAX_READ_DELAY_S
