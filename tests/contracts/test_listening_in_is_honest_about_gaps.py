"""The studio's player plays each sample once and in order; what it leaves out, it counts."""

from __future__ import annotations

from typing import Any

import pytest

from tests.rigs.node import NODE, run_in_node

pytestmark = pytest.mark.skipif(NODE is None, reason="Node is not installed")

RATE = 1000
TARGET = 300
"""Samples that wait before it begins."""
BLOCK = 128
PLAY = """
globalThis.sampleRate = argument.rate;
globalThis.currentTime = 0;
globalThis.AudioWorkletProcessor = class {
  port = { postMessage: () => {} };
};
let Player;
globalThis.registerProcessor = (_name, found) => (Player = found);
await load("worker/player.js");
const player = new Player();
const heard = [[], []];
for (const step of argument.steps) {
  if (typeof step === "number") {
    for (let block = 0; block < step; block += 1) {
      const output = [new Float32Array(argument.block), new Float32Array(argument.block)];
      player.process([], [output]);
      output.forEach((channel, index) => heard[index].push(...channel));
    }
  } else {
    const samples = step.samples && Int16Array.from(step.samples);
    player.port.onmessage({ data: { ...step, samples } });
  }
}
const { queued, dry, skipped, missed, played } = player;
return { heard, queued, dry, skipped, missed, played };
"""


def play(*steps: Any) -> dict[str, Any]:
    """Send messages to the player, and let it play so many blocks in between."""
    found: dict[str, Any] = run_in_node(PLAY, {"rate": RATE, "block": BLOCK, "steps": steps})
    return found


def sound(start: int, length: int, channels: int = 1) -> dict[str, Any]:
    """Return samples whose values are their positions, counted from 1."""
    samples = [at + 1 for at in range(start, start + length) for _ in range(channels)]
    return {"samples": samples, "channels": channels}


def positions(heard: list[float]) -> list[int]:
    return [round(value * 32768) for value in heard if value]


def test_nothing_is_played_until_enough_waits() -> None:
    assert not any(play(sound(0, TARGET - 1), 4)["heard"][0])
    found = play(sound(0, TARGET - 1), sound(TARGET - 1, 1), 2)
    assert positions(found["heard"][0]) == [*range(1, 2 * BLOCK + 1)]


def test_each_sample_is_played_once_and_in_order() -> None:
    pieces = [sound(at, 50) for at in range(0, TARGET, 50)]
    found = play(*pieces, 2, sound(TARGET, 37), sound(TARGET + 37, 200), 2)
    assert positions(found["heard"][0]) == [*range(1, 4 * BLOCK + 1)]


def test_what_came_before_the_first_sound_is_heard_makes_nothing_late() -> None:
    found = play(sound(0, 1400), 1)
    assert positions(found["heard"][0])[0] == 1400 - TARGET + 1
    assert (found["queued"], found["skipped"]) == (TARGET - BLOCK, 0)


def test_a_mono_sound_is_heard_on_both_sides_and_a_stereo_one_on_its_own() -> None:
    found = play(sound(0, TARGET), 1)
    assert found["heard"][0] == found["heard"][1] != [0.0] * BLOCK
    stereo = {"samples": [1, -1] * TARGET, "channels": 2}
    left, right = play(stereo, 1)["heard"]
    assert (min(left), max(right)) == (1 / 32768, -1 / 32768)


def test_a_gap_of_the_recording_is_as_long_as_it_was() -> None:
    found = play(sound(0, TARGET), 1, {"silence": 100}, sound(TARGET + 100, 200), 3)
    heard = found["heard"][0]
    at = heard.index(TARGET / 32768)
    assert heard[at + 1 : at + 101] == [0.0] * 100
    assert heard[at + 101] == (TARGET + 101) / 32768


def test_running_dry_is_counted_and_waited_out() -> None:
    found = play(sound(0, TARGET), 4, sound(TARGET, 100), 2)
    assert (found["dry"], found["queued"]) == (1, 100)
    assert positions(found["heard"][0])[-1] == TARGET


def test_what_waits_too_long_is_left_out_and_counted() -> None:
    found = play(sound(0, TARGET), 1, sound(TARGET, 2000), 1)
    assert found["skipped"] == TARGET - BLOCK + 2000 - TARGET
    assert positions(found["heard"][0])[BLOCK] == TARGET + 2000 - TARGET + 1
    assert found["queued"] == TARGET - BLOCK


def test_what_the_server_left_out_is_a_short_gap_and_counted() -> None:
    found = play(sound(0, TARGET), 1, {"missed": 50_000}, sound(50_300, 100), 2)
    assert found["missed"] == 50_000
    assert found["queued"] == TARGET - 3 * BLOCK + 200 + 100


def test_a_gap_of_hours_takes_no_hours() -> None:
    found = play(sound(0, TARGET), 1, {"silence": 3600 * RATE}, 1)
    assert found["queued"] == TARGET - BLOCK
