"""Laws of restoring: whatever was received and captured, each sample is what it should be."""

from __future__ import annotations

import pathlib
import tempfile
from collections.abc import Sequence

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.storage.folder.inspection import inspect_recording
from adapters.storage.folder.part import PartOptions
from domain.recording.ledger import RestoreMode, RestoreState, SampleKind
from domain.recording.ranges import Range, RangeSet
from domain.recording.restoring import CROSSFADE, Restoration, Segment, ticks_of
from domain.recording.verification import Limits, verify
from domain.sound.formats import AudioFormat, Samples
from tests.rigs.restoring import SESSION, Folder, Live, captured_of, noise

RESTORED, RECEIVED, SILENCE = SampleKind.RESTORED, SampleKind.RECEIVED, SampleKind.SILENCE
KINDS = [RECEIVED, SampleKind.RECOVERED, SampleKind.CONCEALED, SILENCE, SampleKind.DTX]
MONO = AudioFormat(48_000, 1)
LENGTHS = st.integers(1, 600)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("run"), LENGTHS, st.sampled_from(KINDS)),
        st.tuples(st.just("run"), LENGTHS, st.just(RECEIVED)),
        st.tuples(st.just("stall"), LENGTHS),
        st.tuples(st.just("jump"), LENGTHS, st.integers(0, 2000)),
        st.tuples(st.just("again"), st.integers(1, 400)),
    ),
    max_size=10,
)


def play(live: Live, steps: Sequence[tuple], pre_roll: int) -> None:  # type: ignore[type-arg]
    live.begin(pre_roll)
    for name, *values in steps:
        if name == "run":
            live.run(*values)
        elif name == "stall":
            live.stall(*values)
        elif name == "jump":
            live.jump(*values)
        else:
            live.jump(-values[0], 0)


def expected(
    live: Live, sound: Samples, mode: RestoreMode, held: RangeSet, missing: RangeSet
) -> list[tuple[int | None, SampleKind]]:
    """Return value and kind of each sample; None where nothing is known to the sample."""
    found = np.concatenate([samples for samples, _ in live.sound] or [sound[:0]])
    stalls = dict[int, int]()
    for tick, length in live.stalls:
        stalls[tick] = stalls.get(tick, 0) + length
    result: list[tuple[int | None, SampleKind]] = []
    # then the recording becomes what was captured
    is_replaced = mode is RestoreMode.ALL and not len(
        RangeSet([Range(0, len(sound))]).minus(held).minus(missing)
    )
    for tick in range(len(sound)):
        result += [(0, SILENCE)] * stalls.get(tick, 0)
        position, kind = live.known.get(tick, (None, SILENCE))
        if mode.wants(kind) and held.covers(tick, tick + 1) and not missing.covers(tick, tick + 1):
            result.append((int(sound[tick, 0]), RESTORED))
        elif position is None or is_replaced:
            result.append((0, SILENCE))
        else:
            result.append((int(found[position, 0]), kind))
    return result


@settings(max_examples=60, deadline=None)
@given(
    steps=STEPS,
    pre_roll=st.integers(0, 2000),
    tail=st.integers(0, 2000),
    holes=st.lists(st.tuples(st.integers(0, 3000), LENGTHS), max_size=3),
    lost=st.lists(st.tuples(st.integers(0, 3000), LENGTHS), max_size=2),
    rotate=st.sampled_from([None, 0.01, 0.05]),
    mode=st.sampled_from([RestoreMode.LOST, RestoreMode.ALL]),
)
def test_each_sample_is_captured_or_received(
    steps: list[tuple],  # type: ignore[type-arg]
    pre_roll: int,
    tail: int,
    holes: list[tuple[int, int]],
    lost: list[tuple[int, int]],
    rotate: float | None,
    mode: RestoreMode,
) -> None:
    draft = Live(noise(MONO, 1))
    play(draft, steps, pre_roll)
    length = max(1, draft.told) + tail
    missing = RangeSet(Range(s, min(n, length - s)) for s, n in lost if s < length)
    sound = noise(MONO, length)
    for item in missing:
        sound[item.start : item.end] = 0
    live = Live(sound)
    play(live, steps, pre_roll)
    held = RangeSet([Range(0, length)]).minus(missing)
    held = held.minus(RangeSet(Range(s, n) for s, n in holes))
    with tempfile.TemporaryDirectory() as name:
        folder = Folder(pathlib.Path(name), MONO, mode, PartOptions(rotate_s=rotate))
        folder.record(live)
        try:
            before = folder.read(), folder.kinds()
            result = folder.restore(sound, list(held), missing=list(missing))
            wanted = expected(live, sound, mode, held, missing)
            if not any(kind is RESTORED for _, kind in wanted):
                assert (folder.read() == before[0]).all()
                assert folder.kinds() == before[1]
            else:
                check(folder, wanted)
                assert result.restored == sum(kind is RESTORED for _, kind in wanted)
                assert result.length == len(wanted)
            for path in pathlib.Path(name).glob("*.wav"):
                assert verify(inspect_recording(str(path)), Limits()).ok
            entry = folder.catalogue.ledger(SESSION)
            assert entry["restore"]["state"] == RestoreState.COMPLETE.value
            again = {path: path.stat().st_mtime_ns for path in pathlib.Path(name).glob("*.wav")}
            assert folder.restore(sound, list(held), missing=list(missing)) == result
            assert all(path.stat().st_mtime_ns == ns for path, ns in again.items())
        finally:
            folder.close()


def check(folder: Folder, wanted: list[tuple[int | None, SampleKind]]) -> None:
    kinds = folder.kinds()
    assert kinds == [kind for _, kind in wanted]
    samples = folder.read()[:, 0].tolist()
    assert len(samples) == len(wanted)
    for index, (value, kind) in enumerate(wanted):
        if samples[index] != value:  # only in a seam
            assert kind is RECEIVED
            around = kinds[max(0, index - CROSSFADE) : index + CROSSFADE + 1]
            assert RESTORED in around


def test_segments_of_a_restored_recording_need_nothing(tmp_path: pathlib.Path) -> None:
    sound = noise(MONO, 20_000)
    live = Live(sound)
    play(live, [("run", 4000, RECEIVED), ("stall", 500), ("run", 900, SILENCE),
                ("jump", 3000, 100), ("run", 2000, RECEIVED)], 700)  # fmt: skip
    folder = Folder(tmp_path, MONO)
    folder.record(live)
    folder.restore(sound)
    captured = captured_of(sound, MONO)
    segments = folder.rewrite.segments(folder.key, captured)
    assert not any(segment.is_wanted(RestoreMode.LOST) for segment in segments)
    assert sum(s.length for s in segments if s.captured is not None) == len(sound)
    assert sum(s.length for s in segments if s.captured is None) == 500
    folder.close()


@settings(max_examples=40, deadline=None)
@given(
    steps=STEPS,
    pre_roll=st.integers(0, 2000),
    tail=st.integers(0, 2000),
    rate=st.sampled_from([16_000, 44_100, 48_000, 88_200, 96_000]),
    mode=st.sampled_from([RestoreMode.LOST, RestoreMode.ALL]),
)
def test_what_is_asked_for_is_enough(
    steps: list[tuple],  # type: ignore[type-arg]
    pre_roll: int,
    tail: int,
    rate: int,
    mode: RestoreMode,
) -> None:
    spool = AudioFormat(rate, 1)
    draft = Live(noise(MONO, 1))
    play(draft, steps, pre_roll)
    pcm = noise(spool, -(-(max(1, draft.told) + tail) * rate // 48_000))
    captured = captured_of(pcm, spool)
    live = Live(noise(MONO, ticks_of(len(pcm), rate)))
    play(live, steps, pre_roll)
    with tempfile.TemporaryDirectory() as name:
        folder = Folder(pathlib.Path(name), spool, mode)
        folder.record(live)
        try:
            segments = folder.rewrite.segments(folder.key, captured)
            restoration = Restoration(spool, mode)
            restoration.begin_anew(segments, captured)
            held = restoration.first(10_000)
            wanted = sum(s.length for s in segments if s.is_wanted(mode))
            folder.restore(pcm, held)
            kinds = folder.kinds()
            if mode is RestoreMode.ALL:
                assert kinds.count(RESTORED) == len(pcm)
            else:
                assert kinds.count(RESTORED) == wanted
                assert (len(kinds) == ticks_of(len(pcm), rate) + stalls_in(segments)) or not wanted
        finally:
            folder.close()


def stalls_in(segments: Sequence[Segment]) -> int:
    return sum(segment.length for segment in segments if segment.captured is None)
