"""The example that transcribes a session, with a stand-in for the model."""

from __future__ import annotations

import asyncio
import importlib.util
import itertools
import pathlib
import signal
import subprocess
import sys
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from tests.rigs.processes import gapless, serving

EXAMPLE = pathlib.Path(__file__).parents[2] / "examples" / "transcribe.py"
WORDS = {300: "one", 600: "two", 1_200: "three", 2_400: "four"}
"""Words by the pitch at which they are said, in Hz."""
WORD_S, BLOCK_S = 3, 0.5
TONE = ("stream", "--capture", "tone")


@pytest.fixture(scope="module")
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("transcribe", EXAMPLE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def spoken() -> npt.NDArray[np.float64]:
    """Return the words, each said for a while."""
    seconds = np.arange(WORD_S * 48_000) / 48_000
    return np.concatenate([0.4 * np.sin(2 * np.pi * pitch * seconds) for pitch in WORDS])


def stand_in(block: npt.NDArray[Any]) -> str:
    """Return the word of a block, by its pitch."""
    assert (block.dtype, block.ndim) == (np.float32, 1)
    assert np.abs(block).max() <= 1.0
    spectrum = np.abs(np.fft.rfft(block * np.hanning(len(block))))
    pitch = spectrum.argmax() * 16_000 / len(block)
    return min(WORDS.items(), key=lambda item: abs(item[0] - pitch))[1]


@pytest.mark.timeout(120)
def test_the_words_of_a_session_come_while_it_is_recorded(
    tmp_path: pathlib.Path, example: ModuleType
) -> None:
    token = "a-token-of-the-tests"
    soundfile.write(str(tmp_path / "spoken.wav"), spoken(), 48_000, "PCM_16")
    with serving(tmp_path / "recordings", "--token", token) as server:
        said = ("--capture", "file", "--input", str(tmp_path / "spoken.wav"), "--token", token)
        with gapless("stream", *said, "--server", server.url) as client:
            session = server.process.wait_for("recording,").split()[0]

            async def transcribe() -> list[str]:
                words = example.transcribe(server.url, session, token, stand_in, BLOCK_S)
                heard = []
                async for word in words:
                    heard.append(word)
                    # the end comes a second or more after the last block but one
                    assert client.process.poll() is None or word == "four"
                return heard

            heard = asyncio.run(transcribe())
            assert client.end() == 0
    whole = WORD_S / BLOCK_S
    assert [word for word, _ in itertools.groupby(heard)] == [*WORDS.values()]
    for word in ("two", "three", "four"):
        assert whole - 1 <= heard.count(word) <= whole + 1


@pytest.mark.timeout(120)
def test_the_example_runs_as_it_is(tmp_path: pathlib.Path) -> None:
    with serving(tmp_path) as server, gapless(*TONE, "--server", server.url) as client:
        session = server.process.wait_for("recording,").split()[0]
        command = [sys.executable, str(EXAMPLE), server.url, session]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as running:
            assert running.stdout is not None
            first = running.stdout.readline()
            client.process.send_signal(signal.SIGINT)
            rest, errors = running.communicate(timeout=30)
        assert running.returncode == 0, errors
        assert client.end() == 0
    assert first.startswith("[5.0 s, 0.") and first != "[5.0 s, 0.000]\n"
    assert rest.count("\n") >= 1
    assert errors == '{"type": "end", "reason": "closed"}\n'


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 48_000])
def test_blocks_have_16_khz_whatever_is_recorded(example: ModuleType, rate_hz: int) -> None:
    seconds = np.arange(rate_hz, dtype=np.float32) / rate_hz
    block = example.to_16_khz(np.sin(2 * np.pi * 600 * seconds), rate_hz)
    assert (len(block), stand_in(block)) == (16_000, "two")
