"""Packets stored undecoded: the file is valid, and rendering it equals decoding at once."""

from __future__ import annotations

import datetime
import json
import os
import pathlib
import random
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pytest
import soundfile

from adapters.codec.decoders import make_decoder
from adapters.storage.folder.inspection import inspect_recording
from adapters.storage.folder.part import PartOptions
from adapters.storage.folder.parts import RecordingParts
from adapters.storage.folder.recovery import recover
from adapters.storage.folder.renderer import render_recording
from adapters.storage.folder.store import FolderStore
from adapters.storage.ogg.opus import read_packets
from domain.errors import InputUnreadable, StorageFailed
from domain.recording.effects import EndReason
from domain.recording.verification import Limits, verify
from domain.rtp.packets import RtpPacket
from domain.services.server.track_identity import TrackIdentity
from domain.services.server.track_processor import AudioTrackProcessor
from domain.session.policy import SessionPolicy
from domain.sound.detection import CodecParameters
from tests.fakes.events import SeenByServer
from tests.fakes.time import FakeClock
from tests.rigs.sound import encode, speech

OPUS, PCMU = CodecParameters("opus", 111, 48_000, 2), CodecParameters("pcmu", 0, 8_000, 1)
LONG_AGO = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
SPEECH = encode(speech(4))
Item = tuple[int, bytes]
"""Packets by number; the number is also the position."""


class Recorder:
    """A track processor with its own store and clock."""

    def __init__(
        self, folder: pathlib.Path, *, keep: bool = True, options: PartOptions | None = None,
        clock: FakeClock | None = None,
    ) -> None:  # fmt: skip
        self.folder, self.clock = folder, clock or FakeClock()
        self.began = self.clock.now
        """When packet 0 was sent."""
        self.store = FolderStore(str(folder), options)
        self.store.check()
        self.found = self.store.recover(resumable_since=LONG_AGO)
        self.processor = AudioTrackProcessor(
            TrackIdentity(session_id="s", resume_digest="digest"),
            SessionPolicy(keep_packets=keep),
            decoders=make_decoder,
            store=self.store,
            clock=self.clock,
            events=SeenByServer(),
        )
        for interrupted in self.found.interrupted:
            self.processor.resume(interrupted)
        self.processor.connect({111: OPUS, 0: PCMU}, now=self.clock.now)

    def receive(self, items: Iterable[Item], *, payload_type: int = 111, step: int = 960) -> None:
        for number, payload in items:
            self.clock.now = max(self.clock.now, self.began + 0.02 * number)
            packet = RtpPacket(payload_type, number % 2**16, number * step, 7, payload)
            packet.arrived = self.clock.now
            self.processor.packets_received([packet])
            self.processor.decode()
            self.processor.store()

    async def end(self) -> pathlib.Path:
        finished = await self.processor.end(EndReason.CLOSED, now=self.clock.now)
        self.store.close()
        assert finished is not None
        return pathlib.Path(finished.location)

    def kill(self) -> None:
        self.processor.poll(now=float("inf"))
        self.processor.decode()
        self.processor.store()
        self.store.close()


def numbered(packets: Sequence[bytes] = SPEECH, *, start: int = 0) -> list[Item]:
    return list(enumerate(packets, start))


def spans_of(path: pathlib.Path) -> Any:
    return json.loads(path.with_suffix(".json").read_text())["spans"]


def assert_sound(path: pathlib.Path) -> None:
    assert verify(inspect_recording(str(path)), Limits()).problems == []


async def test_packets_are_stored_unchanged_and_other_players_can_play_them(
    tmp_path: pathlib.Path,
) -> None:
    recorder = Recorder(tmp_path)
    recorder.receive(numbered())
    path = await recorder.end()
    assert path.suffix == ".opus"
    assert_sound(path)
    descriptor = os.open(path, os.O_RDONLY)
    assert [item.payload for item in read_packets(descriptor) if not item.is_gap] == SPEECH
    os.close(descriptor)
    assert soundfile.info(path).frames == len(SPEECH) * 960
    assert spans_of(path) == [{"start": 0, "length": len(SPEECH) * 960, "kind": "received"}]
    ledger = json.loads(path.with_suffix(".json").read_text())
    assert (ledger["container"], ledger["codec"], ledger["levels"]) == ("opus", "opus", None)


def losses(seed: int) -> list[Item]:
    """Make single losses, bursts, reordered and duplicate packets, and a DTX pause."""
    dice = random.Random(seed)
    kept = [item for item in numbered() if dice.random() > 0.1]
    burst = dice.randrange(20, 150)
    kept = [item for item in kept if not burst <= item[0] < burst + dice.choice([3, 8, 20])]
    for index in range(1, len(kept), 17):
        kept[index - 1], kept[index] = kept[index], kept[index - 1]
    return [*kept[:50], kept[49], *kept[50:]]


@pytest.mark.parametrize("seed", range(8))
async def test_rendering_equals_decoding_at_once(tmp_path: pathlib.Path, seed: int) -> None:
    items = losses(seed)
    recorded = []
    for name, keep in (("wav", False), ("opus", True)):
        recorder = Recorder(tmp_path / name, keep=keep)
        recorder.receive(items)
        recorded.append(await recorder.end())
    decoded, kept = recorded
    rendered = pathlib.Path(render_recording(kept, None, make_decoder).location)
    assert rendered == kept.with_name(f"{kept.stem}-rendered.wav")
    assert_sound(rendered)
    assert_sound(kept)
    assert spans_of(rendered) == spans_of(decoded)
    samples = [soundfile.read(path, dtype="int16")[0] for path in (rendered, decoded)]
    np.testing.assert_array_equal(*samples)
    events = json.loads(rendered.with_suffix(".json").read_text())["events"]
    assert events[-1] == {"type": "rendered", "position": 0, "from": kept.name}


async def test_a_reconnection_is_rendered_as_it_would_have_been_decoded(
    tmp_path: pathlib.Path,
) -> None:
    recorded = []
    for name, keep in (("wav", False), ("opus", True)):
        recorder = Recorder(tmp_path / name, keep=keep)
        recorder.receive(numbered()[:60])
        recorder.clock.advance(0.8)
        recorder.processor.connect({111: OPUS}, number=2, now=recorder.clock.now)
        for number, payload in numbered()[100:]:
            now = recorder.clock.now
            packet = RtpPacket(111, number, number * 960, 7, payload, arrived=now)
            recorder.processor.packets_received([packet])
            recorder.processor.decode()
            recorder.processor.store()
            recorder.clock.advance(0.02)
        recorded.append(await recorder.end())
    rendered = render_recording(recorded[1], tmp_path, make_decoder).location
    assert spans_of(pathlib.Path(rendered)) == spans_of(recorded[0])
    np.testing.assert_array_equal(soundfile.read(rendered)[0], soundfile.read(recorded[0])[0])


async def test_a_gap_of_a_fraction_of_a_frame_loses_no_sample(tmp_path: pathlib.Path) -> None:
    recorder = Recorder(tmp_path)
    for number, timestamp in enumerate([0, 960, 960 * 3 + 77, 960 * 4 + 77, 960 * 40 + 78]):
        recorder.clock.now = recorder.began + timestamp / 48_000
        packet = RtpPacket(111, number, timestamp, 7, SPEECH[number], arrived=recorder.clock.now)
        recorder.processor.packets_received([packet])
        recorder.processor.decode()
        recorder.processor.store()
    path = await recorder.end()
    assert_sound(path)
    assert soundfile.info(path).frames == 960 * 41 + 78
    rendered = render_recording(path, None, make_decoder).location
    assert_sound(pathlib.Path(rendered))
    assert soundfile.info(rendered).frames == 960 * 41 + 78


async def test_parts_follow_each_other_at_whole_packets(tmp_path: pathlib.Path) -> None:
    recorder = Recorder(tmp_path, options=PartOptions(rotate_s=0.99))
    recorder.receive(numbered())
    await recorder.end()
    paths = sorted(tmp_path.glob("*.opus"))
    assert len(paths) == 5
    kept = []
    for path in paths:
        assert_sound(path)
        descriptor = os.open(path, os.O_RDONLY)
        kept += [item.payload for item in read_packets(descriptor) if not item.is_gap]
        os.close(descriptor)
    assert kept == SPEECH
    assert [soundfile.info(path).frames for path in paths[:-1]] == [49 * 960] * 4


async def test_the_file_of_a_killed_process_can_be_resumed(tmp_path: pathlib.Path) -> None:
    first = Recorder(tmp_path)
    first.receive(numbered()[:80])
    first.kill()
    second = Recorder(tmp_path, keep=False, clock=first.clock)  # the setting has changed
    second.began = first.began
    assert [item.length for item in second.found.interrupted] == [80 * 960]
    second.receive(numbered()[120:])
    path = await second.end()
    assert path.suffix == ".opus"
    assert_sound(path)
    length = len(SPEECH) * 960
    assert spans_of(path) == [
        {"start": 0, "length": 80 * 960, "kind": "received"},
        {"start": 80 * 960, "length": 40 * 960, "kind": "silence"},
        {"start": 120 * 960, "length": length - 120 * 960, "kind": "received"},
    ]
    assert_sound(pathlib.Path(render_recording(path, None, make_decoder).location))


@pytest.mark.parametrize("cut", [1, 100, 3000])
async def test_the_file_of_a_killed_process_can_be_recovered(
    tmp_path: pathlib.Path, cut: int
) -> None:
    recorder = Recorder(tmp_path)
    recorder.receive(numbered())
    recorder.kill()
    (part_file,) = tmp_path.glob("*.opus.part")
    os.truncate(part_file, part_file.stat().st_size - cut)
    found = recover(tmp_path)
    assert not found.failed
    (path,) = tmp_path.glob("*.opus")
    assert_sound(path)
    hashed = json.loads(path.with_suffix(".json").read_text())["sha256"]
    assert recover(tmp_path).recovered == []
    assert json.loads(path.with_suffix(".json").read_text())["sha256"] == hashed


async def test_a_recovered_recording_ends_at_the_time_of_its_last_sample(
    tmp_path: pathlib.Path,
) -> None:
    recorder = Recorder(tmp_path)
    recorder.receive(numbered())
    recorder.kill()
    (part_file,) = tmp_path.glob("*.opus.part")
    os.utime(part_file)
    recover(tmp_path)
    (ledger_file,) = tmp_path.glob("*.json")
    ledger = json.loads(ledger_file.read_text())
    began, ended = map(datetime.datetime.fromisoformat, (ledger["started_at"], ledger["ended_at"]))
    assert (ended - began).total_seconds() == pytest.approx(len(SPEECH) * 0.02, abs=0.05)


async def test_a_received_packet_is_never_stored_as_a_gap(tmp_path: pathlib.Path) -> None:
    recorder = Recorder(tmp_path)
    strange = bytes([0xFB, 0x41, 0])
    recorder.receive((n, strange if n == 20 else payload) for n, payload in numbered())
    path = await recorder.end()
    assert [span["kind"] for span in spans_of(path)] == ["received", "silence", "received"]
    rendered = pathlib.Path(render_recording(path, None, make_decoder).location)
    assert soundfile.info(rendered).frames == len(SPEECH) * 960


async def test_a_killed_rendering_is_made_again(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder(tmp_path)
    recorder.receive(numbered())
    path = await recorder.end()
    before = sorted(tmp_path.iterdir())

    def end_here(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as killed:
        killed.setattr(RecordingParts, "discard", RecordingParts.abandon)
        killed.setattr(RecordingParts, "finish", end_here)
        with pytest.raises(KeyboardInterrupt):
            render_recording(path, None, make_decoder)
    (journal_file,) = tmp_path.glob("*.journal")
    journal = journal_file.read_bytes()
    for _ in range(2):
        found = recover(tmp_path)
        assert (found.recovered, found.failed) == ([], [])
        assert sorted(tmp_path.iterdir()) == before
        journal_file.write_bytes(journal)  # as if the process was killed before this step
    recover(tmp_path)
    assert_sound(pathlib.Path(render_recording(path, None, make_decoder).location))


async def test_telephone_codecs_are_decoded_to_wavs_in_any_case(tmp_path: pathlib.Path) -> None:
    recorder = Recorder(tmp_path)
    recorder.receive(((n, bytes([0xD5]) * 160) for n in range(50)), payload_type=0, step=160)
    path = await recorder.end()
    assert path.suffix == ".wav"
    assert_sound(path)


async def test_a_failed_rendering_gives_the_reason_and_leaves_no_file(
    tmp_path: pathlib.Path,
) -> None:
    recorder = Recorder(tmp_path)
    recorder.receive(numbered())
    path = await recorder.end()
    wav = pathlib.Path(render_recording(path, None, make_decoder).location)
    with pytest.raises(StorageFailed, match="exists"):
        render_recording(path, None, make_decoder)
    with pytest.raises(InputUnreadable, match="nothing to render"):
        render_recording(wav, tmp_path / "other", make_decoder)
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    path.write_bytes(damaged)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(InputUnreadable, match="damaged"):
        render_recording(path, None, make_decoder)
    assert sorted(tmp_path.iterdir()) == before
