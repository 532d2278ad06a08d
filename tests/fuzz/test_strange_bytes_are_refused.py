"""Arbitrary bytes are parsed or refused, in bounded time: the fuzzer's seeds and what it found.

`make fuzz` searches for more, and keeps inputs that crash a parser in `tests/fuzz/crashes`.
"""

from __future__ import annotations

import pathlib
import random
import time

import pytest

from tests.fuzz.seeds import seeds
from tests.fuzz.targets import TARGETS

CRASHES = pathlib.Path(__file__).parent / "crashes"
SEEDS = seeds()
SOON_S = 1.0


@pytest.mark.parametrize("name", TARGETS)
def test_intact_input_is_read(name: str) -> None:
    for seed in SEEDS[name]:
        TARGETS[name].run(seed)


@pytest.mark.parametrize("name", TARGETS)
def test_truncated_or_damaged_input_is_read_or_refused(name: str) -> None:
    dice = random.Random(1)
    for seed in SEEDS[name]:
        for _ in range(100):
            damaged = bytearray(seed[: dice.randint(0, len(seed))])
            for _ in range(dice.randint(0, 3)):
                if damaged:
                    damaged[dice.randrange(len(damaged))] = dice.randrange(256)
            TARGETS[name](bytes(damaged))


@pytest.mark.parametrize("name", ["offer", "answer", "fragment"])
def test_repeated_lines_take_linear_time(name: str) -> None:
    lines = {line for seed in SEEDS[name] for line in seed.splitlines(keepends=True)}
    for line in sorted(lines):
        seed = SEEDS[name][-1]
        for times in (900, (99_000 - len(seed)) // len(line)):  # lines and bytes are limited
            started_at = time.thread_time()
            TARGETS[name](seed + line * times)
            assert time.thread_time() - started_at < SOON_S, line


def test_input_that_crashed_once_is_read_or_refused_in_time() -> None:
    for crash in sorted(CRASHES.glob("*/*")):
        started_at = time.thread_time()
        TARGETS[crash.parent.name](crash.read_bytes())
        assert time.thread_time() - started_at < SOON_S, crash
