"""When a socket is read: in rounds, at the pace that the thread allows."""

from __future__ import annotations

import asyncio
import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Callable

from adapters.transport.sockets.buffer import ReceiveBuffer

READ_S = 0.04
"""Idle time of the thread between two rounds of reads. What a session costs each time that it gets
packets is more than what a packet costs. So the busier the thread is, the more packets of each
session a round returns, and the less each of them costs."""
HANDSHAKE_S, HURRY_S = 0.002, 0.5
"""The same for so long after a sign of a handshake: DTLS, or a peer's new address."""
MAX_WAIT_S = 0.2
"""The longest time between two reads, however busy the thread is."""
MAX_ROUND = 8192
"""Datagrams of one round of reads at most, so that a flood does not fill the memory."""
SLICE_S = 0.001
"""After so long a round gives the event loop back, and goes on in its next iteration."""


class PacedSocket(ABC):
    """A bound socket. A round receives all that waits, delivers it, and waits."""

    def __init__(self, bound: socket.socket, *, is_paced: bool) -> None:
        """Without `is_paced` datagrams are read as soon as they arrive."""
        self.socket = bound
        self.is_closed = False
        self._loop = asyncio.get_running_loop()
        self._is_paced = is_paced
        self._is_awaited = False  # whether the event loop tells of the next datagram
        self._timer: asyncio.Handle | None = None
        self._read_at = self._worked_s = 0.0
        self._hurried_until = 0.0
        self._count = 0  # datagrams of this round
        self._are_more = False  # whether this round has left some
        self._buffer = ReceiveBuffer(bound)
        # a small buffer may be full long before the next read is due
        self._look_s = max(self._buffer.full_s / 2, HANDSHAKE_S)

    @abstractmethod
    def _receive(self) -> bool:
        """Receive some datagrams, and count them; return whether more may wait."""

    @property
    @abstractmethod
    def _has_next(self) -> bool:
        """Whether there is something to deliver."""

    @abstractmethod
    def _deliver_next(self) -> None:
        """Deliver the datagrams of one connection."""

    def close(self) -> None:
        """Close the socket."""
        if not self.is_closed:
            self.is_closed = True
            self._await(False)
            if self._timer is not None:
                self._timer.cancel()
            self.socket.close()

    def _await(self, is_awaited: bool = True) -> None:
        """Let the event loop tell of the next datagram, or not."""
        if is_awaited and not self._is_awaited:
            self._loop.add_reader(self.socket, self._receive_all)
        elif self._is_awaited and not is_awaited:
            self._loop.remove_reader(self.socket)
        self._is_awaited = is_awaited

    def _receive_all(self) -> None:
        self._buffer.measure()
        until = time.monotonic() + SLICE_S
        while are_more := self._receive():
            if self._count >= MAX_ROUND:
                break
            if time.monotonic() >= until:
                self._go_on(self._receive_all)
                return
        self._are_more = are_more
        self._deliver_all()

    def _deliver_all(self) -> None:
        until = time.monotonic() + SLICE_S
        while self._has_next:
            self._deliver_next()
            if time.monotonic() >= until and not self.is_closed:
                self._go_on(self._deliver_all)
                return
        self._wait()

    def _go_on(self, work: Callable[[], None]) -> None:
        """Give the event loop back, and go on in its next iteration."""
        self._await(False)
        self._timer = self._loop.call_soon(work)

    def _wait(self) -> None:
        """Begin the next round after a while, or when a datagram comes if none was found."""
        if self._timer is not None:
            self._timer.cancel()
        count, self._count = self._count, 0
        if self.is_closed:
            return
        self._buffer.look(now=time.monotonic())
        if self._are_more:
            self._go_on(self._receive_all)
            return
        if not (count and self._is_paced):
            self._await()
            return
        self._await(False)
        self._read_at, self._worked_s = time.monotonic(), time.thread_time()
        self._timer = self._loop.call_later(min(self._idle_s, self._look_s), self._due)

    def _due(self) -> None:
        passed_s = time.monotonic() - self._read_at
        left_s = self._idle_s - (passed_s - (time.thread_time() - self._worked_s))
        self._buffer.measure()
        if left_s > HANDSHAKE_S and passed_s < MAX_WAIT_S and not self._buffer.is_filling:
            left_s = min(left_s, MAX_WAIT_S - passed_s, self._look_s)
            self._timer = self._loop.call_later(left_s, self._due)
        else:
            self._receive_all()

    @property
    def _idle_s(self) -> float:
        """How long the thread must have been idle before the next round."""
        return HANDSHAKE_S if time.monotonic() < self._hurried_until else READ_S

    def _hurry(self) -> None:
        self._hurried_until = time.monotonic() + HURRY_S
