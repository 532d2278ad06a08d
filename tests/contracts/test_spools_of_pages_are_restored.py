"""A page does not know its RTP timestamps: its spool is restored by time, which is its axis."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

import numpy as np
import pytest

from domain.recording.ledger import RestoreMode, RestoreState, SampleKind
from domain.recording.ranges import Range, RangeSet
from domain.recording.restoring import ABOUT, PADDING, Restoration
from domain.sound.formats import AudioFormat, Samples
from tests.rigs.restoring import SESSION, Folder, Live, captured_of, noise

MONO = AudioFormat(48_000, 1)
SECOND = 48_000
RECEIVED, RESTORED = SampleKind.RECEIVED, SampleKind.RESTORED
CONCEALED, SILENCE = SampleKind.CONCEALED, SampleKind.SILENCE


def page(pcm: Samples, error: int = 0) -> Live:
    """Record what a page sends; where it is in the spool is an estimate that may be wrong."""
    return Live(pcm, about=ABOUT, error=error)


def pass_by(live: Live, length: int) -> None:
    """Let time pass of which nothing arrives: the spool goes on meanwhile."""
    live.at += length
    live.place(length)
    live._add(np.zeros((length, live.pcm.shape[1]), "<i2"), SILENCE)


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
    assert (folder.read()[6 * SECOND : 12 * SECOND] == ~heard[6 * SECOND : 12 * SECOND]).all()
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
