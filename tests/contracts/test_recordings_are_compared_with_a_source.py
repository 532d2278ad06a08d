"""`gapless verify --source` reads files of any size and rate, and finds what is not the same."""

from __future__ import annotations

import datetime
import hashlib
import json
import pathlib
import tracemalloc
from collections.abc import Sequence

import numpy as np
import pytest
import soundfile

from adapters.codec.pyav import PyAvResampler
from adapters.storage.folder.inspection import FolderInspector, inspect_recording
from adapters.storage.folder.source import compare_with_source
from domain.errors import InputUnreadable
from domain.recording.ledger import (
    Ledger,
    LedgerEvent,
    RecordingInfo,
    RestoreMode,
    RestoreState,
    SampleKind,
    document,
)
from domain.recording.restoring import PLACED
from domain.recording.verification import Limits, Verdict, verify
from domain.sound.conversion import pack
from domain.sound.formats import AudioFormat, AudioFrame, SampleFormat, Samples
from tests.rigs.processes import gapless
from tests.rigs.sound import SPEECH

WHEN = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)
LIVE = AudioFormat(48_000, 1)
FINE = AudioFormat(96_000, 2, SampleFormat.S24)
RECEIVED, RESTORED, SILENCE = SampleKind.RECEIVED, SampleKind.RESTORED, SampleKind.SILENCE


def noise(length: int, audio_format: AudioFormat) -> Samples:
    limit = 1 << (audio_format.sample_format.bits - 1)
    shape = (length, audio_format.channels)
    drawn = np.random.default_rng(5).integers(-limit, limit, shape)
    return drawn.astype(audio_format.sample_format.dtype)


def write(path: pathlib.Path, samples: Samples, audio_format: AudioFormat) -> str:
    bits = audio_format.sample_format.bits
    whole = samples << 8 if bits == 24 else samples  # libsndfile takes the upper 24 bits
    soundfile.write(path, whole, audio_format.sample_rate_hz, subtype=f"PCM_{bits}")
    return str(path)


def record(
    folder: pathlib.Path,
    samples: Samples,
    audio_format: AudioFormat,
    pieces: Sequence[tuple[SampleKind, int]],
    events: Sequence[LedgerEvent] = (),
    mode: RestoreMode = RestoreMode.LOST,
) -> str:
    """Write a restored recording with its ledger."""
    location = write(folder / "a.wav", samples, audio_format)
    ledger = Ledger()
    for kind, length in pieces:
        ledger.add(kind, length)
    ledger.events += events
    info = RecordingInfo("id", "a", audio_format, "opus", WHEN, session_id="id", restore=mode)
    written = document(
        info,
        ledger,
        ended_at=WHEN,
        end_reason="closed",
        sha256=hashlib.sha256(pack(samples, audio_format.sample_format)).hexdigest(),
        restore_state=RestoreState.COMPLETE,
    )
    (folder / "a.json").write_text(json.dumps(written))
    return location


def judged(location: str, source: str) -> Verdict:
    return verify(FolderInspector(PyAvResampler).inspect(location, source), Limits())


def placed(position: int, gap: int, ticks: int) -> LedgerEvent:
    return LedgerEvent(PLACED, position, {"gap": gap, "ticks": ticks})


@pytest.mark.parametrize("container", ["wav", "flac"])
@pytest.mark.parametrize("audio_format", [LIVE, FINE, AudioFormat(44_100, 8)], ids=str)
def test_all_that_was_captured_is_found_with_the_stalls_between(
    tmp_path: pathlib.Path, audio_format: AudioFormat, container: str
) -> None:
    rate = audio_format.sample_rate_hz
    captured = noise(rate * 3, audio_format)
    source = write(tmp_path / f"captured.{container}", captured, audio_format)
    stall = np.zeros((rate // 2, audio_format.channels), captured.dtype)
    samples = np.concatenate([captured[:rate], stall, captured[rate:]])
    events = [placed(0, 0, 0), placed(rate, rate // 2, 48_000)]
    pieces = [(RESTORED, rate), (SILENCE, rate // 2), (RESTORED, 2 * rate)]
    location = record(tmp_path, samples, audio_format, pieces, events, RestoreMode.ALL)
    verdict = judged(location, source)
    assert verdict.problems == []
    assert verdict.source is not None
    assert verdict.source.equal == verdict.source.restored == 3 * rate

    samples[2 * rate, -1] ^= 1
    location = record(tmp_path, samples, audio_format, pieces, events, RestoreMode.ALL)
    verdict = judged(location, source)
    assert verdict.source is not None
    assert verdict.source.first_difference == 2 * rate
    assert not verdict.ok


@pytest.mark.parametrize("rate", [44_100, 96_000])
def test_what_was_lost_of_another_rate_is_compared_by_its_likeness(
    tmp_path: pathlib.Path, rate: int
) -> None:
    speech, speech_rate = soundfile.read(SPEECH, dtype="int16", always_2d=True)
    assert speech_rate == 48_000
    captured_as = AudioFormat(rate, 1)
    raising = PyAvResampler(LIVE, captured_as)
    spoken = AudioFrame(LIVE, speech[: 48_000 * 4])
    captured = np.concatenate(
        [frame.samples for frame in [*raising.push(spoken), *raising.flush()]]
    )
    source = write(tmp_path / "captured.wav", captured, captured_as)
    lowering = PyAvResampler(captured_as, LIVE)
    frames = [*lowering.push(AudioFrame(captured_as, captured)), *lowering.flush()]
    sound = np.concatenate([frame.samples for frame in frames])
    length = len(captured) * 48_000 // rate
    sound = sound[:length]
    lost, rest = 48_000, len(sound) - 96_000
    pieces = [(RECEIVED, 48_000), (RESTORED, lost), (RECEIVED, rest)]
    verdict = judged(record(tmp_path, sound, LIVE, pieces, [placed(0, 0, 0)]), source)
    assert verdict.problems == []
    assert verdict.source is not None
    assert verdict.source.equal is None
    for likeness in (verdict.source.restored_likeness, verdict.source.received_likeness):
        assert likeness is not None
        assert likeness.correlation > 0.999
        assert likeness.delay == 0
        assert abs(likeness.level_difference_db) < 0.05

    moved = np.concatenate([sound[:48_000], sound[48_010:96_010], sound[96_000:]])
    verdict = judged(record(tmp_path, moved, LIVE, pieces, [placed(0, 0, 0)]), source)
    assert any("do not sound like" in problem for problem in verdict.problems)


def test_long_files_are_read_in_blocks(tmp_path: pathlib.Path) -> None:
    length = 48_000 * 120
    captured = noise(length, LIVE)
    source = write(tmp_path / "captured.flac", captured, LIVE)
    location = record(tmp_path, captured, LIVE, [(RESTORED, length)], [placed(0, 0, 0)])
    facts = inspect_recording(location)
    compare_with_source(facts, source, PyAvResampler)  # what is imported or cached does not count
    tracemalloc.start()
    try:
        found = compare_with_source(facts, source, PyAvResampler)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found.equal == length
    assert peak < length // 2  # a quarter of the file


@pytest.mark.parametrize("damage", ["spans", "ledger", "packets"])
def test_what_cannot_be_compared_is_a_problem(tmp_path: pathlib.Path, damage: str) -> None:
    captured = noise(1_000, LIVE)
    source = write(tmp_path / "captured.wav", captured, LIVE)
    location = record(tmp_path, captured, LIVE, [(RESTORED, 1_000)], [placed(0, 0, 0)])
    ledger = json.loads((tmp_path / "a.json").read_text())
    match damage:
        case "spans":
            (tmp_path / "a.json").write_text(json.dumps(ledger | {"spans": []}))
        case "ledger":
            (tmp_path / "a.json").unlink()
        case _:
            soundfile.write(location, captured, 48_000, format="OGG", subtype="OPUS")
    verdict = judged(location, source)
    assert any("compared" in problem for problem in verdict.problems), verdict.problems


def test_a_source_that_is_no_sound_is_named(tmp_path: pathlib.Path) -> None:
    captured = noise(1_000, LIVE)
    location = record(tmp_path, captured, LIVE, [(RESTORED, 1_000)], [placed(0, 0, 0)])
    with pytest.raises(InputUnreadable, match=r"a\.json as audio"):
        judged(location, str(tmp_path / "a.json"))


def test_the_command_tells_how_many_samples_are_equal(tmp_path: pathlib.Path) -> None:
    captured = noise(48_000, LIVE)
    source = write(tmp_path / "captured.wav", captured, LIVE)
    samples = captured.copy()
    samples[24_000] ^= 1
    pieces, events = [(RECEIVED, 12_000), (RESTORED, 36_000)], [placed(0, 0, 0)]
    location = record(tmp_path, captured, LIVE, pieces, events)
    with gapless("verify", "--source", source, location) as sound:
        assert sound.end() == 0, sound.lines
    text = "\n".join(sound.lines)
    assert "  restored    75.000%  0.750 s" in text
    assert "  restoring  complete (mode lost)" in text
    assert "  source     36000 of 36000 restored samples are equal" in text
    assert "received sound has correlation 1.000, level +0.00 dB, delay +0.00 ms" in text

    location = record(tmp_path, samples, LIVE, pieces, events)
    with gapless("verify", "--json", "--source", source, location) as differing:
        assert differing.end() == 1
    found = json.loads(differing.lines[0])["source"]
    assert (found["restored_samples"], found["equal_samples"]) == (36_000, 35_999)
    assert found["first_difference"] == 24_000
    with gapless("verify", "--source", str(tmp_path / "gone.wav"), location) as wrong:
        assert wrong.end() == 2
