"""Streams over a bad network, and compares the recording with the network's log."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import soundfile
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.contrib.media import MediaRecorder

from adapters.storage.memory import MemoryRecording, MemoryStore
from domain.ports.signaling import ClientConnection
from domain.rtp.retransmission import SentPackets
from domain.session.ice import IceCandidate
from tests.rigs.clients import Local, new_packetizer
from tests.rigs.loopback import loopback_for_aiortc
from tests.rigs.relay import Log, Plan, Relay
from tests.rigs.sound import FRAME


async def send(
    connection: ClientConnection, packets: list[bytes], *, answers_requests: bool = False
) -> None:
    """Send packets in real time, as a microphone would."""
    began, packetizer, sent = time.monotonic(), new_packetizer(), SentPackets()

    def requested(sequences: Sequence[int]) -> None:
        for packet in sent.requested(sequences, now=time.monotonic()):
            connection.send_again(packet)

    if answers_requests:
        connection.on_requested = requested
    for index, payload in enumerate(packets):
        await asyncio.sleep(max(0.0, began + index * 0.02 - time.monotonic()))
        packet = packetizer.packet(payload, index * FRAME)
        sent.add(packet)
        connection.send(packet)


async def no_candidates(_candidate: IceCandidate) -> None:
    """Send no candidates: the relay is the only path, and the server learns it from ICE checks."""


@dataclass(frozen=True)
class Outcome:
    """The network's log of a stream, and its recording."""

    log: Log
    stored: MemoryRecording

    @property
    def length(self) -> int:
        return len(self.stored.samples)

    @property
    def expected_length(self) -> int:
        """Samples from the first delivered packet to the end of the last."""
        delivered = self.log.delivered
        return (delivered[-1] - delivered[0] + 1) * FRAME

    @property
    def kinds(self) -> list[str]:
        """The kind recorded for each packet, from the first delivered to the last."""
        kinds: list[str] = []
        for span in self.stored.ledger["spans"]:
            assert span["start"] % FRAME == 0 or span["kind"] != "received"
            kinds += [span["kind"]] * span["length"]
        per_packet = [set(kinds[at : at + FRAME]) for at in range(0, len(kinds), FRAME)]
        return ["+".join(sorted(found)) for found in per_packet]

    @property
    def received(self) -> list[int]:
        """Indexes of the packets that are recorded as `received`."""
        first = self.log.delivered[0]
        return [first + at for at, kind in enumerate(self.kinds) if kind == "received"]

    def share(self, kind: str) -> float:
        spans = self.stored.ledger["spans"]
        return sum(s["length"] for s in spans if s["kind"] == kind) / self.length


async def through(
    server: Local,
    packets: list[bytes],
    plan: Plan | Relay,
    connected: asyncio.Barrier | None = None,
    *,
    answers_requests: bool = False,
) -> Outcome:
    """Stream through a relay into `server`, whose store is in memory.

    The stream begins when all parties of the barrier `connected` have arrived. The client sends
    packets again on request if it `answers_requests`.
    """
    relay = plan if isinstance(plan, Relay) else Relay(plan)
    connection = server.open_connection()
    status, answer = await server.post("/offer", sdp=connection.offer_sdp, type="offer")
    assert status == 200, answer
    try:
        await connection.connect(
            await relay.intercept(answer["sdp"]), ice_servers=(), send_candidate=no_candidates
        )
        if connected is not None:
            await connected.wait()
        await send(connection, packets, answers_requests=answers_requests)
        await asyncio.sleep(1.5)  # for packets that the network delays, or that are sent again
        await connection.close()
        # the close alert travels over the same path; either one may end the session
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
    """Stream into aiortc's `MediaRecorder`, and return the length of its file in seconds."""
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
            await asyncio.sleep(1.0)  # for packets that the network delays
            await connection.close()
            await recorder.stop()
        finally:
            relay.close()
            await peer.close()
        return float(soundfile.info(path).duration)
