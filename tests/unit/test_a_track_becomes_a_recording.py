"""One track from its packets to its recording, without a session."""

from __future__ import annotations

import asyncio
import datetime
import pathlib
from dataclasses import replace

import numpy as np
import pytest

from adapters.storage.folder.inspection import inspect_recording
from adapters.storage.folder.part import PartOptions
from adapters.storage.folder.store import FolderStore
from adapters.storage.memory import MemoryStore
from domain.events.server import (
    ClockFoundWrong,
    PartCompleted,
)
from domain.ports.codec import DecoderFactory
from domain.ports.storage import InterruptedRecording, RecordingStore
from domain.recording.completed import CompletedPart
from domain.recording.effects import EndReason
from domain.recording.ledger import Container, RecordingInfo, SampleKind
from domain.recording.verification import Limits, verify
from domain.rtp.packets import RtpPacket
from domain.services.server.track_identity import TrackIdentity
from domain.services.server.track_processor import AudioTrackProcessor
from domain.session.policy import SessionPolicy
from domain.sound.formats import AudioFormat
from tests.fakes.events import SeenByServer
from tests.fakes.media import OPUS, PCMU, PlainDecoder, packet, payload, plain_decoder
from tests.fakes.time import EPOCH, FakeClock

CODECS = {OPUS.payload_type: OPUS, PCMU.payload_type: PCMU}


class Track:
    """A track processor with its fakes; packets arrive every 20 ms."""

    def __init__(
        self,
        *,
        decoders: DecoderFactory = plain_decoder,
        store: RecordingStore | None = None,
        **policy: object,
    ) -> None:
        self.store, self.seen, self.clock = MemoryStore(), SeenByServer(), FakeClock()
        self.processor = AudioTrackProcessor(
            TrackIdentity(session_id="session", client_name="desk", resume_digest="digest"),
            SessionPolicy(**policy),  # type: ignore[arg-type]
            decoders=decoders,
            store=store or self.store,
            clock=self.clock,
            events=self.seen,
        )

    def connect(self) -> None:
        self.processor.connect(CODECS, now=self.clock.now)

    def receive(self, *packets: RtpPacket) -> None:
        for item in packets:
            self.processor.packets_received([replace(item, arrived=self.clock.now)])
            self.clock.advance(0.02)
            self.processor.poll(now=self.clock.now)
            self.processor.decode()
            self.processor.store()

    async def end(self) -> dict[str, object]:
        completed = await self.processor.end(EndReason.CLOSED, now=self.clock.now)
        assert completed is not None
        (stored,) = self.store.recordings.values()
        assert completed.length == len(stored.samples)
        return stored.ledger


class ConcealingDecoder(PlainDecoder):
    def conceal(self, length: int) -> int:
        self._gathered.append(np.zeros((length, 1), "<i2"))
        return length


def pcmu(n: int, *, ssrc: int = 1) -> RtpPacket:
    return RtpPacket(0, n, n * 960, ssrc, payload(5, length=160))


def events(ledger: dict[str, object]) -> dict[str, dict[str, object]]:
    found = ledger["events"]
    assert isinstance(found, list)
    return {event["type"]: event for event in found}


async def test_a_track_has_its_name_format_and_dates() -> None:
    track = Track()
    track.connect()
    assert (track.processor.format, track.processor.reception_report()) == (None, None)
    track.clock.advance(7.5)
    track.receive(*(packet(n) for n in range(50)))
    assert track.processor.format == AudioFormat(48_000, 1)
    assert track.seen.started == [AudioFormat(48_000, 1)]
    ledger = await track.end()
    began = EPOCH + datetime.timedelta(seconds=7.5)
    assert ledger["started_at"] == began.isoformat(timespec="microseconds")
    ended = began + datetime.timedelta(seconds=1)
    assert ledger["ended_at"] == ended.isoformat(timespec="microseconds")
    assert (ledger["track"], ledger["length_samples"]) == (1, 50 * 960)
    assert "reconnected" not in events(ledger)
    (stored,) = track.store.recordings.values()
    assert (stored.info.session_id, stored.info.resume_digest) == ("session", "digest")
    assert stored.info.container is Container.WAV


async def test_without_sound_there_is_no_recording() -> None:
    track = Track()
    track.connect()
    assert await track.processor.end(EndReason.CLOSED, now=track.clock.now) is None
    assert track.store.recordings == {}


async def test_packets_of_another_codec_cannot_take_a_track_over() -> None:
    track = Track()
    track.connect()
    track.receive(*(packet(n) for n in range(20)))
    track.receive(*(pcmu(n, ssrc=9) for n in range(3)), packet(20))
    ledger = await track.end()
    assert ledger["length_samples"] == 21 * 960
    assert "discontinuity" not in events(ledger)
    assert events(ledger)["packets left out"]["rejected_payload_type"] == 3


async def test_packets_of_another_codec_that_came_with_the_first_one_are_lost() -> None:
    track = Track()
    track.connect()
    came = [replace(item, arrived=track.clock.now) for item in (packet(0), pcmu(1), packet(2))]
    track.processor.packets_received(came)
    track.processor.poll(now=track.clock.now + 1)
    track.processor.decode()
    assert track.processor.rejected == {"payload type": 1}
    track.receive(pcmu(3), packet(3))
    assert track.processor.rejected == {"payload type": 2}
    ledger = await track.end()
    assert ledger["spans"] == [
        {"start": 0, "length": 960, "kind": "received"},
        {"start": 960, "length": 960, "kind": "silence"},
        {"start": 1920, "length": 1920, "kind": "received"},
    ]
    assert events(ledger)["packets left out"]["rejected_payload_type"] == 2


async def test_an_empty_packet_cannot_be_the_first_and_is_counted() -> None:
    track = Track()
    track.connect()
    track.receive(RtpPacket(111, 0, 0, 1, b""), *(packet(n) for n in range(1, 20)))
    assert track.processor.rejected == {"payload": 1}
    ledger = await track.end()
    assert ledger["length_samples"] == 19 * 960
    assert events(ledger)["packets left out"]["rejected_payload"] == 1


async def test_packets_left_out_are_noted_at_the_end() -> None:
    track = Track()
    track.connect()
    track.receive(*(packet(n) for n in range(20)), packet(19), replace(packet(20), payload=b"bad"))
    track.receive(packet(21), RtpPacket(96, 5, 5, 1, b"foreign"))
    ledger = await track.end()
    told = events(ledger)["packets left out"]
    assert told["position"] == 22 * 960
    assert {key: told[key] for key in told if key not in ("type", "position", "at")} == {
        "duplicates": 1, "rejected_payload": 1, "rejected_payload_type": 1,
    }  # fmt: skip


async def test_no_counts_are_noted_if_no_packet_was_left_out() -> None:
    track = Track()
    track.connect()
    track.receive(*(packet(n) for n in range(20)))
    assert "packets left out" not in events(await track.end())


async def test_after_the_end_packets_are_ignored() -> None:
    track = Track()
    track.connect()
    track.receive(*(packet(n) for n in range(20)))
    await track.end()
    before = track.processor.reception_report()
    track.receive(packet(20), packet(21))
    after = track.processor.reception_report()
    assert before is not None and after is not None
    assert before.highest_sequence == after.highest_sequence == 19


async def test_another_connection_may_number_the_codec_in_another_way() -> None:
    track = Track()
    track.connect()
    track.receive(*(packet(n) for n in range(20)))
    theirs = {100: replace(OPUS, payload_type=100), 101: replace(PCMU, payload_type=101)}
    assert track.processor.can_record(theirs)
    assert not track.processor.can_record({101: theirs[101]})
    track.processor.connect(theirs, number=2, now=track.clock.now)
    track.receive(*(replace(packet(n), payload_type=100) for n in range(20, 40)))
    track.receive(replace(pcmu(40), payload_type=101))
    ledger = await track.end()
    assert ledger["length_samples"] == 40 * 960
    assert events(ledger)["reconnected"]["attempt"] == 2
    assert events(ledger)["packets left out"]["rejected_payload_type"] == 1


async def test_before_the_first_packet_any_codec_can_be_recorded() -> None:
    track = Track()
    assert track.processor.can_record({0: PCMU})
    track.connect()
    track.receive(*(pcmu(n) for n in range(20)))
    assert track.processor.format == AudioFormat(8_000, 1)
    assert track.processor.can_record({0: PCMU})
    assert not track.processor.can_record({111: OPUS})


async def test_a_restarted_sequence_is_a_break_placed_by_the_clock() -> None:
    track = Track()
    track.connect()
    track.receive(*(packet(n) for n in range(20)))
    track.clock.advance(3.0)
    anew = [replace(packet(n), sequence=30_000 + n, timestamp=2**31 + n * 960) for n in range(20)]
    track.receive(*anew)
    ledger = await track.end()
    broken = events(ledger)["discontinuity"]
    assert (broken["position"], broken["reason"]) == (20 * 960, "sequence")
    silent = ledger["spans"]
    assert isinstance(silent, list)
    assert [span["kind"] for span in silent] == ["received", "silence", "received"]
    assert silent[1]["length"] / 48_000 == pytest.approx(3.0, abs=0.03)


async def test_packets_are_kept_as_they_are_only_where_that_is_wanted_and_opus() -> None:
    for codec, container in ((OPUS, Container.OGG), (PCMU, Container.WAV)):
        track = Track(keep_packets=True)
        track.connect()
        first = packet(0) if codec is OPUS else pcmu(0)
        track.processor.packets_received([replace(first, arrived=track.clock.now)])
        track.processor.poll(now=track.clock.now + 1)
        track.processor.decode()
        writer = track.processor._recorder._writer
        assert writer.info is not None
        assert writer.info.container is container


async def test_an_interrupted_recording_is_resumed_with_the_first_packets() -> None:
    track = Track()
    info = RecordingInfo(
        "id", "name", AudioFormat(48_000, 1), "opus", EPOCH, session_id="session"
    )  # fmt: skip
    writer = track.store.create(info)
    writer.append([np.full((960, 1), 3, "<i2")], SampleKind.RECEIVED)
    ended_at = EPOCH - datetime.timedelta(seconds=4)
    track.processor.resume(InterruptedRecording(info, 960, ended_at, None, 5, writer))
    assert track.processor.can_record(CODECS)
    assert not track.processor.can_record({0: PCMU})
    track.connect()
    track.receive(*(packet(n) for n in range(20)))
    ledger = await track.end()
    parts = [event for event in track.seen.events if isinstance(event, PartCompleted)]
    assert [event.is_last for event in parts] == [True]
    told = events(ledger)
    assert told["reconnected"]["attempt"] == 1  # of the connection that serves
    assert told["discontinuity"]["fill_samples"] == pytest.approx(4 * 48_000, abs=1000)


async def test_nothing_is_guessed_from_one_source_to_the_next() -> None:
    track = Track(decoders=lambda _codec, audio_format: ConcealingDecoder(audio_format))
    track.connect()
    track.receive(*(packet(n) for n in range(20)), replace(packet(20), payload=b"bad"))
    track.receive(*(packet(n, ssrc=2) for n in range(25, 45)))
    ledger = await track.end()
    kinds = ledger["spans"]
    assert isinstance(kinds, list)
    assert "concealed" not in [span["kind"] for span in kinds]


async def test_the_skew_of_the_senders_clock_is_noted_at_the_end() -> None:
    track = Track()
    track.connect()
    track.receive(*(packet(n) for n in range(2000)))
    ledger = await track.end()
    assert events(ledger)["clock"]["skew_ppm"] == pytest.approx(0.0, abs=1.0)


async def test_each_part_is_reported_when_it_is_complete_and_the_last_is_marked() -> None:
    track = Track()
    track.connect()
    track.receive(*(packet(n) for n in range(20)))
    writer = track.processor._recorder._writer._writer
    assert writer is not None
    assert writer.part_completed is not None
    # as a store that splits would
    writer.part_completed(CompletedPart(1, "part 1", 0, 960), False)
    await track.end()
    told = [event for event in track.seen.events if isinstance(event, PartCompleted)]
    assert [(event.session_id, event.track, event.is_last) for event in told] == [
        ("session", 1, False), ("session", 1, True),
    ]  # fmt: skip
    assert told[1].part.length == 20 * 960


async def test_a_clock_that_is_wrong_is_told_once() -> None:
    track = Track()
    track.connect()
    for n in range(1500):
        track.receive(packet(n))
        track.clock.advance(0.001)  # 20 ms of sound take 21 ms
    await track.end()
    (told,) = [event for event in track.seen.events if isinstance(event, ClockFoundWrong)]
    assert (told.session_id, told.track) == ("session", 1)
    assert told.skew_ppm == pytest.approx(-47_600, abs=500)


async def test_each_part_knows_the_clock_of_its_sender(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A difference from the wall clock that the clock explains is no problem in any part."""
    monkeypatch.setattr("adapters.storage.folder.disk.WRITE_INTERVAL_S", 0.01)
    store = FolderStore(str(tmp_path), PartOptions(rotate_s=130.0))
    track = Track(store=store)
    track.connect()
    for n in range(20_000):
        track.receive(packet(n))
        track.clock.advance(0.0002)  # the sender's clock is slow by 1 %
        if n % 1000 == 0:
            while store.disk.delay_s or store.disk.waiting:
                await asyncio.sleep(0.01)
    completed = await track.processor.end(EndReason.CLOSED, now=track.clock.now)
    store.close()
    assert completed is not None
    assert len(completed.parts) == 4
    verdicts = [verify(inspect_recording(part.location), Limits()) for part in completed.parts]
    assert [verdict.problems for verdict in verdicts] == [[]] * 4
    clocks = [verdict.wall_clock for verdict in verdicts if verdict.wall_clock is not None]
    assert [clock.is_clock_wrong for clock in clocks] == [True] * 3
