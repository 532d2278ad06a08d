"""Recordings are resumed from the disk repeatedly, with real files and a fake clock."""

from __future__ import annotations

import datetime
import json
import pathlib
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import soundfile

from adapters.storage.folder.part import PartOptions
from adapters.storage.folder.store import FolderStore
from domain.ports.storage import InterruptedRecording
from domain.recording.completed import CompletedRecording
from domain.recording.effects import EndReason
from domain.rtp.packets import RtpPacket
from domain.services.server.track_identity import TrackIdentity
from domain.services.server.track_processor import AudioTrackProcessor
from domain.session.policy import SessionPolicy
from tests.fakes.events import SeenByServer
from tests.fakes.media import OPUS, PCMU, packet, payload, plain_decoder
from tests.fakes.time import FakeClock

LONG_AGO = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)


class Process:
    """A server process with one session; when it is killed, it leaves its file unfinished."""

    def __init__(self, folder: pathlib.Path, clock: FakeClock, options: PartOptions) -> None:
        self.clock = clock
        self.store = FolderStore(str(folder), options)
        found = self.store.recover(resumable_since=LONG_AGO)
        self.processor = AudioTrackProcessor(
            TrackIdentity(session_id="s", resume_digest="digest"),
            SessionPolicy(),
            decoders=plain_decoder,
            store=self.store,
            clock=clock,
            events=SeenByServer(),
        )
        self.interrupted: InterruptedRecording | None = None
        number = 1
        if found.interrupted:
            (self.interrupted,) = found.interrupted
            self.processor.resume(self.interrupted)
            number += self.interrupted.connections
        self.processor.connect({111: OPUS, 0: PCMU}, number=number, now=clock.now)

    def receive(self, numbers: Iterator[int] | range, **changes: int) -> None:
        for n in numbers:
            self.processor.packets_received([replace(packet(n, **changes), arrived=self.clock.now)])
            self.processor.decode()
            self.processor.store()
            self.clock.advance(0.02)

    def kill(self) -> None:
        """Write what is queued (a real kill may lose it), and complete nothing."""
        self.processor.poll(now=float("inf"))
        self.processor.decode()
        self.processor.store()
        self.store.close()

    async def end(self) -> CompletedRecording:
        completed = await self.processor.end(EndReason.CLOSED, now=self.clock.now)
        self.store.close()
        assert completed is not None
        return completed


@pytest.mark.parametrize("rotate_s", [None, 0.7])
@pytest.mark.parametrize("ssrc", [1, 9])
async def test_two_restarts_leave_no_sample_out_of_place(
    tmp_path: pathlib.Path, rotate_s: float | None, ssrc: int
) -> None:
    clock, options = FakeClock(), PartOptions(rotate_s=rotate_s)
    first = Process(tmp_path, clock, options)
    first.receive(range(100))
    first.kill()
    clock.advance(4.0)
    second = Process(tmp_path, clock, options)  # this one is killed before any client reconnects
    assert second.interrupted is not None
    assert second.interrupted.length == 100 * 960
    assert second.interrupted.connections == 1
    second.store.close()
    clock.advance(4.0)
    third = Process(tmp_path, clock, options)
    third.receive(range(500, 560), ssrc=ssrc)
    third.kill()
    fourth = Process(tmp_path, clock, options)
    assert fourth.interrupted is not None
    assert fourth.interrupted.connections == 2
    fourth.receive(range(560, 600), ssrc=ssrc)
    completed = await fourth.end()
    assert [part.location for part in completed.parts] == sorted(map(str, tmp_path.glob("*.wav")))
    position = 0
    for number, part in enumerate(completed.parts, 1):
        assert (part.number, part.start) == (number, position)
        assert part.length == soundfile.info(part.location).frames
        position = part.end
    assert position == completed.length
    samples = np.concatenate(
        [soundfile.read(path, dtype="int16")[0] for path in sorted(tmp_path.glob("*.wav"))]
    )
    expected = np.zeros(600 * 960, dtype="<i2")
    for n in (*range(100), *range(500, 600)):
        expected[n * 960 : (n + 1) * 960] = n
    # another source is placed by the clock, which is exact to one packet
    if ssrc == 9:
        assert abs(len(samples) - len(expected)) <= 1920
        assert set(np.unique(samples)) == set(np.unique(expected))
    else:
        np.testing.assert_array_equal(samples, expected)
    assert not list(tmp_path.glob("*.part"))
    for path in tmp_path.glob("*.json"):
        spans = json.loads(path.read_text())["spans"]
        assert {span["kind"] for span in spans} <= {"received", "silence"}


@pytest.mark.parametrize(
    ("reason", "told"),
    [(EndReason.RECOVERED, "recovered"), (EndReason.SHUTDOWN, "recovered"),
     (EndReason.DELETED, "deleted")],
)  # fmt: skip
async def test_a_recording_whose_client_does_not_return_is_completed_unchanged(
    tmp_path: pathlib.Path, reason: EndReason, told: str
) -> None:
    clock = FakeClock()
    first = Process(tmp_path, clock, PartOptions())
    first.receive(range(50))
    first.kill()
    clock.advance(20)
    second = Process(tmp_path, clock, PartOptions())
    await second.processor.end(reason, now=clock.now)
    second.store.close()
    (path,) = tmp_path.glob("*.json")
    ledger = json.loads(path.read_text())
    assert (ledger["end_reason"], ledger["length_samples"]) == (told, 50 * 960)
    ended = datetime.datetime.fromisoformat(ledger["ended_at"])
    started = datetime.datetime.fromisoformat(ledger["started_at"])
    assert (ended - started).total_seconds() == pytest.approx(1.0)


async def test_another_codec_cannot_continue_a_reopened_recording(tmp_path: pathlib.Path) -> None:
    clock = FakeClock()
    first = Process(tmp_path, clock, PartOptions())
    first.receive(range(50))
    first.kill()
    second = Process(tmp_path, clock, PartOptions())
    wrong = RtpPacket(0, 1, 0, 7, payload(99, length=160), arrived=clock.now)
    second.processor.packets_received([wrong])
    second.processor.decode()
    second.processor.store()
    clock.advance(1)
    second.processor.poll(now=clock.now)
    second.receive(range(60, 80))
    await second.end()
    (path,) = tmp_path.glob("*.wav")
    samples = soundfile.read(path, dtype="int16")[0]
    assert set(np.unique(samples)) == {*range(50), *range(60, 80)}
