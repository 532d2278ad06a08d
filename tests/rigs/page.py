"""A page that records beside what it sends, from the documented requests and stock libraries.

It captures all the time, like an AudioContext, and does not know the RTP timestamps of what its
connection sends. It speaks WHIP.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import numpy as np
from aiortc import MediaStreamTrack, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError
from av import AudioFrame

from tests.rigs.other_client import (
    FRAME,
    TICKS_HZ,
    Answer,
    OtherClient,
    Spool,
    connection_with,
)
from tests.rigs.relay import Log, Plan, Relay
from tests.rigs.sound import speech

_WAIT_S = 30.0


class Clock:
    """The AudioContext: tells how much was captured by now."""

    def __init__(self, offset: int = 0) -> None:
        self._began = asyncio.get_running_loop().time()
        self._offset = offset

    @property
    def position(self) -> int:
        passed = asyncio.get_running_loop().time() - self._began
        return self._offset + round(passed * TICKS_HZ)

    async def wait_for(self, position: int) -> None:
        await asyncio.sleep(max(0.0, (position - self.position) / TICKS_HZ))


class Microphone(MediaStreamTrack):
    """What is sent: each frame when it is captured, from the first one that is asked for."""

    kind = "audio"

    def __init__(self, spool: Spool, clock: Clock) -> None:
        super().__init__()
        self._spool = spool
        self._clock = clock
        self.first = -1
        """Where the first frame begins in the spool."""
        self.next = -1
        """The end of the last frame."""

    async def recv(self) -> AudioFrame:
        if self.first < 0:
            self.first = self.next = self._clock.position
        await self._clock.wait_for(self.next + FRAME)
        samples = self._spool.samples[self.next : self.next + FRAME]
        if len(samples) < FRAME:
            raise MediaStreamError
        frame = AudioFrame.from_ndarray(
            samples.astype(np.int16).reshape(1, -1), format="s16", layout="mono"
        )
        frame.sample_rate = TICKS_HZ
        frame.pts = self.next - self.first
        self.next += FRAME
        return frame


@dataclass
class Page(OtherClient):
    """One session of a page; its clock goes on whatever happens to its connections."""

    missing: list[tuple[int, int]] = field(default_factory=list)
    """What it has not captured, or not written."""
    microphones: list[Microphone] = field(default_factory=list)
    errors: list[int] = field(default_factory=list)
    """By how many samples each position was told wrong."""

    def __post_init__(self) -> None:
        self.clock = Clock()

    async def publish(self, sdp: str, error: int = 0) -> Answer:
        """Send an offer."""
        description = self.spool.description(0, **self.more)
        del description["rtp_timestamp"]
        description["position"] = self.clock.position + error
        headers = {"Content-Type": "application/sdp", "Gapless-Spool": json.dumps(description)}
        if self.resume:
            headers["Gapless-Resume"] = self.resume
        async with self.http.post(f"{self.url}/whip", data=sdp, headers=headers) as answered:
            answer = Answer(answered.status, await answered.text(), answered.headers)
        if answer.status == 201:
            self.id = answer.headers["Gapless-Session"]
            self.resume = answer.headers["Location"].rpartition("/")[2]
        self.errors.append(error)
        return answer

    async def send_for(
        self, seconds: float, plan: Plan, *, error: int = 0, vanish: bool = False
    ) -> None:
        """Send what is captured meanwhile, over a connection of its own."""
        microphone = Microphone(self.spool, self.clock)
        self.microphones.append(microphone)
        relay = Relay(plan, Log(), again=lambda _: [])
        async with connection_with(microphone) as connection:
            await connection.setLocalDescription(await connection.createOffer())
            answer = await self.publish(connection.localDescription.sdp, error)
            assert answer.status == 201, answer
            sdp = await relay.intercept(answer.body)
            await connection.setRemoteDescription(RTCSessionDescription(sdp, "answer"))
            async with asyncio.timeout(_WAIT_S + seconds):
                while microphone.next < microphone.first + seconds * TICKS_HZ:
                    await asyncio.sleep(0.02)
            relay.is_blackhole = vanish
        relay.close()

    async def reload(self, seconds: float, *, unwritten: float = 0.0) -> None:
        """Close the page and open it again; its last sound is not in the spool."""
        end = self.microphones[-1].next - round(unwritten * TICKS_HZ)
        await asyncio.sleep(seconds)
        self.missing.append((end, self.clock.position - end))

    def stop(self) -> None:
        """Capture no more."""
        length = min(self.clock.position, self.spool.length)
        shorter = Spool(self.spool.samples[:length], self.spool.rate_hz, self.spool.bits)
        self.spool = shorter.without(self.missing)

    async def captured(self, spool: Spool | None = None, **changed: Any) -> Answer:
        told = [{"start": start, "length": length} for start, length in self.missing]
        return await super().captured(spool, **({"missing": told} | changed))


@asynccontextmanager
async def page_at(url: str, seconds: float, **more: Any) -> AsyncIterator[Page]:
    """Open a page that captures speech from now on, for so long at most."""
    async with aiohttp.ClientSession() as http:
        yield Page(url, http, Spool(speech(seconds).astype(np.int32)), more)
