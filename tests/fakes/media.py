from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping

import numpy as np

from domain.audio import AudioFormat, AudioFrame, Samples
from domain.detection import CodecParameters
from domain.errors import OfferRejected, PayloadInvalid
from domain.ports.codec import EncodedPacket
from domain.ports.transport import IceCandidate, MediaSink
from domain.rtp import RtpPacket

OPUS = CodecParameters("opus", 111, 48_000, 2)
PCMU = CodecParameters("pcmu", 0, 8_000, 1)


class PlainEncoder:
    """Packets are the samples themselves."""

    look_ahead = 312

    def encode(self, frame: AudioFrame, *, last: bool = False) -> EncodedPacket | None:
        return EncodedPacket(frame.samples.tobytes(), frame.position)


class PassingResampler:
    def push(self, block: AudioFrame) -> Iterator[AudioFrame]:
        yield block

    def flush(self) -> Iterator[AudioFrame]:
        yield from ()


class PlainDecoder:
    """A payload holds its packet's length in samples and its value, as `payload` writes them."""

    def __init__(self, audio_format: AudioFormat) -> None:
        self._channels = audio_format.channels

    def decode(self, payload: bytes) -> Samples:
        if len(payload) != 5:
            raise PayloadInvalid("not five bytes")
        length, value = int.from_bytes(payload[1:3], "big"), int.from_bytes(payload[3:], "big")
        return np.full((length, self._channels), value, dtype="<i2")

    def recoverable(self, payload: bytes) -> int:
        return 0

    def recover(self, payload: bytes) -> Samples:
        raise PayloadInvalid("no FEC here")

    def conceal(self, length: int) -> Samples:
        return np.zeros((0, self._channels), dtype="<i2")


def plain_decoder(codec: CodecParameters, audio_format: AudioFormat) -> PlainDecoder:
    return PlainDecoder(audio_format)


def payload(value: int, *, length: int = 960, stereo: bool = False) -> bytes:
    """What `PlainDecoder` reads, behind a TOC byte that says mono or stereo."""
    toc = 0xFC if stereo else 0xF8
    return bytes([toc]) + length.to_bytes(2, "big") + value.to_bytes(2, "big")


def packet(
    index: int, *, length: int = 960, ssrc: int = 1, sequence: int = 0, timestamp: int = 0
) -> RtpPacket:
    """The `index`th packet of a stream whose samples have the value `index`."""
    return RtpPacket(
        payload_type=OPUS.payload_type,
        sequence=(sequence + index) % 2**16,
        timestamp=(timestamp + index * length) % 2**32,
        ssrc=ssrc,
        payload=payload(index % 2**15, length=length),
    )


class FakeConnection:
    """A server's connection that is fed by the test."""

    answer_sdp = "v=0 answer"

    def __init__(self, codecs: Mapping[int, CodecParameters]) -> None:
        self.codecs = codecs
        self.sink: MediaSink | None = None
        self.candidates: list[IceCandidate] = []
        self.closed = 0
        self.drained = 0

    def start(self, sink: MediaSink) -> None:
        self.sink = sink

    def add_candidate(self, candidate: IceCandidate) -> None:
        self.candidates.append(candidate)

    async def drain(self) -> None:
        self.drained += 1

    async def close(self) -> None:
        self.closed += 1


class FakeIngestTransport:
    """Accepts every offer but the one that says ``bad``."""

    def __init__(self) -> None:
        self.connections: list[FakeConnection] = []

    async def accept(self, offer_sdp: str) -> FakeConnection:
        if offer_sdp == "bad":
            raise OfferRejected("bad")
        connection = FakeConnection({OPUS.payload_type: OPUS, PCMU.payload_type: PCMU})
        self.connections.append(connection)
        return connection


class FakePublisherConnection:
    """A client's connection that keeps what is sent; `fail` is raised instead of connecting."""

    offer_sdp = "v=0 offer"

    def __init__(self, fail: Exception | None = None, fail_after: int | None = None) -> None:
        self.sent: list[EncodedPacket] = []
        self.answers: list[str] = []
        self.closed = 0
        self._fail = fail
        self._fail_after = fail_after

    async def connect(
        self, answer_sdp: str, send_candidate: Callable[[IceCandidate], Awaitable[None]]
    ) -> None:
        self.answers.append(answer_sdp)
        if self._fail is not None and self._fail_after is None:
            raise self._fail
        await send_candidate(IceCandidate("candidate:1", "0", 0))
        await send_candidate(IceCandidate(None, "0", 0))

    async def send(self, packet: EncodedPacket) -> None:
        if self._fail is not None and len(self.sent) == self._fail_after:
            raise self._fail
        self.sent.append(packet)

    async def close(self) -> None:
        self.closed += 1


class FakePublisherTransport:
    def __init__(self, connection: FakePublisherConnection) -> None:
        self.connection = connection

    def open(self) -> FakePublisherConnection:
        return self.connection
