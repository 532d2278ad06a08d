"""Accepts offers: the answer of the server to each, and the connection that it makes."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

from aiortc import RTCCertificate

from adapters.transport.dtls.transport import DtlsTransport
from adapters.transport.ice.options import IceOptions
from adapters.transport.rtcp.schedule import ReportSchedule
from adapters.transport.sdp.codecs import OpusPreferences, with_stereo
from adapters.transport.sdp.descriptions import LocalTransport
from adapters.transport.sdp.parsing import parse_offer
from adapters.transport.sdp.writing import write_answer
from adapters.transport.server_connection import ServerPeerConnection
from adapters.transport.sockets.datagrams import BUFFER_BYTES
from adapters.transport.sockets.rounds import MAX_WAIT_S
from domain.errors import NoRelay, ServerFull
from domain.ports.clock import Clock, Spawner
from domain.ports.media import RemoteTrack
from domain.ports.signaling import ServerConnection
from domain.session.ice import IceServer

_log = logging.getLogger("gapless")

REPORT_INTERVAL_S = 0.5
"""Reports are heartbeats, too: a client that misses some of them in a row has lost its path."""
CERTIFICATE_S = 86_400.0
MAX_READ_DELAY_S = MAX_WAIT_S + 0.1
"""The longest time that a packet waits to be read: other work of the thread comes first."""
ENOUGH_BYTES = 2 << 20
"""A receive buffer that holds the packets of 100 streams for half a second."""


class WebRtcServerTransport:
    """Accepts offers."""

    def __init__(
        self,
        options: IceOptions,
        *,
        preferences: OpusPreferences,
        clock: Clock,
        spawner: Spawner,
    ) -> None:
        self._options = replace(options, is_server=True)
        self._preferences = preferences
        self._clock = clock
        self._spawner = spawner
        self._reports = ReportSchedule(REPORT_INTERVAL_S)
        self._certificate: tuple[RTCCertificate, float] | None = None  # with its expiry

    @property
    def max_read_delay_s(self) -> float:
        return MAX_READ_DELAY_S

    async def open(self) -> None:
        assert self._options.shared is not None
        shared = self._options.shared
        for problem in shared.open(self._options.host_addresses()):
            _log.warning("no UDP port: %s", problem)
        if (size := shared.buffer_bytes) < ENOUGH_BYTES:
            _log.warning(
                "the kernel buffers %.1f MB of a UDP port: raise net.core.rmem_max to %d, so that "
                "nothing is lost when this process is late",
                size / 1e6, BUFFER_BYTES,
            )  # fmt: skip
        await self._options.public.open(shared.opened)

    async def close(self) -> None:
        self._options.public.close()
        if self._options.shared is not None:
            self._options.shared.close()

    async def accept(
        self,
        offer_sdp: str,
        *,
        ice_servers: Sequence[IceServer],
        codecs: Sequence[str | None] = (),
    ) -> ServerConnection:
        offer = parse_offer(offer_sdp, codecs=codecs)
        # the offerer controls ICE, unless it is an ICE-lite agent (RFC 8445 § 6.1.1)
        transport = DtlsTransport(
            self._options,
            controlling=offer.is_ice_lite,
            certificate=self._current_certificate(),
        )
        transport.ice.budget.earn(len(offer_sdp))
        transport.ice.set_remote(offer.username, offer.password, is_lite=offer.is_ice_lite)
        try:
            candidates = await transport.ice.gather(ice_servers)
            for problem in transport.ice.problems:
                _log.warning("%s", problem)
            if not candidates:
                why = "; ".join(transport.ice.problems)
                if self._options.relay_only:
                    raise NoRelay(why or "no TURN server is configured")
                raise ServerFull(why or "this server has no address for clients to reach")
        except BaseException:
            await transport.close()
            raise
        if offer.declined:
            reasons = (f"{count} {reason}" for reason, count in offer.declined.items())
            _log.warning("declined audio m-lines of an offer: %s", ", ".join(reasons))
        local = LocalTransport(
            transport.ice.username,
            transport.ice.password,
            transport.fingerprint,
            candidates,
            complete=True,
        )
        answer = write_answer(offer, local, self._preferences)
        tracks = [RemoteTrack(with_stereo(item.codecs, self._preferences)) for item in offer.tracks]
        return ServerPeerConnection(
            offer, transport, answer, tracks, self._clock, self._spawner, self._reports
        )

    def _current_certificate(self) -> RTCCertificate:
        """Return the certificate for all connections of a day; clients may recognize the server.

        Making one for each connection would delay the media of others by milliseconds.
        """
        now = self._clock.monotonic()
        if self._certificate is None or now >= self._certificate[1]:
            self._certificate = RTCCertificate.generateCertificate(), now + CERTIFICATE_S
        return self._certificate[0]
