"""Takes packets from connections to their sessions, to the decoders, and to the store."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

from domain.ports.clock import Clock, Spawner
from domain.rtp.packets import RtpPacket
from domain.rtp.reports import ReceptionReport, SenderReport
from domain.services.server.live_session import (
    AskForMissing,
    Effect,
    LiveSession,
    ServiceEffect,
    SessionConnection,
    TakeOver,
)

DECODED_TOGETHER = 12
"""Sessions that are decoded without a break. It takes some milliseconds; then other work runs."""
ASK_S = 0.01
"""How often sessions that miss packets are looked at, to ask for them."""


class Delivery:
    """Passes packets from connections to sessions, and sound from sessions to the store.

    Decoding is coalesced: the sessions that have packets at the end of an iteration of the event
    loop are decoded together, then stored together, which keeps the processor's caches warm.
    """

    def __init__(
        self,
        clock: Clock,
        spawner: Spawner,
        apply: Callable[[LiveSession, Sequence[ServiceEffect]], None],
    ) -> None:
        """`apply` carries out the effects of a session that concern its life."""
        self._clock = clock
        self._spawner = spawner
        self._apply = apply
        self._undecoded: dict[LiveSession, None] = {}  # in order, each once
        self._incomplete: dict[LiveSession, None] = {}  # a timer runs while there are any

    def received(
        self,
        live: LiveSession,
        connection: SessionConnection,
        index: int,
        packets: Sequence[RtpPacket],
    ) -> None:
        """Pass packets of a connection to its session; `index` is that of their track in it."""
        try:
            effects = live.received(connection, index, packets)
        except Exception as error:
            effects = live.fail(error)
        if effects:
            self.apply(live, effects)
        self._decode_soon(live)

    def sender_reported(
        self, live: LiveSession, connection: SessionConnection, report: SenderReport
    ) -> None:
        """Pass a sender report of a connection to its session."""
        if live.sender_reported(connection, report):
            self._decode_soon(live)

    def release_overdue(self, live: LiveSession, *, now: float) -> None:
        """Release packets of a session whose predecessors are overdue."""
        try:
            is_due = live.release_overdue(now=now)
        except Exception as error:
            self.apply(live, live.fail(error))
            return
        if is_due:
            self._decode_soon(live)

    def apply(self, live: LiveSession, effects: Sequence[Effect]) -> None:
        """Carry out effects that a session has returned."""
        others: list[ServiceEffect] = []
        for effect in effects:
            if isinstance(effect, TakeOver):
                self._take_over_soon(live, effect.connection)
            elif isinstance(effect, AskForMissing):
                self._ask_for_missing(live)
            else:
                others.append(effect)
        self._apply(live, others)

    def _ask_for_missing(self, live: LiveSession) -> None:
        """Ask regularly for the packets that a session misses, with one timer for all sessions."""
        if not self._incomplete:
            self._spawner.later(ASK_S, self._ask)
        self._incomplete[live] = None

    def _ask(self) -> None:
        now = self._clock.monotonic()
        for live in list(self._incomplete):
            try:
                live.request_missing(now=now)
                if not live.is_incomplete:
                    del self._incomplete[live]
            except Exception as error:
                del self._incomplete[live]
                self.apply(live, live.fail(error))
        if self._incomplete:
            self._spawner.later(ASK_S, self._ask)

    def _take_over_soon(self, live: LiveSession, connection: SessionConnection) -> None:
        """Let a connection take over as soon as no packets are being delivered.

        Packets of the old connection may still wait in its socket. They are read first.
        """
        self._spawner.soon(lambda: self._take_over(live, connection))

    def _take_over(self, live: LiveSession, connection: SessionConnection) -> None:
        try:
            if (serving := live.serving) is not None and not live.is_over:
                serving.connection.read_pending()
            effects = live.take_over(connection)
        except Exception as error:
            effects = live.fail(error)
        self.apply(live, effects)
        self._decode_soon(live)

    def _decode_soon(self, live: LiveSession) -> None:
        self._undecoded[live] = None
        if len(self._undecoded) == 1:
            self._spawner.soon(self._decode)

    def _decode(self) -> None:
        together = list(itertools.islice(self._undecoded, DECODED_TOGETHER))
        for live in together:
            del self._undecoded[live]
        for step in (LiveSession.decode, LiveSession.store):
            for live in together:
                try:
                    step(live)
                except Exception as error:
                    self.apply(live, live.fail(error))
        if self._undecoded:
            self._spawner.soon(self._decode)


class DeliverySink:
    """The sink of one connection: adds the session and the connection to each call."""

    def __init__(
        self,
        delivery: Delivery,
        live: LiveSession,
        connection: SessionConnection,
    ) -> None:
        self._delivery = delivery
        self._live = live
        self._connection = connection

    def connection_established(self, *, now: float) -> None:
        self._delivery.apply(self._live, self._live.established(self._connection, now=now))

    def packets_received(self, track: int, packets: Sequence[RtpPacket]) -> None:
        self._delivery.received(self._live, self._connection, track, packets)

    def sender_reported(self, report: SenderReport) -> None:
        self._delivery.sender_reported(self._live, self._connection, report)

    def packet_repeated(self, ssrc: int, sequence: int, *, now: float) -> None:
        self._live.packet_repeated(self._connection, ssrc, sequence, now=now)

    def connection_closed(self, reason: str | None = None) -> None:
        self._delivery.apply(self._live, self._live.closed(self._connection, reason))

    def reception_reports(self) -> Sequence[ReceptionReport]:
        return self._live.reception_reports(self._connection)
