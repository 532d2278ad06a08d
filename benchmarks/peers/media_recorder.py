"""Runs aiortc's `MediaRecorder`, the usual choice in Python, behind an ``/offer`` handler.

``python -m benchmarks.peers.media_recorder FOLDER`` prints its address and records every offer.
"""

from __future__ import annotations

import asyncio
import pathlib
import sys
from typing import Any

from aiohttp import web
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.contrib.media import MediaRecorder

from benchmarks.peers.signaling import answer, listen
from tests.rigs.loopback import loopback_for_aiortc


async def serve(folder: pathlib.Path) -> None:
    peers: dict[str, tuple[RTCPeerConnection, MediaRecorder]] = {}

    async def offer(request: web.Request) -> web.Response:
        body = await request.json()
        number = str(len(peers))
        peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        recorder = MediaRecorder(str(folder / f"{number}.wav"))
        peers[number] = (peer, recorder)

        @peer.on("track")
        def on_track(track: Any) -> None:
            recorder.addTrack(track)

        await peer.setRemoteDescription(RTCSessionDescription(body["sdp"], "offer"))
        await peer.setLocalDescription(await peer.createAnswer())
        await recorder.start()
        return answer(peer.localDescription.sdp, number)

    async def ice_candidate(_request: web.Request) -> web.Response:
        return web.Response(status=204)  # aiortc learns the client's address from ICE checks

    async def end(request: web.Request) -> web.Response:
        peer, recorder = peers[request.match_info["id"]]
        await recorder.stop()
        await peer.close()
        return web.Response(status=204)

    await listen(offer=offer, ice_candidate=ice_candidate, end=end)


if __name__ == "__main__":
    with loopback_for_aiortc():
        asyncio.run(serve(pathlib.Path(sys.argv[1])))
