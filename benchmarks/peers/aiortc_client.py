"""Streams our test tone with aiortc's `RTCRtpSender`, which encodes it.

``python -m benchmarks.peers.aiortc_client URL`` streams until it is killed.
"""

from __future__ import annotations

import asyncio
import fractions
import sys
import time

import aiohttp
import av
from aiortc import MediaStreamTrack, RTCConfiguration, RTCPeerConnection, RTCSessionDescription

from adapters.capture.paced import tone
from domain.sound.formats import AudioFormat
from tests.rigs.loopback import loopback_for_aiortc
from tests.rigs.sound import FRAME, RATE

TIME_BASE = fractions.Fraction(1, RATE)


class Tone(MediaStreamTrack):
    """The tone of `gapless stream --capture tone`, in frames for aiortc."""

    kind = "audio"

    def __init__(self) -> None:
        super().__init__()
        self._tone = tone(AudioFormat(RATE, 1)).reshape(1, -1)  # a whole number of frames
        self._position = 0
        self._started = 0.0

    async def recv(self) -> av.AudioFrame:
        if not self._position:
            self._started = time.monotonic()
        start = self._position % self._tone.shape[1]
        frame = av.AudioFrame.from_ndarray(
            self._tone[:, start : start + FRAME], format="s16", layout="mono"
        )
        frame.sample_rate, frame.pts, frame.time_base = RATE, self._position, TIME_BASE
        self._position += FRAME
        await asyncio.sleep(self._started + self._position / RATE - time.monotonic())
        return frame


async def stream(url: str) -> None:
    peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    peer.addTransceiver(Tone(), direction="sendonly")
    await peer.setLocalDescription(await peer.createOffer())
    offer = {"sdp": peer.localDescription.sdp, "type": "offer"}
    async with aiohttp.ClientSession() as http, http.post(f"{url}/offer", json=offer) as response:
        answer = await response.json()
    connected = asyncio.Event()

    @peer.on("connectionstatechange")
    def changed() -> None:
        if peer.connectionState == "connected":
            connected.set()

    await peer.setRemoteDescription(RTCSessionDescription(answer["sdp"], "answer"))
    await connected.wait()
    print("connected", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    with loopback_for_aiortc():
        asyncio.run(stream(sys.argv[1]))
