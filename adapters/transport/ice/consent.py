"""Consent freshness: checks that the peer still wants to receive (RFC 7675)."""

from __future__ import annotations

import asyncio
import random
import time
from typing import Any, cast

from aioice import stun
from aioice.ice import CONSENT_FAILURES, CONSENT_INTERVAL, CandidatePair, StunProtocol

from adapters.transport.ice.guard import GuardedConnection


class ConsentingConnection(GuardedConnection):
    """aioice's connection with consent checks that cost less."""

    round_trip_s: float | None = None
    """How long the latest check and its answer were under way; None before the first one."""

    @property
    def selected(self) -> CandidatePair | None:
        """The pair that carries data."""
        return self._nominated.get(1)

    async def query_consent(self) -> None:
        """Send consent checks until the consent has expired, and close then.

        This replaces aioice's loop, in which each check is a transaction with a timer. It also
        accepts another proof of consent: FFmpeg's WHIP muxer stops answering checks once it sends
        media, but it still sends its own checks, which are authenticated as well. If they come from
        another address, a NAT has rebound the peer: what is sent follows it there.
        """
        failures = 0
        check: ConsentCheck | None = None
        attributes: dict[str, Any] | None = None  # the same for all checks
        while True:
            await asyncio.sleep(CONSENT_INTERVAL * random.uniform(0.8, 1.2))  # noqa: S311
            if check is not None:
                check.withdraw()
                if check.is_answered:
                    self.round_trip_s = check.round_trip_s
                else:
                    self._follow_peer()
                is_alive = check.is_answered or self._has_checked_since(
                    check.sent_at - 2 * CONSENT_INTERVAL
                )
                failures = 0 if is_alive else failures + 1
                if failures == CONSENT_FAILURES:
                    break
            pair = self.selected
            assert pair is not None
            if attributes is None:
                attributes = self.build_request(pair, nominate=False).attributes
            check = self._send_check(pair, dict(attributes), now=time.monotonic())
        self._query_consent_task = None
        await self.close()

    def _has_checked_since(self, since: float) -> bool:
        """Whether the peer has checked the selected path.

        The source of its other checks may be forged.
        """
        pair = self.selected
        return pair is not None and self._heard_at.get(pair.remote_addr, since) > since

    def _follow_peer(self) -> None:
        """Select the pair that the peer checks, if this end's check of it has succeeded, too."""
        for pair in self._check_list:
            is_checked = (pair.protocol, pair.remote_addr) == self._checked_by
            if is_checked and pair.state == CandidatePair.State.SUCCEEDED:
                self._nominated[1] = pair

    def _send_check(
        self, pair: CandidatePair, attributes: dict[str, Any], *, now: float
    ) -> ConsentCheck:
        assert self.remote_password is not None
        key = self.remote_password.encode()
        # the key authenticates the answer, so that the transaction id need not be secret; one from
        # the system would cost as much as everything else here
        transaction_id = random.randbytes(12)  # noqa: S311
        request = stun.Message(stun.Method.BINDING, stun.Class.REQUEST, transaction_id, attributes)
        request.add_message_integrity(key)
        check = ConsentCheck(transaction_id, key, pair.protocol, sent_at=now)
        pair.protocol.send_stun(request, pair.remote_addr)
        return check


class ConsentCheck:
    """One check. Nothing waits for its answer: the result is read when the next check is due."""

    __slots__ = (
        "_key",
        "_transaction_id",
        "_transactions",
        "is_answered",
        "round_trip_s",
        "sent_at",
    )

    def __init__(
        self, transaction_id: bytes, key: bytes, protocol: StunProtocol, *, sent_at: float
    ) -> None:
        self._transaction_id = transaction_id
        self._key = key
        self._transactions = cast("dict[bytes, Any]", protocol.transactions)
        self._transactions[transaction_id] = self
        self.sent_at = sent_at
        self.is_answered = False
        self.round_trip_s = 0.0

    def response_received(self, message: stun.Message, _addr: tuple[str, int]) -> None:
        """Called by aioice, as for its own transactions."""
        if message.message_class == stun.Class.RESPONSE:
            self.is_answered = message.check_message_integrity(self._key)
            self.round_trip_s = time.monotonic() - self.sent_at

    def withdraw(self) -> None:
        """Ignore an answer that comes from now on."""
        del self._transactions[self._transaction_id]
