from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

import numpy as np

from domain.errors import ConnectionFailed, OfferRejected, PayloadInvalid
from domain.ports.media import MediaSink, PathReport, RemoteTrack
from domain.rtp.packets import RtpPacket
from domain.session.ice import IceCandidate, IceDescription, IceServer
from domain.sound.detection import CodecParameters
from domain.sound.formats import AudioFormat, AudioFrame
from domain.sound.pieces import Sound
from tests.fakes.time import FakeClock

OPUS = CodecParameters("opus", 111, 48_000, 2)
PCMU = CodecParameters("pcmu", 0, 8_000, 1)


class PlainEncoder:
    """Returns the samples themselves as the payload."""

    look_ahead = 312

    def encode(self, frame: AudioFrame, *, last: bool = False) -> bytes | None:
        return frame.samples.tobytes()

    def reset(self) -> None:
        """Do nothing: there is no state."""


class PassingResampler:
    def push(self, block: AudioFrame) -> Sequence[AudioFrame]:
        return [block]

    def flush(self) -> Sequence[AudioFrame]:
        return []


class PlainDecoder:
    """Decodes the payloads of `payload`, which hold a length in samples and a constant value."""

    def __init__(self, audio_format: AudioFormat) -> None:
        self._channels = audio_format.channels
        self._gathered: list[Sound] = []

    def decode(self, payload: bytes) -> int:
        if len(payload) != 5:
            raise PayloadInvalid("not five bytes")
        length, value = int.from_bytes(payload[1:3], "big"), int.from_bytes(payload[3:], "big")
        self._gathered.append(np.full((length, self._channels), value, dtype="<i2"))
        return length

    def recoverable(self, payload: bytes) -> int:
        return 0

    def recover(self, payload: bytes) -> int:
        raise PayloadInvalid("no FEC here")

    def conceal(self, length: int) -> int:
        return 0

    def collect(self) -> list[Sound]:
        gathered, self._gathered = self._gathered, []
        return gathered


def plain_decoder(codec: CodecParameters, audio_format: AudioFormat) -> PlainDecoder:
    return PlainDecoder(audio_format)


def payload(value: int, *, length: int = 960, stereo: bool = False) -> bytes:
    """Return a payload for `PlainDecoder`, with a TOC byte that says mono or stereo."""
    toc = 0xFC if stereo else 0xF8
    return bytes([toc]) + length.to_bytes(2, "big") + value.to_bytes(2, "big")


def packet(
    index: int, *, length: int = 960, ssrc: int = 1, sequence: int = 0, timestamp: int = 0
) -> RtpPacket:
    """Return the `index`th packet of a stream; its samples have the value `index`."""
    return RtpPacket(
        payload_type=OPUS.payload_type,
        sequence=(sequence + index) % 2**16,
        timestamp=(timestamp + index * length) % 2**32,
        ssrc=ssrc,
        payload=payload(index % 2**15, length=length),
    )


class FakeConnection:
    """A server connection that the test feeds with packets."""

    def __init__(
        self, codecs: Mapping[int, CodecParameters], number: int, *, tracks: int = 1
    ) -> None:
        self.answer_sdp = f"v=0 answer {number}"
        self.ice_tag = f"tag{number}"
        self.remote_ice = IceDescription("user", "password")
        self.tracks = (RemoteTrack(codecs),) * tracks
        self.sink: MediaSink | None = None
        self.obstacle: str | None = None
        self.round_trip_s: float | None = None
        self.candidates: list[IceCandidate] = []
        self.closed = 0
        self.drained = 0
        self.unread: list[RtpPacket] = []
        self.requested: list[tuple[int, int, Sequence[int]]] = []

    def start(self, sink: MediaSink) -> None:
        self.sink = sink

    def add_candidate(self, candidate: IceCandidate) -> None:
        self.candidates.append(candidate)

    async def restart_ice(
        self, remote: IceDescription, *, ice_servers: Sequence[IceServer]
    ) -> IceDescription:
        self.remote_ice = remote
        self.ice_tag += "+"
        return IceDescription("ours", "secret", complete=True)

    def request_retransmission(self, track: int, ssrc: int, sequences: Sequence[int]) -> None:
        self.requested.append((track, ssrc, sequences))

    def read_pending(self) -> None:
        unread, self.unread = self.unread, []
        if unread:
            assert self.sink is not None
            self.sink.packets_received(0, unread)

    async def drain(self) -> None:
        self.drained += 1

    async def close(self) -> None:
        self.closed += 1


MAX_READ_DELAY_S = 0.3


class FakeServerTransport:
    """Accepts every offer except ``bad``; one that says ``two tracks`` has two, and
    ``16 tracks`` 16."""

    max_read_delay_s = MAX_READ_DELAY_S

    def __init__(self) -> None:
        self.connections: list[FakeConnection] = []
        self.ice_servers: Sequence[IceServer] = ()
        self.codecs: Sequence[str | None] = ()

    async def accept(
        self,
        offer_sdp: str,
        *,
        ice_servers: Sequence[IceServer],
        codecs: Sequence[str | None] = (),
    ) -> FakeConnection:
        if offer_sdp == "bad":
            raise OfferRejected("bad")
        self.ice_servers = ice_servers
        self.codecs = codecs
        codecs = {OPUS.payload_type: OPUS, PCMU.payload_type: PCMU}
        if "pcmu only" in offer_sdp:
            del codecs[OPUS.payload_type]
        number = len(self.connections) + 1
        tracks = 2 if "two tracks" in offer_sdp else 16 if "16 tracks" in offer_sdp else 1
        connection = FakeConnection(codecs, number, tracks=tracks)
        self.connections.append(connection)
        return connection


class FakeClientConnection:
    """A client connection that records what is sent; `connect` raises `fail`, if given.

    The server reports each packet at once, until `die`. An ICE restart finds another path if
    `can_restart`.
    """

    offer_sdp = "v=0 offer"
    ice_tag = "tag"

    def __init__(
        self, clock: FakeClock, fail: Exception | None = None, *, can_restart: bool = False
    ) -> None:
        self.sent: list[RtpPacket] = []
        self.sent_again: list[RtpPacket] = []
        self.on_requested: Callable[[Sequence[int]], None] | None = None
        self.answers: list[str] = []
        self.closed: list[bool] = []
        self.is_open = False
        self.is_dead = False
        self.is_closed_by_server = False
        self.highest_reported: int | None = None
        self.path_report: PathReport | None = None
        self._clock = clock
        self._died_at = 0.0
        self._fail = fail
        self._can_restart = can_restart

    @property
    def heard_at(self) -> float:
        return self._died_at if self.is_dead else self._clock.now

    def die(self) -> None:
        """Drop everything in both directions from now on."""
        self.is_dead, self._died_at = True, self._clock.now

    def close_by_server(self) -> None:
        self.is_open, self.is_closed_by_server = False, True

    def revive(self) -> None:
        self.is_dead = False

    async def connect(
        self,
        answer_sdp: str,
        *,
        ice_servers: Sequence[IceServer],
        send_candidate: Callable[[IceCandidate], Awaitable[None]],
    ) -> None:
        self.answers.append(answer_sdp)
        if self._fail is not None:
            raise self._fail
        await send_candidate(IceCandidate("candidate:1", "0", 0))
        await send_candidate(IceCandidate(None, "0", 0))
        self.is_open = True

    async def restart_ice(
        self, exchange: Callable[[IceDescription], Awaitable[IceDescription]]
    ) -> None:
        await exchange(IceDescription("user", "password"))
        if not self._can_restart:
            raise ConnectionFailed("no other path")
        self.revive()

    def send(self, packet: RtpPacket) -> None:
        self.sent.append(packet)
        if not self.is_dead:
            self.highest_reported = packet.sequence

    def send_again(self, packet: RtpPacket) -> None:
        self.sent_again.append(packet)

    async def close(self, *, tell_server: bool = True) -> None:
        self.closed.append(tell_server)
        self.is_open = False


class FakeClientTransport:
    """Opens the connections of a script; the last one is returned repeatedly."""

    def __init__(self, *connections: FakeClientConnection) -> None:
        self._script = list(connections)
        self.opened: list[FakeClientConnection] = []

    def open(self) -> FakeClientConnection:
        self.opened.append(self._script.pop(0) if len(self._script) > 1 else self._script[0])
        return self.opened[-1]
