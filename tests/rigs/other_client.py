"""A client that somebody else has made, from the documented requests and stock libraries only.

aiortc sends the sound and encodes it, aiohttp and soundfile send what was lost. Nothing here may
import Gapless itself.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import random
import re
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import aiohttp
import numpy as np
import numpy.typing as npt
import soundfile
from aiortc import MediaStreamTrack, RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError
from av import AudioFrame

from tests.rigs.relay import Log, Plan, Relay

TICKS_HZ = 48_000
FRAME = 960
_WAIT_S = 20.0


def waveform(rate_hz: int, start: int, length: int) -> npt.NDArray[np.float64]:
    """Return a sound that never repeats, between -1 and 1, at any rate."""
    chance = np.random.default_rng(5)
    time = (start + np.arange(length)) / rate_hz
    sound = np.zeros(length)
    for _ in range(24):
        pitch, phase, swell = chance.uniform(150, 5000), chance.uniform(0, 6), chance.uniform(1, 5)
        sound += np.sin(2 * np.pi * pitch * time + phase) * np.sin(2 * np.pi * swell * time + phase)
    return np.asarray(sound / 24, dtype=np.float64)


@dataclass
class Spool:
    """What the client has captured: whole numbers, shape (length, channels)."""

    samples: npt.NDArray[np.int32]
    rate_hz: int = TICKS_HZ
    bits: int = 16

    @classmethod
    def of(
        cls, seconds: float, *, rate_hz: int = TICKS_HZ, bits: int = 16, channels: int = 1
    ) -> Spool:
        sound = waveform(rate_hz, 0, round(seconds * rate_hz)) * (2 ** (bits - 1) - 1)
        mixed = np.stack([sound / (1 + channel) for channel in range(channels)], axis=1)
        return cls(np.round(mixed).astype(np.int32), rate_hz, bits)

    @property
    def length(self) -> int:
        return len(self.samples)

    @property
    def channels(self) -> int:
        return int(self.samples.shape[1])

    def pcm(self) -> bytes:
        """Return the samples as a WAV file has them."""
        octets = self.samples.astype("<i4").reshape(-1, 1).view(np.uint8)
        return octets[:, : self.bits // 8].tobytes()

    def sha256(self) -> str:
        return hashlib.sha256(self.pcm()).hexdigest()

    def flac(self, start: int, length: int) -> bytes:
        piece = self.samples[start : start + length] << (32 - self.bits)
        file = io.BytesIO()
        soundfile.write(file, piece, self.rate_hz, format="FLAC", subtype=f"PCM_{self.bits}")
        return file.getvalue()

    def without(self, missing: Iterable[tuple[int, int]]) -> Spool:
        samples = self.samples.copy()
        for start, length in missing:
            samples[start : start + length] = 0
        return Spool(samples, self.rate_hz, self.bits)

    def description(self, rtp_timestamp: int = 0, **more: Any) -> dict[str, Any]:
        return {
            "rtp_timestamp": rtp_timestamp % 2**32,
            "sample_rate_hz": self.rate_hz,
            "channels": self.channels,
            "sample_format": f"s{self.bits}",
        } | more


class KnownSound(MediaStreamTrack):
    """A track that plays `waveform` from a position (in ticks) on, as a microphone would."""

    kind = "audio"

    def __init__(self, start: int, length: int) -> None:
        super().__init__()
        self._start = start
        self._length = length
        self._sent = 0
        self._began: float | None = None
        self.ended = asyncio.Event()

    async def recv(self) -> AudioFrame:
        loop = asyncio.get_running_loop()
        if self._began is None:
            self._began = loop.time()
        if self._sent >= self._length:
            self.ended.set()
            raise MediaStreamError
        await asyncio.sleep(max(0.0, self._began + self._sent / TICKS_HZ - loop.time()))
        sound = waveform(TICKS_HZ, self._start + self._sent, FRAME) * 32_767
        frame = AudioFrame.from_ndarray(
            np.round(sound).astype(np.int16).reshape(1, -1), format="s16", layout="mono"
        )
        frame.sample_rate = TICKS_HZ
        frame.pts = self._sent
        self._sent += FRAME
        return frame


@contextmanager
def timestamps_from(first: int) -> Iterator[None]:
    """Let the senders that begin now number their first frame so; otherwise nobody could know."""
    with mock.patch("aiortc.rtcrtpsender.random32", return_value=first):
        yield


@dataclass(frozen=True)
class Answer:
    status: int
    body: Any
    headers: Mapping[str, str]


def digest(body: bytes) -> str:
    return f"sha-256=:{base64.b64encode(hashlib.sha256(body).digest()).decode()}:"


@dataclass
class OtherClient:
    """One session of the client."""

    url: str
    http: aiohttp.ClientSession
    spool: Spool
    more: dict[str, Any] = field(default_factory=dict)
    """What its offer says of the spool besides."""
    token: str | None = None
    """The shared token of the server, if it has one."""
    id: str = ""
    resume: str = ""
    log: Log = field(default_factory=Log)
    first_timestamps: list[int] = field(default_factory=list)

    async def ask(
        self, method: str, path: str, *, bearer: str | None = None, **sent: Any
    ) -> Answer:
        headers = dict(sent.pop("headers", {}))
        if bearer is not None:
            headers["Authorization"] = f"Bearer {bearer}"
        async with self.http.request(method, self.url + path, headers=headers, **sent) as response:
            content = await response.read()
            body = await response.json() if content else None
            return Answer(response.status, body, response.headers)

    async def offer(self, connection: RTCPeerConnection, spool: Any) -> Answer:
        await connection.setLocalDescription(await connection.createOffer())
        # without candidates of its own: the server could reach them beside the relay
        sdp = re.sub(r"a=(candidate:.*|end-of-candidates)\r\n", "", connection.localDescription.sdp)
        body = {"sdp": sdp, "type": "offer", "name": "other", "spool": spool}
        if self.resume:
            body["resume"] = self.resume
        answer = await self.ask("POST", "/offer", bearer=self.token, json=body)
        if answer.status == 200:
            self.id, self.resume = answer.body["id"], answer.body["resume"]
        return answer

    async def begin_without_media(self) -> None:
        """Open a session, and end it without a packet."""
        async with connection_with(KnownSound(0, 0)) as connection:
            answer = await self.offer(connection, self.spool.description(0, **self.more))
            assert answer.status == 200, answer
            await self.end()

    async def send(self, start: int, seconds: float, plan: Plan, *, vanish: bool = False) -> None:
        """Send what was captured from a position (in ticks) on, over a connection of its own.

        The connection is closed afterwards; with `vanish`, the server does not hear of that.
        """
        first = random.getrandbits(32)
        self.first_timestamps.append(first)
        track = KnownSound(start, round(seconds * TICKS_HZ))
        relay = Relay(plan, Log(), again=lambda _: [])
        with timestamps_from(first):
            async with connection_with(track) as connection:
                spool = self.spool.description(first - start, **self.more)
                answer = await self.offer(connection, spool)
                assert answer.status == 200, answer
                sdp = await relay.intercept(answer.body["sdp"])
                await connection.setRemoteDescription(RTCSessionDescription(sdp, "answer"))
                async with asyncio.timeout(_WAIT_S + seconds):
                    await track.ended.wait()
                relay.is_blackhole = vanish
        self.log = relay.log
        assert relay.log.sent[0][1] == first
        relay.close()

    async def end(self) -> None:
        answer = await self.ask("DELETE", f"/sessions/{self.id}", bearer=self.resume)
        assert answer.status == 204, answer

    # -- restoring -----------------------------------------------------------------------------

    async def wanted(self) -> Answer:
        return await self.ask("GET", f"/sessions/{self.id}/wanted", bearer=self.resume)

    async def put(self, start: Any, flac: Any, **changed: str | None) -> Answer:
        """Send a piece; headers are named with underscores, and None leaves one out."""
        given: dict[str, str | None] = {"Content_Type": "audio/flac"}
        if isinstance(flac, bytes):
            given["Content_Digest"] = digest(flac)
        bearer = changed.pop("bearer", self.resume)
        headers = {
            name.replace("_", "-"): value
            for name, value in (given | changed).items()
            if value is not None
        }
        path = f"/sessions/{self.id}/sound/{start}"
        body = io.BytesIO(flac) if isinstance(flac, bytes) else flac
        return await self.ask("PUT", path, bearer=bearer, data=body, headers=headers)

    async def captured(self, spool: Spool | None = None, **changed: Any) -> Answer:
        told = self.spool if spool is None else spool
        body = {"length": told.length, "sha256": told.sha256()} | changed
        return await self.ask(
            "POST", f"/sessions/{self.id}/captured", bearer=self.resume, json=body
        )

    async def deliver(self, *, longest: int = 48_000) -> Answer:
        """Send what is wanted until the server has it; return its last word."""
        async with asyncio.timeout(_WAIT_S):
            while True:
                answer = await self.captured()
                if answer.status == 200 and answer.body["sha256"] is not None:
                    return answer
                assert answer.status in (200, 409), answer
                for item in answer.body.get("ranges", []):
                    for start, length in pieces_of(item, longest):
                        put = await self.put(start, self.spool.flac(start, length))
                        assert put.status == 204, put


def pieces_of(item: Mapping[str, int], longest: int) -> list[tuple[int, int]]:
    end = item["start"] + item["length"]
    return [(at, min(longest, end - at)) for at in range(item["start"], end, longest)]


@asynccontextmanager
async def connection_with(track: MediaStreamTrack) -> AsyncIterator[RTCPeerConnection]:
    connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    connection.addTrack(track)
    try:
        yield connection
    finally:
        await connection.close()


@asynccontextmanager
async def other_client(url: str, spool: Spool, **more: Any) -> AsyncIterator[OtherClient]:
    async with aiohttp.ClientSession() as http:
        yield OtherClient(url, http, spool, more)
