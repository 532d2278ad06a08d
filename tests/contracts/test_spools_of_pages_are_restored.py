"""A page does not know its RTP timestamps: its spool is restored by time, which is its axis."""

from __future__ import annotations

import json
import pathlib
import random
from collections.abc import Sequence

import numpy as np
import pytest
import soundfile

from adapters.codec.decoders import make_decoder
from adapters.codec.libopus import OpusDecoder
from adapters.codec.pyav import PyAvResampler
from adapters.storage.folder.inspection import inspect_recording
from adapters.storage.restoring import aligning
from adapters.storage.restoring.complete import CompleteRecording
from adapters.storage.restoring.held import CapturedAndHeld
from adapters.storage.restoring.rendering import RestoringRenderer
from domain.recording.alignment import ALIGNED
from domain.recording.ledger import RestoreMode, RestoreState, SampleKind
from domain.recording.ranges import Range, RangeSet
from domain.recording.restoring import ABOUT, LOOK_AHEAD, PADDING, Restoration
from domain.recording.verification import Limits, verify
from domain.sound.formats import AudioFormat, AudioFrame, Samples
from domain.sound.pieces import EncodedSound
from tests.rigs.restoring import SESSION, Folder, Live, captured_of, noise
from tests.rigs.sound import encode, speech

MONO = AudioFormat(48_000, 1)
SECOND = 48_000
RECEIVED, RESTORED = SampleKind.RECEIVED, SampleKind.RESTORED
CONCEALED, SILENCE = SampleKind.CONCEALED, SampleKind.SILENCE


def page(pcm: Samples, error: int = 0) -> Live:
    """Record what a page sends; where it is in the spool is an estimate that may be wrong."""
    return Live(pcm, about=ABOUT, error=error, heard=lambda sound: sound // 2)


def assert_valid(folder: Folder) -> None:
    for path in folder.path.glob("*.wav"):
        verdict = verify(inspect_recording(str(path)), Limits())
        assert verdict.ok, verdict.problems


def pass_by(live: Live, length: int) -> None:
    """Let time pass of which nothing arrives: the spool goes on meanwhile."""
    live.at += length
    live.place(length)
    live._add(np.zeros((length, live.pcm.shape[1]), "<i2"), SILENCE)


def resampled(pcm: Samples, source: AudioFormat, target: AudioFormat) -> Samples:
    resampler = PyAvResampler(source, target)
    frames = [*resampler.push(AudioFrame(source, pcm)), *resampler.flush()]
    return np.concatenate([frame.samples for frame in frames])


def with_holes(pcm: Samples, missing: Sequence[Range]) -> Samples:
    left = pcm.copy()
    for item in missing:
        left[item.start : item.end] = 0
    return left


@pytest.mark.parametrize("error", [-14_400, 0, 14_400])
@pytest.mark.parametrize("rate_hz", [48_000, 44_100])
def test_all_is_the_spool_and_nothing_else(
    tmp_path: pathlib.Path, error: int, rate_hz: int
) -> None:
    """The estimate of the second connection errs the other way, so that time seems to be left."""
    spool = AudioFormat(rate_hz, 1)
    live = page(noise(MONO, 10 * SECOND), error)
    live.begin(SECOND)
    live.run(SECOND, RECEIVED)
    live.run(960, CONCEALED)
    live.run(SECOND, RECEIVED)
    pass_by(live, SECOND)
    live.run(SECOND, RECEIVED)
    live.error = -error
    pass_by(live, SECOND)
    live.run(SECOND, RECEIVED)
    pcm = noise(spool, 10 * rate_hz)
    folder = Folder(tmp_path, spool, RestoreMode.ALL)
    folder.record(live)
    result = folder.restore(pcm)
    ledger = folder.catalogue.ledger(SESSION)
    assert result.sha256 == ledger["sha256"] == captured_of(pcm, spool).sha256
    assert (folder.read() == pcm).all()
    assert set(folder.kinds()) == {RESTORED}
    assert folder.restore(pcm) == result  # again: the process was killed before it noted that
    assert_valid(folder)
    folder.close()


def through_opus(pcm: Samples) -> Samples:
    """Return what a server decodes of sound, without the delay of the codec."""
    decoder, found = OpusDecoder(MONO), []
    for payload in encode(pcm):
        decoder.decode(payload)
        found += [piece for piece in decoder.collect() if not isinstance(piece, EncodedSound)]
    decoded = np.concatenate(found)
    return np.concatenate([decoded[LOOK_AHEAD:], decoded[:LOOK_AHEAD]])


def lag_of(heard: Samples, captured: Samples) -> int:
    """Return by how many samples speech (0.5 to 3.4 kHz) is later than it was captured."""
    size = 2 * len(heard)
    spectrum = np.fft.rfft(heard[:, 0], size) * np.conj(np.fft.rfft(captured[:, 0], size))
    pitch = np.fft.rfftfreq(size, 1 / SECOND)
    likeness = np.fft.irfft(np.where((pitch > 500) & (pitch < 3400), spectrum, 0), size)
    return max(range(-480, 481), key=lambda lag: float(likeness[lag]))


@pytest.mark.parametrize(
    ("first", "second", "rate_hz"),
    [(14_400, -14_400, 48_000), (-96_000, 2000, 48_000), (0, 9600, 44_100)],
)
def test_lost_sound_is_put_where_it_belongs(
    tmp_path: pathlib.Path, first: int, second: int, rate_hz: int
) -> None:
    """Two connections, of which each has an estimate of its own; with losses in both."""
    pcm = np.concatenate([speech(11), speech(9)])
    live = page(through_opus(pcm), first)
    live.heard = np.copy
    chance = random.Random(4)

    def some(seconds: float) -> None:
        for _ in range(round(seconds * 50)):
            live.run(960, CONCEALED if chance.random() < 0.1 else RECEIVED)

    live.begin(3 * SECOND)
    some(6)
    live.error = second
    pass_by(live, 2 * SECOND)
    some(5)
    folder = Folder(tmp_path, AudioFormat(rate_hz, 1))
    folder.record(live)
    spool = pcm
    if rate_hz != 48_000:
        spool = resampled(pcm, MONO, folder.spool)
    result = folder.restore(spool)
    found, kinds = folder.read(), np.array(folder.kinds())
    assert result.length == len(pcm)
    # the axis of the recording is that of the spool
    restored = kinds == RESTORED
    if rate_hz == 48_000:
        assert (found[restored] == pcm[restored]).all()
    assert_valid(folder)
    runs = [(4 * SECOND, 8 * SECOND), (12 * SECOND, 15 * SECOND)]
    for start, end in runs:
        mask = (kinds[start:end] == RECEIVED)[:, np.newaxis]
        assert mask.mean() > 0.8
        assert abs(lag_of(found[start:end] * mask, pcm[start:end])) <= 1
    told = [e for e in folder.catalogue.ledger(SESSION)["events"] if e["type"] == ALIGNED]
    assert len(told) == 2
    for event, error in zip(told, (first, second), strict=True):
        assert abs(event["shift"] + error) <= 3  # Opus is 2 samples faster where it is SILK
        assert event["residual_samples"] <= 2
        assert event["correlation"] > 0.9
        assert event["windows"] >= 4
    folder.close()


def test_an_estimate_that_cannot_be_bettered_is_stated(tmp_path: pathlib.Path) -> None:
    live = page(noise(MONO, 10 * SECOND), 4800)
    live.begin(0)
    live.run(3 * SECOND, RECEIVED)
    live.run(960, CONCEALED)
    live.run(3 * SECOND, RECEIVED)
    folder = Folder(tmp_path, MONO)
    folder.record(live)
    folder.restore(np.zeros((10 * SECOND, 1), "<i2"))
    (told,) = (e for e in folder.catalogue.ledger(SESSION)["events"] if e["type"] == ALIGNED)
    assert (told["shift"], told["residual_samples"], told["windows"]) == (0, ABOUT, 0)
    assert "correlation" not in told
    folder.close()


@pytest.mark.parametrize("error", [-14_400, 0, 14_400])
def test_a_page_that_was_killed_has_not_written_its_last_block(
    tmp_path: pathlib.Path, error: int
) -> None:
    """It comes back with a hole that begins before the last sound that it has sent."""
    live = page(noise(MONO, 10 * SECOND), error)
    live.begin(0)
    live.run(3 * SECOND, RECEIVED)
    live.error = -error
    pass_by(live, 2 * SECOND)
    live.run(3 * SECOND, RECEIVED)
    missing = [Range(5 * SECOND // 2, 5 * SECOND // 2)]
    pcm = with_holes(noise(MONO, 10 * SECOND), missing)
    held = RangeSet([Range(0, len(pcm))]).minus(RangeSet(missing))
    folder = Folder(tmp_path, MONO, RestoreMode.ALL)
    folder.record(live)
    result = folder.restore(pcm, list(held), missing=missing)
    ledger = folder.catalogue.ledger(SESSION)
    assert result.sha256 == ledger["sha256"] == captured_of(pcm, MONO, missing).sha256
    kinds = np.array([kind is RESTORED for kind in folder.kinds()])
    assert not kinds[missing[0].start : missing[0].end].any()
    assert kinds.sum() == held.total
    assert folder.restore(pcm, list(held), missing=missing) == result
    assert_valid(folder)
    folder.close()


def test_sound_that_only_the_server_has_stays_behind_the_end(tmp_path: pathlib.Path) -> None:
    """The page was killed, and did not come back."""
    pcm = noise(MONO, 2 * SECOND)
    live = page(noise(MONO, 10 * SECOND))
    live.begin(0)
    live.run(8 * SECOND, RECEIVED)
    folder = Folder(tmp_path, MONO, RestoreMode.ALL)
    folder.record(live)
    result = folder.restore(pcm)
    kinds = folder.kinds()
    assert set(kinds[: 2 * SECOND]) == {RESTORED}
    assert set(kinds[2 * SECOND :]) == {RECEIVED}
    assert result.length == pytest.approx(8 * SECOND, abs=PADDING)
    folder.close()


def test_long_sound_that_only_the_server_has_stays_in_a_hole(tmp_path: pathlib.Path) -> None:
    """The disk of the page was full for a while."""
    heard = noise(MONO, 20 * SECOND)
    live = page(heard)
    live.begin(0)
    live.run(20 * SECOND, RECEIVED)
    missing = [Range(4 * SECOND, 10 * SECOND)]
    pcm = with_holes(heard, missing)
    held = RangeSet([Range(0, len(pcm))]).minus(RangeSet(missing))
    folder = Folder(tmp_path, MONO, RestoreMode.ALL)
    folder.record(live)
    result = folder.restore(pcm, list(held), missing=missing)
    assert result.length == len(pcm)
    assert set(folder.kinds()[4 * SECOND : 14 * SECOND]) == {RECEIVED}
    assert (folder.read()[6 * SECOND : 12 * SECOND] == heard[6 * SECOND : 12 * SECOND] // 2).all()
    folder.close()


def test_an_estimate_that_is_too_late_makes_no_sound_behind_the_end(tmp_path: pathlib.Path) -> None:
    """Nothing tells where the sound is: it could be up to 3 s earlier."""
    live = page(noise(MONO, 12 * SECOND), 2 * SECOND)
    live.begin(0)
    live.run(10 * SECOND, RECEIVED)
    pcm = np.zeros((10 * SECOND, 1), "<i2")
    folder = Folder(tmp_path, MONO, RestoreMode.ALL)
    folder.record(live)
    assert folder.restore(pcm).sha256 == captured_of(pcm, MONO).sha256
    assert folder.catalogue.ledger(SESSION)["sha256"] == captured_of(pcm, MONO).sha256
    folder.close()


def test_the_end_of_the_spool_is_wanted_with_sound_to_find_its_place(
    tmp_path: pathlib.Path,
) -> None:
    live = page(noise(MONO, 20 * SECOND))
    live.begin(0)
    live.run(10 * SECOND, RECEIVED)
    folder = Folder(tmp_path, MONO)
    folder.record(live)
    captured = captured_of(noise(MONO, 11 * SECOND), MONO)
    restoration = Restoration(MONO, RestoreMode.LOST)
    restoration.begin_anew(folder.rewrite.segments(folder.key, captured), captured)
    (item,) = restoration.first(10)
    assert item.start <= 7 * SECOND
    assert item.end == 11 * SECOND
    folder.close()


def test_sound_around_a_new_estimate_is_wanted(tmp_path: pathlib.Path) -> None:
    """The connections seem to follow each other at once, but there may be time between them."""
    pcm = speech(11)
    live = page(through_opus(pcm), 9600)
    live.heard = np.copy
    live.begin(0)
    live.run(5 * SECOND, RECEIVED)
    live.error = 0
    live.at += 9600
    live.place(0)
    live.run(5 * SECOND, RECEIVED)
    folder = Folder(tmp_path, MONO)
    folder.record(live)
    captured = captured_of(pcm, MONO)
    restoration = Restoration(MONO, RestoreMode.LOST)
    restoration.begin_anew(folder.rewrite.segments(folder.key, captured), captured)
    wanted = RangeSet(restoration.first(10))
    assert wanted.covers(3 * SECOND, 8 * SECOND)
    result = folder.restore(pcm, list(wanted))
    assert result.length == len(pcm)
    assert SILENCE not in folder.kinds()
    folder.close()


@pytest.mark.parametrize("mode", [RestoreMode.LOST, RestoreMode.ALL])
def test_packets_of_a_page_are_rendered_where_they_belong(
    tmp_path: pathlib.Path, mode: RestoreMode
) -> None:
    pcm = speech(8)
    packets = [EncodedSound(payload, 960) for payload in encode(pcm)][50:-50]
    folder = Folder(tmp_path, MONO, mode)
    folder.record_packets(packets, 100, 110, ticks=50 * 960 - LOOK_AHEAD + 9600, about=ABOUT)
    folder.restore(pcm)
    rendered = RestoringRenderer(make_decoder, PyAvResampler).render(
        str(tmp_path / f"{folder.name}.opus"), None
    )
    path = pathlib.Path(rendered.location)
    ledger = json.loads(path.with_suffix(".json").read_text())
    (told,) = (event for event in ledger["events"] if event["type"] == ALIGNED)
    assert abs(told["shift"] + 9600) <= 3
    assert rendered.length == len(pcm)
    samples = soundfile.read(path, dtype="int16", always_2d=True)[0]
    for span in ledger["spans"]:
        if span["kind"] == "restored":
            begin, end = span["start"], span["start"] + span["length"]
            assert (samples[begin:end] == pcm[begin:end]).all()
    assert (ledger["sha256"] == captured_of(pcm, MONO).sha256) is (mode is RestoreMode.ALL)
    folder.close()


def test_a_page_may_fill_a_hole_with_too_much(tmp_path: pathlib.Path) -> None:
    """Firefox goes on with silence, but the page has filled 4800 samples more."""
    pcm = speech(11)
    sent = through_opus(pcm)
    hole = Range(5 * SECOND, SECOND)
    live = page(with_holes(sent, [hole]), 9600)
    live.heard = np.copy
    live.begin(0)
    live.run(11 * SECOND - 960, RECEIVED)
    missing = [Range(hole.start, hole.length + 4800)]
    spool = np.concatenate([pcm[: hole.end], np.zeros((4800, 1), "<i2"), pcm[hole.end :]])
    spool = with_holes(spool, missing)
    folder = Folder(tmp_path, MONO, RestoreMode.ALL)
    folder.record(live)
    folder.restore(spool, [Range(0, len(spool))], missing=missing)
    told = [e for e in folder.catalogue.ledger(SESSION)["events"] if e["type"] == ALIGNED]
    assert [abs(event["shift"] + 9600) <= 3 for event in told] == [True, False]
    assert abs(told[1]["shift"] + 4800) <= 3
    assert all(event["residual_samples"] <= 1 for event in told)
    folder.close()


def test_silence_that_a_browser_sends_while_nothing_is_captured_does_not_count(
    tmp_path: pathlib.Path,
) -> None:
    """Firefox goes on with silence, in a hole and behind the end."""
    heard = noise(MONO, 30 * SECOND)
    missing = [Range(4 * SECOND, 10 * SECOND)]
    pcm = with_holes(heard[: 20 * SECOND], missing)
    live = page(with_holes(heard, [*missing, Range(20 * SECOND, 10 * SECOND)]), 4800)
    live.begin(0)
    live.run(28 * SECOND, RECEIVED)
    held = RangeSet([Range(0, len(pcm))]).minus(RangeSet(missing))
    folder = Folder(tmp_path, MONO, RestoreMode.ALL)
    folder.record(live)
    result = folder.restore(pcm, list(held), missing=missing)
    ledger = folder.catalogue.ledger(SESSION)
    assert result.sha256 == ledger["sha256"] == captured_of(pcm, MONO, missing).sha256
    folder.close()


def test_silence_between_clicks_is_not_remembered_without_end(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is left of it counts as heard: the sound stays."""
    monkeypatch.setattr(aligning, "_MAX_QUIET", 5)
    heard = noise(MONO, 12 * SECOND)
    clicks = with_holes(heard, [Range(at, 1920) for at in range(4 * SECOND, len(heard), 3840)])
    live = page(clicks)
    live.begin(0)
    live.run(11 * SECOND, RECEIVED)
    folder = Folder(tmp_path, MONO, RestoreMode.ALL)
    folder.record(live)
    found: list[int] = []
    replaces = CapturedAndHeld.replaces

    def counted(sound: CapturedAndHeld, recording: CompleteRecording) -> bool:
        found.append(len(recording.quiet))
        return replaces(sound, recording)

    monkeypatch.setattr(CapturedAndHeld, "replaces", counted)
    result = folder.restore(heard[: 4 * SECOND])
    assert 5 <= max(found) < 40
    assert result.length > 10 * SECOND
    folder.close()


def test_what_is_wanted_has_room_for_the_error_of_the_estimate(tmp_path: pathlib.Path) -> None:
    live = page(noise(MONO, 20 * SECOND))
    live.begin(0)
    live.run(10 * SECOND, RECEIVED)
    live.run(960, CONCEALED)
    live.run(9 * SECOND, RECEIVED)
    folder = Folder(tmp_path, MONO)
    folder.record(live)
    restoration = Restoration(MONO, RestoreMode.LOST)
    segments = folder.rewrite.segments(folder.key, None)
    restoration.begin_anew(segments, captured_of(noise(MONO, 20 * SECOND), MONO))
    (item,) = (found for found in restoration.first(10) if found.start > 0)
    lost = 10 * SECOND - 312
    assert item.start <= lost - ABOUT
    assert item.end >= lost + 960 + ABOUT
    folder.close()


def test_what_came_in_time_is_put_in_its_place(tmp_path: pathlib.Path) -> None:
    """The window is over, and the page has not said what it captured."""
    live = page(noise(MONO, 10 * SECOND))
    live.begin(0)
    live.run(3 * SECOND, RECEIVED)
    pass_by(live, 2 * SECOND)
    live.run(3 * SECOND, RECEIVED)
    pcm = noise(MONO, 10 * SECOND)
    folder = Folder(tmp_path, MONO, RestoreMode.ALL)
    folder.record(live)
    held = [Range(SECOND, 5 * SECOND)]
    folder.restore(pcm, held, state=RestoreState.EXPIRED, is_told=False)
    kinds = folder.kinds()
    assert kinds.count(RESTORED) == 5 * SECOND
    assert kinds.count(SILENCE) == 0
    folder.close()
