"""Streams through a bad network, judged by the log of the network."""

from __future__ import annotations

import asyncio
import tempfile
import time
from dataclasses import dataclass
from typing import Any

import soundfile
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.contrib.media import MediaRecorder

from adapters.storage.memory import MemoryStore, StoredRecording
from domain.ports.signaling import ClientConnection
from domain.session.ice import IceCandidate
from tests.rigs.clients import Local, new_packetizer
from tests.rigs.loopback import loopback_for_aiortc
from tests.rigs.relay import Log, Plan, Relay
from tests.rigs.sound import FRAME


async def send(connection: ClientConnection, packets: list[bytes]) -> None:
    """In real time, as a microphone would."""
    began, packetizer = time.monotonic(), new_packetizer()
    for index, payload in enumerate(packets):
        await asyncio.sleep(max(0.0, began + index * 0.02 - time.monotonic()))
        connection.send(packetizer.packet(payload, index * FRAME))


async def no_candidates(_candidate: IceCandidate) -> None:
    """The relay is the only way; the server learns it from the checks."""


@dataclass(frozen=True)
class Outcome:
    """A stream's log, and what was made of it."""

    log: Log
    stored: StoredRecording

    @property
    def length(self) -> int:
        return len(self.stored.samples)

    @property
    def expected_length(self) -> int:
        """From the first packet that came to the last."""
        delivered = self.log.delivered
        return (delivered[-1] - delivered[0] + 1) * FRAME

    @property
    def kinds(self) -> list[str]:
        """The kind of each packet's time, from the first that came to the last."""
        kinds: list[str] = []
        for span in self.stored.ledger["spans"]:
            assert span["start"] % FRAME == 0 or span["kind"] != "received"
            kinds += [span["kind"]] * span["length"]
        per_packet = [set(kinds[at : at + FRAME]) for at in range(0, len(kinds), FRAME)]
        return ["+".join(sorted(found)) for found in per_packet]

    @property
    def received(self) -> list[int]:
        """Indexes of the packets whose time is `received`."""
        first = self.log.delivered[0]
        return [first + at for at, kind in enumerate(self.kinds) if kind == "received"]

    def share(self, kind: str) -> float:
        spans = self.stored.ledger["spans"]
        return sum(s["length"] for s in spans if s["kind"] == kind) / self.length


async def through(
    server: Local, packets: list[bytes], plan: Plan, connected: asyncio.Barrier | None = None
) -> Outcome:
    """One stream through one relay into `server`, whose store is in memory.

    It begins when all are `connected` that are waited for.
    """
    relay = Relay(plan)
    connection = server.open_connection()
    status, answer = await server.post("/offer", sdp=connection.offer_sdp, type="offer")
    assert status == 200, answer
    try:
        await connection.connect(
            await relay.intercept(answer["sdp"]), ice_servers=(), send_candidate=no_candidates
        )
        if connected is not None:
            await connected.wait()
        await send(connection, packets)
        await asyncio.sleep(1.0)  # what the network still holds back
        await connection.close()
        # a goodbye takes the same way, but who hears it first does not matter
        async with server.http.delete(f"{server.url}/sessions/{answer['id']}") as response:
            assert response.status in (204, 404)
    finally:
        relay.close()
    store: MemoryStore = server.container.store()
    while True:
        for stored in store.recordings.values():
            if stored.info.id == answer["id"]:
                return Outcome(relay.log, stored)
        await asyncio.sleep(0.02)


async def media_recorder(server: Local, packets: list[bytes], plan: Plan) -> float:
    """The same stream into aiortc's `MediaRecorder`; seconds of its file."""
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/recording.wav"
        recorder = MediaRecorder(path)
        peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))

        @peer.on("track")
        def on_track(track: Any) -> None:
            recorder.addTrack(track)

        relay = Relay(plan)
        connection = server.open_connection()
        try:
            offer = RTCSessionDescription(sdp=connection.offer_sdp, type="offer")
            await peer.setRemoteDescription(offer)
            with loopback_for_aiortc():
                await peer.setLocalDescription(await peer.createAnswer())
            await recorder.start()
            answer = await relay.intercept(peer.localDescription.sdp)
            await connection.connect(answer, ice_servers=(), send_candidate=no_candidates)
            await send(connection, packets)
            await asyncio.sleep(1.0)  # what the network still holds back
            await connection.close()
            await recorder.stop()
        finally:
            relay.close()
            await peer.close()
        return float(soundfile.info(path).duration)
