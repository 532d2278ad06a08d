"""Framing loses and repeats no sample, whatever the sizes of the blocks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.sound.formats import AudioFormat, AudioFrame
from domain.sound.framing import Framer

MONO = AudioFormat(48_000, 1)
BLOCKS = st.lists(st.integers(0, 3000), max_size=30)
FRAME_SIZES = st.sampled_from([1, 7, 441, 480, 960])


def counting(start: int, length: int) -> AudioFrame:
    """Make samples whose values are their positions."""
    values = (np.arange(start, start + length) % 30_000).astype("<i2").reshape(-1, 1)
    return AudioFrame(MONO, values, start)


@given(BLOCKS, FRAME_SIZES)
def test_frames_and_tail_together_are_the_blocks(sizes: list[int], frame: int) -> None:
    framer = Framer(MONO, frame_samples=frame)
    blocks, frames, position = [], [], 0
    for size in sizes:
        block = counting(position, size)
        blocks.append(block.samples.tobytes())
        frames += list(framer.push(block))
        position += size
    tail = framer.tail()
    pieces = [item.samples.tobytes() for item in frames]
    assert b"".join(pieces) + (tail.samples.tobytes() if tail else b"") == b"".join(blocks)
    assert all(len(item) == frame for item in frames)
    assert [item.position for item in frames] == [frame * n for n in range(len(frames))]
    assert tail is None or 0 < len(tail) < frame
    assert framer.tail() is None


@given(st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 5000)), max_size=20), FRAME_SIZES)
def test_every_sample_stays_at_its_position_and_holes_are_silent(
    steps: list[tuple[int, int]], frame: int
) -> None:
    framer = Framer(MONO, frame_samples=frame)
    sent: dict[int, int] = {}
    frames, position = [], 0
    for size, hole in steps:
        position += hole
        block = counting(position, size)
        sent.update(
            zip(range(position, position + size), block.samples[:, 0].tolist(), strict=True)
        )
        frames += list(framer.push(block))
        position += size
    if (tail := framer.tail()) is not None:
        frames.append(tail)
    got: dict[int, int] = {}
    end = 0
    for item in frames:
        assert item.position >= end, "frames go forward and never overlap"
        end = item.end
        got.update(zip(range(item.position, item.end), item.samples[:, 0].tolist(), strict=True))
    assert {place: value for place, value in got.items() if place in sent} == sent
    assert all(value == 0 for place, value in got.items() if place not in sent)


def test_a_block_in_the_past_is_refused() -> None:
    framer = Framer(MONO)
    list(framer.push(counting(0, 100)))
    with pytest.raises(ValueError, match="already at 100"):
        list(framer.push(counting(50, 10)))


def test_a_block_of_another_format_is_refused() -> None:
    framer = Framer(MONO)
    stereo = AudioFrame(AudioFormat(48_000, 2), np.zeros((10, 2), dtype="<i2"))
    with pytest.raises(ValueError, match="stereo"):
        list(framer.push(stereo))
