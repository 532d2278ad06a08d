"""Whatever arrives in whatever order, the first sound at a position stays, and nothing else."""

from __future__ import annotations

import asyncio
import pathlib
import tempfile
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from hypothesis import given
from hypothesis import strategies as st

from adapters.storage.restoring.pieces import FolderPieces
from domain.errors import PieceInvalid
from domain.ports.restoring import Pieces
from domain.recording.ledger import RestoreState
from domain.recording.ranges import Range
from domain.recording.restoring import Captured
from domain.sound.formats import AudioFormat, SampleFormat, Samples, silence
from tests.fakes.pieces import FakeRewrite, flac_of, random_sound, restore_key

END = 600
FORMATS = [AudioFormat(48_000, 1), AudioFormat(44_100, 2, SampleFormat.S24),
           AudioFormat(8000, 3, SampleFormat.U8)]  # fmt: skip


@dataclass(frozen=True)
class Put:
    start: int
    length: int
    wanted: list[Range]


@dataclass(frozen=True)
class WrongPut:
    start: int
    cut: float
    """The part of the file that arrives."""


@dataclass(frozen=True)
class Kill:
    written: int
    """Bytes of the line that the process was writing."""


positions = st.integers(0, END - 1)
ranges = st.builds(Range, positions, st.integers(0, 200))
puts = st.builds(Put, positions, st.integers(1, 200), st.lists(ranges, max_size=4))
steps = st.one_of(
    puts,
    puts,
    st.builds(WrongPut, positions, st.floats(0, 0.99)),
    st.builds(Kill, st.integers(0, 40)),
)


class Model:
    """What is held of a spool."""

    def __init__(self, audio_format: AudioFormat) -> None:
        self.sound = silence(audio_format, 2 * END)
        self.is_held = np.zeros(2 * END, dtype=bool)

    def put(self, step: Put, sound: Samples) -> None:
        new = np.zeros_like(self.is_held)
        for item in step.wanted:
            new[item.start : item.end] = True
        new[: step.start] = new[step.start + len(sound) :] = False
        new &= ~self.is_held
        placed = np.zeros_like(self.sound)
        placed[step.start : step.start + len(sound)] = sound
        self.sound[new] = placed[new]
        self.is_held |= new


def positions_of(held: object) -> npt.NDArray[np.bool_]:
    marked = np.zeros(2 * END, dtype=bool)
    assert isinstance(held, list)
    for item in held:
        assert not marked[item.start : item.end].any()
        marked[item.start : item.end] = True
    return marked


@given(st.sampled_from(FORMATS), st.lists(steps, max_size=12))
def test_the_first_wanted_sound_at_a_position_stays(
    audio_format: AudioFormat, script: list[Put | WrongPut | Kill]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(_play(pathlib.Path(folder), audio_format, script))


async def _play(
    folder: pathlib.Path, audio_format: AudioFormat, script: list[Put | WrongPut | Kill]
) -> None:
    rewrite = FakeRewrite()
    store = FolderPieces(str(folder), lambda _id: True, rewrite)
    pieces: Pieces = await store.begin(restore_key("a0", audio_format))
    model = Model(audio_format)
    for number, step in enumerate(script):
        sound = random_sound(getattr(step, "length", 50), audio_format, seed=number)
        flac = flac_of(sound, audio_format)
        if isinstance(step, Put):
            held = await pieces.put(step.start, flac, step.wanted)
            model.put(step, sound)
            here = positions_of(list(held))
            assert not here[: step.start].any()
            assert not here[step.start + step.length :].any()
            expected = model.is_held[step.start : step.start + step.length]
            assert np.array_equal(here[step.start : step.start + step.length], expected)
        elif isinstance(step, WrongPut):
            try:
                await pieces.put(step.start, flac[: int(step.cut * len(flac))], [Range(0, END)])
                raise AssertionError("half a file was taken")
            except PieceInvalid:
                pass
        else:
            _tear(folder / "a0.restore", step.written)
            (pieces,) = FolderPieces(str(folder), lambda _id: True, rewrite).pending()
        assert np.array_equal(positions_of(pieces.held), model.is_held)
    await pieces.note_captured(Captured(2 * END, "00"))
    await pieces.restore(RestoreState.COMPLETE)
    assert rewrite.samples is not None
    assert np.array_equal(rewrite.samples, model.sound)


def _tear(journal: pathlib.Path, length: int) -> None:
    """Leave the beginning of a line that a killed process was writing."""
    with journal.open("ab") as file:
        file.write(b'{"held":[[0,600]],"synced":true}\n'[:length].rstrip(b"\n"))
