"""A client that leaves encoding to aiortc: its `RTCRtpSender`, fed with frames of a tone.

``python -m benchmarks.peers.aiortc_client URL`` streams until it is killed.
"""

from __future__ import annotations

import asyncio
import fractions
import sys
import time

import aiohttp
import av
import numpy as np
from aiortc import MediaStreamTrack, RTCConfiguration, RTCPeerConnection, RTCSessionDescription

from tests.rigs.loopback import loopback_for_aiortc

RATE, FRAME = 48_000, 960


class Tone(MediaStreamTrack):
    """The tone of `gapless stream --capture tone`, near enough: 20 ms frames in real time."""

    kind = "audio"

    def __init__(self) -> None:
        super().__init__()
        self._began = time.monotonic()
        self._position = 0

    async def recv(self) -> av.AudioFrame:
        due = self._began + self._position / RATE
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        place = np.arange(self._position, self._position + FRAME)
        wave = np.rint(8000 * np.sin(2 * np.pi * 440 * place / RATE)).astype("<i2")
        frame = av.AudioFrame.from_ndarray(wave.reshape(1, -1), format="s16", layout="mono")
        frame.sample_rate, frame.pts = RATE, self._position
        frame.time_base = fractions.Fraction(1, RATE)
        self._position += FRAME
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
