"""Well-behaved sessions: they come, stream over a lossy network, go, and check their recording."""

from __future__ import annotations

import asyncio
import json
import pathlib
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import soundfile

from adapters.codec.libopus import OpusDecoder
from domain.errors import GaplessError
from domain.recording.verification import Limits, verify
from domain.rtp.retransmission import SentPackets
from domain.sound.formats import AudioFormat
from entrypoints.container import ToolsContainer
from tests.rigs.clients import Remote
from tests.rigs.fidelity import no_candidates
from tests.rigs.rebinding import Streaming
from tests.rigs.relay import Relay, random_loss
from tests.rigs.sound import RATE

FRAME_MS = 60
DRAIN_S = 2.5
"""Longer than the server waits for retransmissions."""
RETRIES = 5
IN_TIME_S = 0.7
"""A retransmission that is this long behind the next packet is in time, since the server
holds that one back for a second."""
MAX_LATE_S = 0.5
"""A session that this process has held up for longer proves nothing: it is no microphone."""
LIKENESS = 0.9
"""Correlation of what was recorded with what was sent, where all of it was received."""
_ANY = Limits(recovered=1.0, concealed=1.0, silence=1.0, gap_s=float("inf"))


@dataclass
class Outcomes:
    """What has become of all sessions."""

    whole: int = 0
    broken: list[str] = field(default_factory=list)
    disturbed: int = 0
    """Sessions whose sender or network was held up by a busy machine, and that were not whole."""
    retried: int = 0
    """Requests that were refused with 429 or 503, and repeated."""
    seconds: float = 0.0
    lost_by_network: int = 0
    """Packets that no retransmission brought either."""
    packets: int = 0

    @property
    def count(self) -> int:
        return self.whole + self.disturbed + len(self.broken)


class Visitor(Streaming):
    """One session behind a relay that loses packets of both directions."""

    def __init__(self, server: Remote, *, loss: float, seed: int) -> None:
        super().__init__(server, frame_ms=FRAME_MS)
        self._loses = random_loss(loss, seed=seed)
        self._is_at_an_end = False
        self.relay = Relay(self._plan, again=random_loss(loss, seed=seed + 1), back=self._loses)
        self._kept = SentPackets()
        self.late_s = 0.0
        """By how much a packet was late at most."""
        # each begins elsewhere, so that one recording is not taken for another
        first = seed % len(self.packets)
        self.packets = self.packets[first:] + self.packets[:first]

    def _plan(self, index: int) -> list[float]:
        """Lose neither the beginning nor the end, of which nobody can say what it should be."""
        return [0.0] if index < 3 or self._is_at_an_end else self._loses(index)

    async def connect(self, answer: str) -> None:
        intercepted = await self.relay.intercept(answer)
        await self.connection.connect(intercepted, ice_servers=(), send_candidate=no_candidates)

    def _requested(self, sequences: Sequence[int]) -> None:
        for packet in self._kept.requested(sequences, now=time.monotonic()):
            self.connection.send_again(packet)

    async def stream(self, seconds: float) -> None:
        self.connection.on_requested = self._requested
        loop = asyncio.get_running_loop()
        count, frame_s = round(seconds / (FRAME_MS / 1000)), FRAME_MS / 1000
        began = loop.time()
        for number in range(count):
            due = began + number * frame_s
            await asyncio.sleep(max(0.0, due - loop.time()))
            self.late_s = max(self.late_s, loop.time() - due)
            self._is_at_an_end = number > count - 3
            payload = self.packets[self.sent % len(self.packets)]
            made = self.packetizer.packet(payload, self.sent * self.frame)
            packet = replace(made, captured_s=due)
            self._kept.add(packet)
            self.connection.send(packet)
            self.sent += 1
        await asyncio.sleep(DRAIN_S)

    async def end(self) -> int:
        """End the session; return the status."""
        url = f"{self.server.url}/sessions/{self.id}"
        headers = {"Authorization": f"Bearer {self.resume}"}
        async with self.server.http.delete(url, headers=headers) as response:
            return response.status

    async def leave(self) -> None:
        await self.connection.close()
        self.relay.close()

    def _lost_by_network(self) -> int:
        """How many packets were lost each time they were sent, or came too late."""
        log = self.relay.log
        lost, behind = len(log.dropped), float("inf")
        for index in range(len(log.sent) - 1, -1, -1):
            if (arrived := log.arrivals.get(index)) is not None:
                lost += arrived > behind + IN_TIME_S
                behind = min(behind, arrived)
        return lost

    def source(self) -> np.ndarray:
        """What was sent, decoded without a loss."""
        decoder = OpusDecoder(AudioFormat(RATE, 1))
        for number in range(self.sent):
            decoder.decode(self.packets[number % len(self.packets)])
        return np.concatenate([np.asarray(item) for item in decoder.collect()])[:, 0]

    def judge(self, folder: pathlib.Path) -> list[str]:
        """Return what is wrong with the recording, and remove it if nothing is."""
        wrong, found = [], sorted(folder.glob(f"*{self.id}*.json"))
        if len(found) != 1:
            return [f"{len(found)} recordings"]
        ledger = json.loads(found[0].read_text())
        sound = found[0].with_suffix(".wav")
        verdict = verify(ToolsContainer().inspector().inspect(str(sound), None), _ANY)
        wrong += verdict.problems
        length, sent = ledger["length_samples"], self.sent * self.frame
        if length != sent:
            wrong.append(f"{(length - sent) / RATE:+.2f} s long")
        received = sum(s["length"] for s in ledger["spans"] if s["kind"] == "received")
        missing = length - received - self._lost_by_network() * self.frame
        if missing > 0:
            wrong.append(f"{missing / RATE:.2f} s missing that the network has delivered")
        if ledger["end_reason"] != "deleted":
            wrong.append(f"ended: {ledger['end_reason']}")
        if length == sent and (likeness := self._likeness(sound, ledger)) < LIKENESS:
            wrong.append(f"likeness {likeness:.2f}")
        if not wrong:
            for path in (found[0], sound):
                path.unlink()
        return wrong

    def _likeness(self, sound: pathlib.Path, ledger: dict[str, Any]) -> float:
        """The least correlation of any second, of the samples that were received."""
        recorded, source = soundfile.read(sound, dtype="int16")[0], self.source()
        is_received = np.zeros(len(recorded), dtype=bool)
        for span in ledger["spans"]:
            if span["kind"] == "received":
                # a decoder needs some packets after a loss to be what it would have been
                begin = span["start"] + (6 * self.frame if span["start"] else 0)
                is_received[begin : span["start"] + span["length"]] = True
        least = 1.0
        for start in range(0, len(recorded) - RATE + 1, RATE):
            chosen = is_received[start : start + RATE]
            one = recorded[start : start + RATE][chosen].astype(float)
            other = source[start : start + RATE][chosen].astype(float)
            if len(one) > RATE // 4 and (power := np.sqrt((one @ one) * (other @ other))):
                least = min(least, float(one @ other / power))
        return least


async def visit(
    server: Remote, folder: pathlib.Path, outcomes: Outcomes, *, loss: float, chance: random.Random,
    longest_s: float,
) -> None:  # fmt: skip
    """Hold one session from its offer to the verdict on its recording."""
    visitor = Visitor(server, loss=loss, seed=chance.randrange(1 << 30))
    step = "offer"
    try:
        await _admitted(visitor, outcomes)
        step = "stream"
        await visitor.stream(chance.uniform(min(4.0, longest_s), longest_s))
        step = "end"
        if (status := await visitor.end()) != 204:
            raise GaplessError(f"DELETE answered with {status}")
        step = "verdict"
        problems = await asyncio.to_thread(visitor.judge, folder)
    except Exception as error:
        problems = [f"{step}: {error!r}"[:150]]
    finally:
        await visitor.leave()
    outcomes.seconds += visitor.sent * visitor.frame / RATE
    outcomes.packets += visitor.sent
    outcomes.lost_by_network += len(visitor.relay.log.dropped)
    if problems and visitor.late_s > MAX_LATE_S:
        outcomes.disturbed += 1
    elif problems:
        outcomes.broken.append("; ".join(problems))
    else:
        outcomes.whole += 1


async def _admitted(visitor: Visitor, outcomes: Outcomes) -> None:
    """Make an offer and connect; a server may ask to come again later."""
    for number in range(RETRIES + 1):
        async with visitor.server.http.post(
            f"{visitor.server.url}/offer",
            json={"sdp": visitor.connection.offer_sdp, "type": "offer", "name": "visitor"},
        ) as response:
            if response.status == 200:
                body = await response.json()
                break
            if response.status not in (429, 503) or number == RETRIES:
                raise GaplessError(f"the offer was answered with {response.status}")
            outcomes.retried += 1
            await asyncio.sleep(float(response.headers.get("Retry-After", 1)))
    visitor.id, visitor.resume = body["id"], body["resume"]
    await visitor.connect(body["sdp"])
