"""The client's end of a connection: ready-encoded Opus through aiortc's RTP sender."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Awaitable, Callable, Sequence
from fractions import Fraction
from typing import Any

import av
from aiortc import RTCRtpSender
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack
from aiortc.rtcrtpparameters import (
    RTCRtcpParameters,
    RTCRtpCodecParameters,
    RTCRtpSendParameters,
)

from adapters.transport.link import SecureLink
from adapters.transport.sdp import OPUS_PAYLOAD_TYPE, RemoteAudio, parse_answer, write_offer
from domain.errors import ConnectionFailed, ConnectionLost, OfferRejected
from domain.ports.codec import EncodedPacket
from domain.ports.transport import IceCandidate, PublisherConnection
from domain.settings import IceServer

CONNECT_S = 15.0
_DRAIN_S = 2.0
_TIME_BASE = Fraction(1, 48_000)


class OpusStreamTrack(MediaStreamTrack):
    """A track of ready-encoded packets: aiortc's sender takes them as they are.

    `recv` is the sender's clock; it waits for the encoder, which waits for the microphone.
    """

    kind = "audio"

    def __init__(self) -> None:
        super().__init__()
        self._packets: asyncio.Queue[av.Packet[Any]] = asyncio.Queue()
        self._handed_over = False

    def put(self, packet: EncodedPacket) -> None:
        """Queue a packet to be sent at once."""
        ready = av.Packet(packet.payload)
        ready.pts = packet.timestamp
        ready.time_base = _TIME_BASE
        self._packets.put_nowait(ready)

    async def recv(self) -> av.Packet[Any]:
        if self.readyState != "live":
            raise MediaStreamError
        if self._handed_over:
            self._packets.task_done()  # the sender asks for the next one: the last one is sent
            self._handed_over = False
        packet = await self._packets.get()
        self._handed_over = True
        return packet

    async def drain(self) -> None:
        """Wait until every packet has been sent."""
        await self._packets.join()


class AiortcPublisher:
    """Opens connections to servers."""

    def __init__(self, *, ice_servers: Sequence[IceServer], loopback: bool, channels: int) -> None:
        self._ice_servers = ice_servers
        self._loopback = loopback
        self._channels = channels

    def open(self) -> PublisherConnection:
        link = SecureLink(controlling=True, ice_servers=self._ice_servers, loopback=self._loopback)
        return _PublisherConnection(link, channels=self._channels)


class _PublisherConnection:
    def __init__(self, link: SecureLink, *, channels: int) -> None:
        self._link = link
        self._track = OpusStreamTrack()
        self._sender: RTCRtpSender | None = None
        self.offer_sdp = write_offer(link.describe(), channels=channels)

    async def connect(
        self, answer_sdp: str, send_candidate: Callable[[IceCandidate], Awaitable[None]]
    ) -> None:
        try:
            answer = parse_answer(answer_sdp)
        except OfferRejected as error:
            raise ConnectionFailed(f"the server's answer is of no use: {error}") from error
        candidates = await self._link.ice.gather()
        trickle = asyncio.create_task(_trickle(candidates, send_candidate))
        path = asyncio.create_task(self._link.connect(answer, dtls_role=answer.dtls_role))
        try:
            async with asyncio.timeout(CONNECT_S):
                await trickle
                await path
        except TimeoutError:
            raise ConnectionFailed(
                f"no media path to the server within {CONNECT_S:g} s (is UDP blocked?)"
            ) from None
        finally:
            trickle.cancel()
            path.cancel()
            await asyncio.gather(trickle, path, return_exceptions=True)
        await self._start_sender(answer)

    async def send(self, packet: EncodedPacket) -> None:
        if not self._link.is_open or self._track.readyState != "live":
            raise ConnectionLost("the server closed the connection, or cannot be reached any more")
        self._track.put(packet)

    async def close(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_DRAIN_S):
                if self._link.is_open:
                    await self._track.drain()
                if self._sender is not None:
                    await self._sender.stop()
        self._track.stop()
        await self._link.close()

    async def _start_sender(self, answer: RemoteAudio) -> None:
        codec = answer.codecs.get(OPUS_PAYLOAD_TYPE)
        if codec is None or codec.name != "opus":
            raise ConnectionFailed("the server did not take Opus")
        # every RTCP packet reaches the sender through aiortc's own router, as on a stock stack
        self._sender = RTCRtpSender(self._track, self._link.dtls)
        await self._sender.send(
            RTCRtpSendParameters(
                codecs=[
                    RTCRtpCodecParameters(
                        mimeType="audio/opus",
                        clockRate=codec.clock_rate_hz,
                        channels=codec.channels,
                        payloadType=codec.payload_type,
                    )
                ],
                rtcp=RTCRtcpParameters(cname=secrets.token_hex(8)),
            )
        )


async def _trickle(
    candidates: Sequence[str], send_candidate: Callable[[IceCandidate], Awaitable[None]]
) -> None:
    for candidate in candidates:
        await send_candidate(IceCandidate(f"candidate:{candidate}", sdp_mid="0", sdp_mline_index=0))
    await send_candidate(IceCandidate(None, sdp_mid="0", sdp_mline_index=0))
