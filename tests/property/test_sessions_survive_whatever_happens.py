"""A session through connections, restarts of its sender, and killed servers, against a model.

The model is a sender that speaks in real time, so that each sample belongs to a moment. A recording
must hold every delivered sample at its position, and silence everywhere else.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import itertools
import json
import pathlib
import shutil
import tempfile
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from adapters.storage.folder.store import FolderStore
from domain.rtp.packets import RtpPacket
from domain.services.server.answers import Accepted
from domain.services.server.sessions import SessionService
from domain.session.policy import SessionPolicy
from domain.session.turn import IceServerList
from tests.fakes.events import SeenByServer
from tests.fakes.media import (
    MAX_READ_DELAY_S,
    FakeConnection,
    FakeServerTransport,
    packet,
    plain_decoder,
)
from tests.fakes.restoring import restoring
from tests.fakes.time import FakeClock, Spawned

HOLD_S = 0.2
FRAME_S = 0.02
FRAME = 960
INACTIVITY_S = 30.0

pytestmark = pytest.mark.timeout(240)  # hundreds of steps, each with real files


class Life:
    """One server process."""

    def __init__(
        self, folder: pathlib.Path, clock: FakeClock, secrets: itertools.count[int]
    ) -> None:
        self.store = FolderStore(str(folder))
        self.store.check()
        self.transport, self.spawned, self.seen = FakeServerTransport(), Spawned(), SeenByServer()
        self.sessions = SessionService(
            policy=SessionPolicy(inactivity_timeout_s=INACTIVITY_S, reorder_hold_s=HOLD_S),
            ice_servers=IceServerList(),
            transport=self.transport,
            decoders=plain_decoder,
            store=self.store,
            clock=clock,
            spawner=self.spawned,
            events=self.seen,
            new_secret=lambda size: f"{next(secrets):0{size}x}",
            restoring=restoring(clock=clock, spawner=self.spawned, events=self.seen),
        )
        self.sessions.recover()

    def kill(self) -> None:
        """Write what the store has received, and complete nothing."""
        self.store.close()


def in_loop(step: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run a step of the model in its event loop."""

    @functools.wraps(step)
    def run(self: SessionModel, *args: Any, **kwargs: Any) -> None:
        self.runner.run(step(self, *args, **kwargs))

    return run


class SessionModel(RuleBasedStateMachine):
    """Does everything to a session that networks, senders and machines can do."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = pathlib.Path(tempfile.mkdtemp())
        self.clock = FakeClock()
        self.secrets = itertools.count(1)
        self.offers = itertools.count(1)
        self.life = Life(self.folder, self.clock, self.secrets)

    @initialize(first=st.integers(0, 2**16 - 1), timestamp=st.integers(0, 2**32 - 1))
    @in_loop
    async def open_session(self, first: int, timestamp: int) -> None:
        self.ssrc, self.sequence, self.timestamp = 1, first, timestamp
        await self.begin()

    async def begin(self) -> None:
        self.frames: dict[int, int] = {}  # expected value by position in the recording
        self.next = 0  # the next frame of the sender
        self.accepted = await self.offer()
        self.connection = self.latest
        self.send(2)

    async def offer(self, resume: str | None = None) -> Accepted:
        sdp = f"v=0 {next(self.offers)}"
        return await self.life.sessions.offer(sdp, name="", resume=resume)

    @property
    def latest(self) -> FakeConnection:
        return self.life.transport.connections[-1]

    # -- what the sender does ------------------------------------------------------------------

    def speak(self) -> int:
        """Speak the next frame, which takes its time."""
        frame, self.next = self.next, self.next + 1
        return frame

    def packet(self, frame: int) -> RtpPacket:
        return packet(frame, ssrc=self.ssrc, sequence=self.sequence, timestamp=self.timestamp)

    def deliver(self, connection: FakeConnection, frame: int) -> None:
        assert connection.sink is not None
        item = self.packet(frame)
        connection.sink.packets_received(0, [replace(item, arrived=self.clock.now)])

    def send(self, count: int) -> None:
        for _ in range(count):
            frame = self.speak()
            self.deliver(self.connection, frame)
            self.frames[frame] = frame
            self.clock.advance(FRAME_S)

    def let_go(self) -> None:
        """Let time pass until no packet waits for another."""
        for _ in range(4):
            self.clock.advance((HOLD_S + MAX_READ_DELAY_S) / 2)
            self.next += round((HOLD_S + MAX_READ_DELAY_S) / 2 / FRAME_S)
            self.life.sessions.tick()

    @rule(count=st.integers(1, 40))
    @in_loop
    async def sends(self, count: int) -> None:
        self.send(count)

    @rule(lost=st.integers(1, 20), sent=st.integers(1, 10))
    @in_loop
    async def loses_packets(self, lost: int, sent: int) -> None:
        for _ in range(lost):
            self.speak()
            self.clock.advance(FRAME_S)
        self.send(sent)

    @rule(order=st.permutations(range(6)), twice=st.integers(0, 5))
    @in_loop
    async def overtakes_and_repeats(self, order: list[int], twice: int) -> None:
        frames = [self.speak() for _ in order]
        for index in order:
            self.deliver(self.connection, frames[index])
            self.frames[frames[index]] = frames[index]
            self.clock.advance(FRAME_S)
        self.deliver(self.connection, frames[twice])

    # -- what networks and machines do ---------------------------------------------------------

    @rule(seconds=st.floats(0.1, 12.0))
    @in_loop
    async def outage(self, seconds: float) -> None:
        for _ in range(round(seconds / FRAME_S)):
            self.speak()
            self.clock.advance(FRAME_S)
        self.life.sessions.tick()
        self.send(1)

    @rule(
        first=st.integers(0, 2**16 - 1),
        timestamp=st.integers(0, 2**32 - 1),
        silent=st.integers(0, 100),
        reconnects=st.booleans(),
    )
    @in_loop
    async def sender_restarts(
        self, first: int, timestamp: int, silent: int, reconnects: bool
    ) -> None:
        """Begin another source with its own numbers, which the clock places."""
        self.send(15)
        for _ in range(silent):
            self.speak()
            self.clock.advance(FRAME_S)
        self.ssrc += 1
        self.sequence, self.timestamp = first, timestamp
        if reconnects:
            await self.offer(self.accepted.resume)
            self.connection = self.latest
        self.send(15)

    @rule(outage=st.integers(0, 200), unread=st.integers(0, 5), late=st.booleans())
    @in_loop
    async def reconnects(self, outage: int, unread: int, late: bool) -> None:
        """Let another connection take over; undelivered packets of the old one come first."""
        old = self.connection
        waiting = []
        for _ in range(unread):
            frame = self.speak()
            item = self.packet(frame)
            waiting.append(replace(item, arrived=self.clock.now))
            self.frames[frame] = frame
            self.clock.advance(FRAME_S)
        old.unread = waiting
        for _ in range(outage):
            self.speak()
            self.clock.advance(FRAME_S)
        again = await self.offer(self.accepted.resume)
        assert again.session_id == self.accepted.session_id
        self.connection = self.latest
        self.send(3)
        assert not old.unread
        if late:
            self.deliver(old, self.next - 1)  # packets of the old connection are ignored now

    @rule(down_s=st.floats(0.0, 10.0))
    @in_loop
    async def server_is_killed(self, down_s: float) -> None:
        self.send(3)  # the format is decided, and the file exists
        self.let_go()
        self.life.kill()
        for _ in range(round(down_s / FRAME_S)):
            self.speak()
            self.clock.advance(FRAME_S)
        self.life = Life(self.folder, self.clock, self.secrets)
        again = await self.offer(self.accepted.resume)
        assert again.session_id == self.accepted.session_id
        self.connection = self.latest
        self.send(3)
        self.let_go()

    @precondition(lambda self: self.next > 10)
    @rule(reason=st.sampled_from(["deleted", "closed", "inactive", "shutdown"]))
    @in_loop
    async def ends(self, reason: str) -> None:
        """Compare the recording with the model, and begin another session."""
        await self.end(reason)
        (path,) = self.folder.glob("*.wav")
        ledger = json.loads(path.with_suffix(".json").read_text())
        samples, _ = soundfile.read(path, dtype="int16")
        first, last = min(self.frames), max(self.frames)
        expected = np.zeros((last - first + 1) * FRAME, dtype="<i2")
        for frame, value in self.frames.items():
            start = (frame - first) * FRAME
            expected[start : start + FRAME] = value % 2**15
        np.testing.assert_array_equal(samples, expected)
        assert ledger["end_reason"] == reason
        assert ledger["length_samples"] == len(samples)
        received = sum(s["length"] for s in ledger["spans"] if s["kind"] == "received")
        assert received == len(self.frames) * FRAME
        for file in self.folder.iterdir():
            if not file.name.startswith("."):
                file.unlink()
        if reason == "shutdown":
            self.life.store.close()
            self.life = Life(self.folder, self.clock, self.secrets)
        await self.begin()

    async def end(self, reason: str) -> None:
        life = self.life
        if reason == "deleted":
            await life.sessions.delete(self.accepted.session_id)
        elif reason == "closed":
            assert self.connection.sink is not None
            self.connection.sink.connection_closed()
        elif reason == "inactive":
            self.clock.advance(INACTIVITY_S)
            life.sessions.tick()
            life.sessions.tick()
        else:
            await life.sessions.shut_down()
        await life.spawned.join()

    @invariant()
    def nothing_has_failed(self) -> None:
        assert self.life.seen.failures == []

    def teardown(self) -> None:
        self.life.store.close()
        self.runner.close()
        gc.collect()
        shutil.rmtree(self.folder)


SessionModel.TestCase.settings = settings(max_examples=40, stateful_step_count=20, deadline=None)
TestSessionModel = SessionModel.TestCase
