"""The page's encoder writes FLAC that libsndfile reads, and its digests are those of hashlib."""

from __future__ import annotations

import base64
import hashlib
import io

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.storage.restoring.flac import decode_piece
from domain.sound.formats import AudioFormat, SampleFormat
from tests.rigs.node import NODE, run_in_node

pytestmark = pytest.mark.skipif(NODE is None, reason="Node is not installed")

ENCODE = """
const { encode } = await load("worker/flac.js");
return argument.map(({ pcm, rate, channels }) => {
  const bytes = Buffer.from(pcm, "base64");
  const samples = new Int16Array(bytes.length / 2);
  for (let n = 0; n < samples.length; n++) samples[n] = bytes.readInt16LE(2 * n);
  return Buffer.from(encode(samples, rate, channels)).toString("base64");
});
"""
HASH = """
const { Sha256 } = await load("worker/sha256.js");
return argument.map((parts) => {
  const hash = new Sha256();
  const found = [];
  for (const part of parts) {
    if (typeof part === "number") hash.zeros(part);
    else hash.update(Buffer.from(part, "base64"));
    found.push(hash.hex());
  }
  return found;
});
"""
Sound = npt.NDArray[np.int16]


def encoded(sounds: list[Sound], rate_hz: int = 48_000) -> list[bytes]:
    items = [
        {
            "pcm": base64.b64encode(np.ascontiguousarray(sound, "<i2").tobytes()).decode(),
            "rate": rate_hz,
            "channels": sound.shape[1],
        }
        for sound in sounds
    ]
    return [base64.b64decode(flac) for flac in run_in_node(ENCODE, items)]


def noise(length: int, channels: int, peak: int, seed: int = 0) -> Sound:
    random = np.random.default_rng(seed)
    return random.integers(-peak - 1, peak + 1, (length, channels)).astype(np.int16)


def sounds() -> st.SearchStrategy[Sound]:
    """Sound of all kinds and of lengths around those of blocks."""

    def made(kind: str, length: int, channels: int, peak: int, seed: int) -> Sound:
        if kind == "noise":
            return noise(length, channels, peak, seed)
        if kind == "square":  # at full scale, whose differences are the largest
            high = np.where(np.arange(length * channels) % 2, 32767, -32768)
            return high.reshape(length, channels).astype(np.int16)
        if kind == "walk":
            walk = np.cumsum(noise(length, channels, peak // 64 + 1, seed), axis=0, dtype=np.int64)
            return np.clip(walk, -32768, 32767).astype(np.int16)
        if kind == "opposite":
            return noise(length, 1, peak, seed) * np.array([[1, -1][:channels]], np.int16)
        if kind == "bursts":
            loud = np.random.default_rng(seed).random((length, channels)) < 0.01
            return np.where(loud, noise(length, channels, 32767, seed), 0).astype(np.int16)
        tone = peak * np.sin(np.arange(length) / (seed % 50 + 1))
        return np.repeat(tone[:, None], channels, axis=1).astype(np.int16)

    kinds = ["noise", "square", "walk", "opposite", "bursts", "tone"]
    lengths = st.one_of(
        st.integers(1, 40), st.integers(1, 9000), st.sampled_from([4095, 4096, 4097, 8192])
    )
    return st.builds(
        made, st.sampled_from(kinds), lengths, st.integers(1, 2),
        st.sampled_from([0, 1, 300, 32767]), st.integers(0, 2**16),
    )  # fmt: skip


@settings(max_examples=12, deadline=None)
@given(st.lists(sounds(), min_size=20, max_size=40), st.sampled_from([48_000, 44_100, 47_999]))
def test_all_sound_is_read_as_it_was(examples: list[Sound], rate_hz: int) -> None:
    for sound, flac in zip(examples, encoded(examples, rate_hz), strict=True):
        found, found_rate = soundfile.read(io.BytesIO(flac), dtype="int16", always_2d=True)
        assert found_rate == rate_hz
        assert np.array_equal(found, sound)


@pytest.mark.parametrize("channels", [1, 2])
def test_the_longest_piece_is_taken_by_the_server(channels: int) -> None:
    sound = noise(480_000 // channels, channels, 3000)
    (flac,) = encoded([sound])
    pcm = decode_piece(flac, AudioFormat(48_000, channels, SampleFormat.S16))
    assert pcm == sound.tobytes()


def test_sound_becomes_smaller() -> None:
    """Silence takes next to nothing, noise hardly more than itself, and equal channels are one."""
    tone = (8000 * np.sin(np.arange(48_000) / 20)).astype(np.int16)[:, None]
    silence = np.zeros((48_000, 1), np.int16)
    loud = noise(48_000, 1, 32767)
    both = np.repeat(tone, 2, axis=1)
    sizes = [len(flac) for flac in encoded([silence, tone, loud, both])]
    assert sizes[0] < 300
    assert sizes[1] < 0.5 * tone.nbytes
    assert sizes[2] < 1.01 * loud.nbytes
    assert sizes[3] < sizes[1] + 300


@settings(max_examples=10, deadline=None)
@given(
    st.lists(
        st.lists(st.one_of(st.binary(max_size=300), st.integers(0, 70_000)), max_size=5),
        min_size=10,
        max_size=30,
    )
)
def test_digests_are_those_of_hashlib_after_every_part(examples: list[list[bytes | int]]) -> None:
    given_parts = [
        [part if isinstance(part, int) else base64.b64encode(part).decode() for part in parts]
        for parts in examples
    ]
    for parts, found in zip(examples, run_in_node(HASH, given_parts), strict=True):
        hashed = hashlib.sha256()
        for part, digest in zip(parts, found, strict=True):
            hashed.update(bytes(part) if isinstance(part, int) else part)
            assert digest == hashed.hexdigest()
