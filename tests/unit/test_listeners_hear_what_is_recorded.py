"""Who listens to a recording gets what is stored, as far as that is read in time."""

from __future__ import annotations

import datetime
import gc

import numpy as np
import pytest

from adapters.storage.memory import MemoryRecording, MemoryStore
from domain.errors import ServerFull, SessionUnknown
from domain.ports.storage import InterruptedRecording, RecordingWriter, Recovery
from domain.ports.tap import Heard, Missed, SoundTap, TapEnded, TapItem
from domain.recording.effects import EndReason
from domain.recording.ledger import RecordingInfo, SampleKind
from domain.services.server import tapping
from domain.services.server.tapped_store import TappedStore
from domain.services.server.tapping import Taps
from domain.sound.formats import AudioFormat, Samples
from domain.sound.pieces import EncodedSound, Sound
from tests.fakes.media import payload, plain_decoder

RATE_HZ = 8_000
BUFFER_S = 1.0
RECEIVED, SILENCE = SampleKind.RECEIVED, SampleKind.SILENCE
NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


@pytest.fixture(autouse=True)
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tapping, "FORGET_S", 0.1)


class Recorded:
    """A store that can be listened to, with one recording."""

    def __init__(self, *, max_taps: int = 2, session: str = "session") -> None:
        self.taps = Taps(plain_decoder, buffer_s=BUFFER_S, max_taps=max_taps)
        self.memory = MemoryStore()
        self.store = TappedStore(self.memory, self.taps)
        self.writer: RecordingWriter | None = self.create(session)
        self._value = 0

    def create(self, session: str) -> RecordingWriter:
        info = RecordingInfo(
            f"id of {session}", session, AudioFormat(RATE_HZ, 1), "pcmu", NOW, session_id=session
        )
        return self.store.create(info)

    @property
    def stored(self) -> Samples:
        (recording,) = self.memory.live.values()
        assert isinstance(recording, MemoryRecording)
        return recording.samples

    def sound(self, *lengths: int, channels: int = 1, kind: SampleKind = RECEIVED) -> None:
        """Record pieces; all samples differ from each other."""
        assert self.writer is not None
        pieces: list[Sound] = []
        for length in lengths:
            first, self._value = self._value, self._value + length * channels
            values = np.arange(first, self._value, dtype="<i2")
            pieces.append(values.reshape(length, channels))
        self.writer.append(pieces, kind)

    def gap(self, length: int, kind: SampleKind = SILENCE) -> None:
        assert self.writer is not None
        self.writer.append_silence(length, kind)

    def stereo(self) -> None:
        assert self.writer is not None
        self.writer.change_format(AudioFormat(RATE_HZ, 2))

    def listen(self, *, from_start: bool = False, session: str = "session") -> SoundTap:
        return self.taps.open(session, 1, from_start=from_start)


def everything(tap: SoundTap) -> list[TapItem]:
    """Read until there is nothing more; positions must follow each other."""
    found: list[TapItem] = []
    while items := tap.read():
        found += items
    position = tap.start.position
    for item in found:
        if not isinstance(item, TapEnded):
            assert item.position == position
            position += item.length
    return found


def sound_of(items: list[TapItem]) -> Samples:
    """Join the sound; gaps are silence."""
    parts = [
        np.zeros((item.length, item.channels), "<i2") if item.samples is None else item.samples
        for item in items
        if isinstance(item, Heard)
    ]
    return np.concatenate(parts)


def lengths(items: list[TapItem]) -> list[tuple[int, SampleKind, bool]]:
    return [
        (item.length, item.kind, item.samples is None) for item in items if isinstance(item, Heard)
    ]


def test_a_listener_gets_what_is_recorded_from_then_on() -> None:
    recorded = Recorded()
    recorded.sound(160)
    tap = recorded.listen()
    start = tap.start
    assert (start.session_id, start.recording, start.track) == ("session", "id of session", 1)
    assert (start.sample_rate_hz, start.channels, start.position) == (RATE_HZ, 1, 160)
    recorded.sound(160, 80)
    recorded.gap(400)
    recorded.sound(160, kind=SampleKind.CONCEALED)
    items = everything(tap)
    assert np.array_equal(sound_of(items), recorded.stored[160:])
    assert lengths(items) == [
        (240, RECEIVED, False), (400, SILENCE, True), (160, SampleKind.CONCEALED, False),
    ]  # fmt: skip
    assert everything(tap) == []


def test_neighbours_of_one_kind_come_together_up_to_a_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tapping, "HEARD_SAMPLES", 400)
    monkeypatch.setattr(tapping, "MAX_GAP", 1_000)
    recorded = Recorded()
    tap = recorded.listen()
    for _ in range(5):
        recorded.sound(160)
    for _ in range(3):
        recorded.gap(500)
    recorded.gap(5, SampleKind.DTX)
    items = everything(tap)
    assert [length for length, _, _ in lengths(items)] == [320, 320, 160, 1_000, 500, 5]
    assert np.array_equal(sound_of(items), recorded.stored)


def test_a_second_listener_can_have_what_the_first_one_had() -> None:
    recorded = Recorded()
    recorded.sound(160)
    first = recorded.listen(from_start=True)
    recorded.sound(160)
    second, third = recorded.listen(from_start=True), first
    recorded.sound(160)
    assert np.array_equal(sound_of(everything(second)), recorded.stored[160:])
    assert np.array_equal(sound_of(everything(third)), recorded.stored[160:])


@pytest.mark.parametrize(("passed", "position"), [(RATE_HZ // 2, 160), (3 * RATE_HZ, None)])
def test_who_comes_back_soon_loses_nothing(passed: int, position: int | None) -> None:
    recorded = Recorded()
    recorded.sound(160)
    recorded.listen().close()
    for _ in range(passed // 160):
        recorded.sound(160)
    tap = recorded.listen(from_start=True)
    assert tap.start.position == (len(recorded.stored) if position is None else position)
    recorded.sound(160)
    heard = sound_of(everything(tap))
    assert np.array_equal(heard, recorded.stored[tap.start.position :])


def test_a_slow_listener_is_told_what_it_has_missed() -> None:
    recorded = Recorded()
    slow, fast = recorded.listen(), recorded.listen()
    heard: list[TapItem] = []
    for _ in range(200):
        recorded.sound(160)
        heard += fast.read()
    assert np.array_equal(sound_of(heard), recorded.stored)
    missed, *rest = everything(slow)
    assert isinstance(missed, Missed)
    left = sound_of(rest)
    assert RATE_HZ * BUFFER_S <= len(left) <= RATE_HZ * (BUFFER_S + tapping.FORGET_S) + 160
    assert missed.length + len(left) == len(recorded.stored)
    assert np.array_equal(left, recorded.stored[missed.length :])


def test_a_change_of_channels_is_heard_where_it_is() -> None:
    recorded = Recorded()
    tap = recorded.listen()
    recorded.sound(160)
    recorded.stereo()
    recorded.sound(160, channels=2)
    heard = [item for item in everything(tap) if isinstance(item, Heard)]
    assert [(item.length, item.channels) for item in heard] == [(160, 1), (160, 2)]
    assert heard[1].samples is not None and heard[1].samples.shape == (160, 2)
    late = recorded.listen()
    assert late.start.channels == 2
    late.close()
    assert recorded.listen(from_start=True).start.channels == 1


def test_what_is_missed_may_have_other_channels() -> None:
    recorded = Recorded()
    tap = recorded.listen()
    recorded.sound(160)
    recorded.stereo()
    for _ in range(100):
        recorded.sound(160, channels=2)
    _, *heard = everything(tap)
    assert all(isinstance(item, Heard) and item.channels == 2 for item in heard)


def test_packets_that_are_stored_undecoded_are_decoded_for_listeners() -> None:
    recorded = Recorded()
    assert recorded.writer is not None
    ring = recorded.taps.open("session", 1, from_start=False)
    packets = [EncodedSound(payload(value, length=160), 160) for value in (5, 6)]
    writer = recorded.writer
    writer._append = lambda pieces, kind: None  # type: ignore[attr-defined]  # memory cannot
    writer.append(packets, RECEIVED)
    writer.append([EncodedSound(b"", 160)], RECEIVED)  # which the decoder refuses
    (heard,) = everything(ring)
    assert isinstance(heard, Heard) and heard.samples is not None
    assert [int(value) for value in heard.samples[::160, 0]] == [5, 6, 0]


async def test_the_end_is_told_once_and_after_all_sound() -> None:
    recorded = Recorded()
    tap = recorded.listen()
    news: list[int] = []
    tap.on_news = lambda: news.append(len(news))
    recorded.sound(160)
    assert recorded.writer is not None
    await recorded.writer.finish(EndReason.CLOSED, NOW)
    assert len(news) == 2
    heard, ended = everything(tap)
    assert isinstance(heard, Heard) and ended == TapEnded(EndReason.CLOSED)
    assert everything(tap) == []
    with pytest.raises(SessionUnknown):
        recorded.listen()


def test_a_recording_that_nobody_finishes_ends_for_its_listeners() -> None:
    recorded = Recorded()
    tap = recorded.listen()
    recorded.writer = None
    gc.collect()
    assert everything(tap) == [TapEnded(EndReason.FAILED)]


def test_positions_go_on_in_a_recording_that_is_resumed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recorded = Recorded()
    info = RecordingInfo("id", "name", AudioFormat(RATE_HZ, 2), "pcmu", NOW, session_id="back")
    writer = recorded.memory.create(info)
    interrupted = InterruptedRecording(info, 500, NOW, None, 1, writer)
    found = Recovery(busy=["another"], interrupted=[interrupted])
    monkeypatch.setattr(recorded.memory, "recover", lambda resumable_since: found)
    recovery = recorded.store.recover(resumable_since=NOW)
    assert recovery.busy == ["another"]
    (resumed,) = recovery.interrupted
    tap = recorded.listen(session="back")
    assert (tap.start.position, tap.start.channels) == (500, 2)
    recorded.writer = resumed.writer
    recorded.sound(160, channels=2)
    assert np.array_equal(sound_of(everything(tap)), writer.samples)


def test_there_are_only_so_many_listeners() -> None:
    recorded = Recorded(max_taps=2)
    taps = [recorded.listen(), recorded.listen()]
    with pytest.raises(ServerFull):
        recorded.listen()
    taps[0].close()
    taps[0].close()
    recorded.listen()
    with pytest.raises(ServerFull):
        recorded.listen()


def test_only_so_many_recordings_are_kept_for_who_comes_back() -> None:
    recorded = Recorded(max_taps=1, session="0")
    writers = [recorded.create(str(number)) for number in (1, 2)]
    for number in range(3):
        recorded.listen(session=str(number)).close()
    for writer in writers:
        writer.append_silence(10, SILENCE)
    recorded.sound(10)
    positions = []
    for session in ("2", "0", "1"):
        tap = recorded.listen(from_start=True, session=session)
        positions.append(tap.start.position)
        tap.close()
    assert positions == [0, 10, 10]


@pytest.mark.parametrize(("session", "track"), [("other", 1), ("session", 2)])
def test_nobody_listens_to_what_is_not_recorded(session: str, track: int) -> None:
    with pytest.raises(SessionUnknown):
        Recorded().taps.open(session, track, from_start=False)
