"""Reads are coalesced depending on the load of the thread."""

from __future__ import annotations

import time

import pytest

from adapters.transport.sockets.coalescing import (
    COALESCED,
    HIGH_LOAD,
    LOW_LATENCY,
    LOW_LOAD,
    MAX_READ_DELAY_S,
    ReadCoalescing,
    ReadTiming,
)

STEP_S = 0.005
EACH_S = 15e-6
SAVED = 0.5
READING = 0.25
MIDDLE = (LOW_LOAD + HIGH_LOAD) / 2


class Thread:
    """A thread with a given load, which is lower while reads are coalesced."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        self.worked_s = 0.0
        self.owed = 0.0
        self.timing = LOW_LATENCY
        monkeypatch.setattr(time, "monotonic", lambda: self.now)
        monkeypatch.setattr(time, "thread_time", lambda: self.worked_s)
        self.coalescing = ReadCoalescing()

    def go_on(
        self,
        seconds: float,
        load: float,
        *,
        reading: float = READING,
        each_s: float = EACH_S,
        saved: float = SAVED,
        late_s: float = 0.006,
    ) -> ReadTiming:
        """Let time pass; return the timing after that.

        `load` is the share of the thread's time that work takes without coalescing, `reading` the
        part of it in which packets are read, `saved` the part of that which coalescing saves.
        """
        until = self.now + seconds
        while self.now < until:
            self.now += STEP_S
            self.owed += STEP_S * load * reading / each_s
            count, self.owed = int(self.owed), self.owed % 1
            is_coalesced = self.timing == COALESCED
            read_s = count * each_s * (1 - saved if is_coalesced else 1)
            self.worked_s += read_s + STEP_S * load * (1 - reading)
            self.coalescing.packets += count
            sockets = round(count / (15 if is_coalesced else 2))
            self.coalescing.sockets += sockets
            self.coalescing.late_s += sockets * late_s
            self.coalescing.worked_s += read_s
            self.timing = self.coalescing.timing(now=self.now)
        return self.timing

    def seen(self, seconds: float, load: float, **how: float) -> list[ReadTiming]:
        """Return the timing in every quarter of a second."""
        return [self.go_on(0.25, load, **how) for _ in range(round(seconds * 4))]


@pytest.fixture
def thread(monkeypatch: pytest.MonkeyPatch) -> Thread:
    return Thread(monkeypatch)


def test_reads_are_not_coalesced_while_there_is_time(thread: Thread) -> None:
    assert thread.go_on(20, load=0.0) == LOW_LATENCY
    assert set(thread.seen(60, load=HIGH_LOAD - 0.01)) == {LOW_LATENCY}


def test_reads_are_coalesced_above_the_high_load_until_below_the_low_one(thread: Thread) -> None:
    thread.go_on(20, load=LOW_LOAD - 0.02)
    assert thread.go_on(5, load=0.95) == COALESCED
    assert thread.go_on(15, load=MIDDLE) == COALESCED
    assert thread.go_on(9, load=LOW_LOAD - 0.02) == LOW_LATENCY
    assert thread.go_on(20, load=MIDDLE) == LOW_LATENCY
    assert thread.go_on(20, load=HIGH_LOAD + 0.01) == COALESCED
    assert thread.go_on(3, load=0.0) == LOW_LATENCY  # all clients have left


def test_the_cost_of_a_packet_is_measured_again(thread: Thread) -> None:
    """The same packets, on a machine that changes its pace."""
    packets_hz = 0.5 * READING / EACH_S
    assert thread.go_on(20, load=0.5) == LOW_LATENCY
    assert thread.go_on(8, load=0.95, each_s=0.95 * READING / packets_hz) == COALESCED
    thread.go_on(32, load=0.5)  # until it measures again, and for the measurement
    assert set(thread.seen(60, load=0.5)) == {LOW_LATENCY}


def test_late_reads_are_no_measurement(thread: Thread) -> None:
    """A late read returns more packets than usual, which changes the cost of each."""
    seen = thread.seen(120, load=0.9, late_s=0.05)
    assert seen[20:].count(COALESCED) > 0.9 * len(seen[20:])
    thread.go_on(35, load=0.5)  # until it measures again, and for the measurement
    assert set(thread.seen(60, load=0.5)) == {LOW_LATENCY}


def test_a_stalled_network_does_not_start_coalescing(thread: Thread) -> None:
    """The delayed packets arrive at once."""
    for _ in range(20):
        assert thread.go_on(2.0, load=0.6) == LOW_LATENCY
        thread.go_on(0.3, load=0.0)
        assert thread.go_on(0.2, load=1.0, late_s=0.05) == LOW_LATENCY


def test_handshakes_do_not_start_coalescing(thread: Thread) -> None:
    """Two seconds of handshakes, in addition to a load of one half."""
    thread.go_on(20, load=0.5)
    for _ in range(10):
        assert set(thread.seen(2, load=1.0, reading=0.1, late_s=0.2)) == {LOW_LATENCY}
        assert thread.go_on(20, load=0.5) == LOW_LATENCY


@pytest.mark.parametrize("reading", [READING, 0.6])
@pytest.mark.parametrize("saved", [0.0, SAVED, 0.8])
@pytest.mark.parametrize("load", [0.3, 0.6, 0.71, 0.76, 0.79, 0.82, 0.95])
def test_timing_does_not_oscillate_whatever_coalescing_saves(
    thread: Thread, load: float, saved: float, reading: float
) -> None:
    """The load without coalescing decides, not the lower load with coalescing."""
    thread.go_on(20, load, saved=saved, reading=reading)
    seen = thread.seen(120, load, saved=saved, reading=reading)
    if load > HIGH_LOAD:
        assert seen.count(COALESCED) > 0.95 * len(seen)  # except during measurements
    else:
        assert set(seen) == {LOW_LATENCY}


def test_the_longest_read_delay_covers_a_coalesced_read() -> None:
    assert COALESCED.poll_interval_s + COALESCED.delay_s + COALESCED.interval_s < MAX_READ_DELAY_S
