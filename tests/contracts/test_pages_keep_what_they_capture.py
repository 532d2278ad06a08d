"""The spool of a page: positions are time, and what a killed page has written counts."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.recording.ranges import RangeSet
from tests.rigs.node import NODE, run_in_node

pytestmark = pytest.mark.skipif(NODE is None, reason="Node is not installed")

RATE = 48_000
BLOCK = 1024

RANGES = """
const { Ranges } = await load("worker/ranges.js");
return argument.map(({ calls, from, to }) => {
  const ranges = new Ranges();
  for (const [name, start, end] of calls) ranges[name](start, end);
  return [[...ranges], ranges.within(from, to), ranges.covers(from, to), ranges.total];
});
"""
AXIS = """
const { Axis } = await load("worker/axis.js");
return argument.map(({ captured, calls, from, to }) => {
  const axis = new Axis();
  axis.captured = captured;
  for (const [at, length] of calls) axis.miss(Math.min(at, axis.length), length);
  const count = Math.min(to, axis.length);
  return [axis.missing, axis.length, axis.parts(Math.min(from, count), count)];
});
"""
STALLS = """
const { Stalls } = await load("worker/stalls.js");
const { rate, block, base, ats } = argument;
const stalls = new Stalls(rate, base);
const found = [];
let position = 0;
for (const at of ats) {
  const stall = stalls.add(position, block, at);
  position += block;
  if (stall) { found.push(stall); position += stall.samples; }
}
return { found, pending: stalls.pending, base: stalls.base };
"""
HEARD = """
const { heard } = await load("worker/heard.js");
const { rate, until, length, comes } = argument;
const kept = {
  length,
  ended: argument.ended ?? "",
  lengthAt: (s) => Math.max(kept.length, Math.round((s - 1e9) * rate)),
};
let at = 0;
const timer = setInterval(() => { if (++at <= comes) kept.length += 1024; }, 20);
const begun = performance.now();
await heard(kept, until);
clearInterval(timer);
return { length: kept.length, took: (performance.now() - begun) / 1000 };
"""
KEPT = """
const { Kept } = await load("worker/kept.js");
const { written } = await load("worker/journal.js");
const disk = { sound: [], journal: "" };
const store = () => ({
  kept: "disk",
  get size() { return disk.sound.length; },
  append(bytes) {
    if (disk.sound.length + bytes.length > (argument.room ?? Infinity)) throw new Error("full");
    for (const byte of bytes) disk.sound.push(byte);
  },
  read: (offset, length) => Uint8Array.from(disk.sound.slice(offset, offset + length)),
  flush() {},
  async slices() {
    return (from, length) => new Blob([Uint8Array.from(disk.sound.slice(from, from + length))]);
  },
  room: async () => null,
  journal: () => disk.journal,
  note(text) { disk.journal += text; },
  close() {},
});
const { channels, pages } = argument;
disk.journal = written({ begun: {
  id: "spool", startedAt: "2001-09-09T01:46:40Z", sampleRate: 48000, channels, name: "", room: "",
} });
let kept, wrong = 0;
const events = [];
for (const { blocks, session, isKilled, cut } of pages) {
  kept = new Kept(store());
  kept.onstall = (event) => events.push(event);
  if (session) kept.renew(session);
  for (const { frame, at, length, value } of blocks) {
    kept.add({ frame, at: at * 1000, pcm: new Int16Array(length * channels).fill(value) });
    kept.hash();
  }
  if (!isKilled) kept.end();
  if (cut) disk.journal = disk.journal.slice(0, -cut);
}
while (!kept.hash());
const wav = new Uint8Array(await (await kept.wav()).arrayBuffer());
return {
  sha256: kept.sha256, length: kept.length, missing: kept.missing, session: kept.session, events,
  captured: [...kept.captured], noted: kept.events, ended: kept.ended, owed: kept.owed,
  safe: kept.safe, wav: Buffer.from(wav).toString("base64"), startedAt: kept.startedAt,
};
"""

positions = st.integers(0, 60)


@settings(max_examples=5, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.lists(
                st.tuples(st.sampled_from(["add", "remove"]), positions, positions), max_size=12
            ),
            positions,
            positions,
        ),
        min_size=30,
        max_size=60,
    )
)
def test_ranges_are_those_of_the_server(
    examples: list[tuple[list[tuple[str, int, int]], int, int]],
) -> None:
    items = [{"calls": calls, "from": start, "to": end} for calls, start, end in examples]
    for (calls, start, end), found in zip(examples, run_in_node(RANGES, items), strict=True):
        model = RangeSet()
        for name, first, last in calls:
            getattr(model, name)(first, last)

        def written(ranges: Any) -> Any:
            return [{"start": item.start, "length": item.length} for item in ranges]

        inside = model.within(start, end) if start < end else []
        assert found == [written(model), written(inside), model.covers(start, end), model.total]


@settings(max_examples=5, deadline=None)
@given(
    st.lists(
        st.tuples(
            positions,
            st.lists(st.tuples(positions, st.integers(1, 9)), max_size=8),
            positions,
            st.integers(0, 200),
        ),
        min_size=30,
        max_size=60,
    )
)
def test_what_was_missed_moves_what_lies_behind(
    examples: list[tuple[int, list[tuple[int, int]], int, int]],
) -> None:
    items = [
        {"captured": captured, "calls": calls, "from": start, "to": end}
        for captured, calls, start, end in examples
    ]
    for (captured, calls, start, end), found in zip(
        examples, run_in_node(AXIS, items), strict=True
    ):
        axis: list[int | None] = list(range(captured))  # of each position, its place in the file
        for at, length in calls:
            at = min(at, len(axis))
            # what is missed at the edge of a range joins it
            axis[at:at] = [None] * length
        missing, total, parts = found
        assert total == len(axis)
        model = RangeSet()
        for position, offset in enumerate(axis):
            if offset is None:
                model.add(position, position + 1)
        assert missing == [{"start": item.start, "length": item.length} for item in model]
        told: list[int | None] = []
        for part in parts:
            assert part["start"] == min(start, end, len(axis)) + len(told)
            offset = part["offset"]
            told += [None if offset is None else offset + n for n in range(part["length"])]
        assert told == axis[min(start, end) : end]


def stalls(ats: list[float], base: float | None = None) -> Any:
    return run_in_node(STALLS, {"rate": RATE, "block": BLOCK, "base": base, "ats": ats})


def rendered(seconds: float, *, drift: float = 0.0, jitter_s: float = 0.0) -> np.ndarray[Any, Any]:
    """Return when blocks are rendered, of a clock that is `drift` faster than the samples."""
    count = int(seconds * RATE / BLOCK)
    ideal = 1e9 + (np.arange(count) + 1) * BLOCK / RATE * (1 + drift)
    return ideal + np.random.default_rng(1).uniform(0, jitter_s, count)


@pytest.mark.parametrize("drift", [-3e-4, 0.0, 3e-4])
def test_jitter_and_drift_are_no_stall(drift: float) -> None:
    found = stalls(list(rendered(900, drift=drift, jitter_s=0.12)))
    assert found["found"] == []
    # the beginning of the spool is where its last seconds say that it was
    assert found["base"] == pytest.approx(1e9 + 900 * drift, abs=0.01)


def test_a_busy_machine_is_no_stall() -> None:
    ats = rendered(20)
    late = (ats > 1e9 + 8) & (ats < 1e9 + 9.5)
    ats[late] += 0.5
    assert stalls(list(ats))["found"] == []


@pytest.mark.parametrize("stalled_s", [0.2, 1.0, 300.0])
def test_time_that_was_not_captured_is_found_where_it_was(stalled_s: float) -> None:
    ats = rendered(30, drift=1e-4, jitter_s=0.05)
    behind = int(12 * RATE / BLOCK)
    ats[behind:] += stalled_s
    (found,) = stalls(list(ats))["found"]
    assert found["position"] == pytest.approx(behind * BLOCK, abs=3 * BLOCK)
    assert found["samples"] / RATE == pytest.approx(stalled_s, abs=0.02)


@pytest.mark.parametrize("lost_s", [0.02, 0.06, 0.14])
def test_bits_that_are_lost_one_by_one_add_up(lost_s: float) -> None:
    """As of a browser on a busy machine: each is shorter than its jitter."""
    ats = rendered(300, drift=-1e-4, jitter_s=0.05)
    begun = 1e9 + np.arange(11, 300, 11)
    ats += lost_s * np.searchsorted(begun, ats)
    found = sum(stall["samples"] for stall in stalls(list(ats))["found"]) / RATE
    # as late as this all may be at the end, and in 300 s clocks may differ by so much
    assert lost_s * len(begun) - found == pytest.approx(0, abs=0.15 + 300 * 5e-4)


def test_a_clock_that_is_set_back_changes_nothing() -> None:
    ats = rendered(40)
    ats[len(ats) // 2 :] -= 3600
    assert stalls(list(ats))["found"] == []


def test_a_page_after_a_reload_knows_how_long_nobody_captured() -> None:
    found = stalls([1e9 + 42.5 + at - 1e9 for at in rendered(5)], base=1e9)["found"]
    assert [(stall["position"], round(stall["samples"] / RATE, 2)) for stall in found] == [
        (0, 42.5)
    ]


# -- the end of a spool ---------------------------------------------------------------------------


def heard(until_s: float, length_s: float, *, comes: int, ended: str = "") -> Any:
    """Wait for sound of which a block comes every 20 ms, until `comes` have."""
    length = round(length_s * RATE)
    given = {"rate": RATE, "until": 1e9 + until_s, "length": length, "comes": comes}
    return run_in_node(HEARD, {**given, "ended": ended})


def test_sound_that_a_browser_holds_back_is_waited_for() -> None:
    found = heard(10.0, 9.8, comes=1000)
    assert 10.0 <= found["length"] / RATE < 10.15
    assert found["took"] >= 9 * 0.02


@pytest.mark.parametrize(("comes", "ended"), [(0, ""), (3, ""), (1000, "full")])
def test_sound_that_does_not_come_is_not_waited_for(comes: int, ended: str) -> None:
    found = heard(70.0, 9.8, comes=comes, ended=ended)
    assert found["took"] < (0.1 if ended else 1.5)


# -- a whole spool -------------------------------------------------------------------------------


def blocks(first_s: float, count: int, *, value: int, frame: int = 0) -> list[dict[str, Any]]:
    return [
        {
            "frame": frame + n * BLOCK,
            "at": 1e9 + first_s + (n + 1) * BLOCK / RATE,
            "length": BLOCK,
            "value": value,
        }
        for n in range(count)
    ]


def kept(*pages: dict[str, Any], channels: int = 1, **options: Any) -> Any:
    found = run_in_node(KEPT, {"channels": channels, "pages": pages, **options})
    wav = base64.b64decode(found["wav"])
    assert len(wav) == 44 + 2 * channels * found["length"]
    assert hashlib.sha256(wav[44:]).hexdigest() == found["sha256"]
    found["pcm"] = np.frombuffer(wav[44:], "<i2").reshape(-1, channels)
    return found


def spans(pcm: np.ndarray[Any, Any]) -> list[tuple[int, int]]:
    """Return the values of the first channel, with how many samples have each."""
    found: list[tuple[int, int]] = []
    for value in pcm[:, 0].tolist():
        if found and found[-1][0] == value:
            found[-1] = (value, found[-1][1] + 1)
        else:
            found.append((value, 1))
    return found


@pytest.mark.parametrize("channels", [1, 2])
def test_all_that_was_captured_is_kept(channels: int) -> None:
    found = kept({"blocks": blocks(0, 100, value=7)}, channels=channels)
    assert spans(found["pcm"]) == [(7, 100 * BLOCK)]
    assert (found["owed"], found["safe"], found["missing"]) == (100 * BLOCK, 0, [])
    assert found["startedAt"].startswith("2001-09-09T01:46:")


def test_blocks_that_were_lost_are_silence_of_their_length() -> None:
    lost = [*blocks(0, 50, value=7), *blocks(51 * BLOCK / RATE, 150, value=8, frame=51 * BLOCK)]
    found = kept({"blocks": lost})
    assert spans(found["pcm"]) == [(7, 50 * BLOCK), (0, BLOCK), (8, 150 * BLOCK)]
    assert found["missing"] == [{"start": 50 * BLOCK, "length": BLOCK}]


def test_time_in_which_the_browser_did_not_run_is_silence() -> None:
    suspended = [
        *blocks(0, 50, value=7),
        *blocks(50 * BLOCK / RATE + 5, 150, value=8, frame=50 * BLOCK),
    ]
    found = kept({"blocks": suspended})
    assert spans(found["pcm"]) == [(7, 50 * BLOCK), (0, 5 * RATE), (8, 150 * BLOCK)]
    assert [(event["type"], event["seconds"]) for event in found["events"]] == [("stall", 5)]
    assert found["noted"][0]["position"] == 50 * BLOCK


@pytest.mark.parametrize("cut", [0, 1, 12])
def test_a_killed_page_is_gone_on_with_behind_the_time_that_nobody_captured(cut: int) -> None:
    """Its last block was not written, and the last line of its journal may be cut off."""
    found = kept(
        {"blocks": blocks(0, 51, value=7), "session": {"id": "a", "secret": "b"}, "isKilled": True},
        {"blocks": [], "isKilled": True, "cut": cut},
        {"blocks": blocks(10, 150, value=8, frame=999)},
    )
    gap = round(10 * RATE) - 50 * BLOCK
    assert spans(found["pcm"]) == [(7, 50 * BLOCK), (0, gap), (8, 150 * BLOCK)]
    assert found["session"] == {"id": "a", "secret": "b"}


def test_a_page_that_stops_soon_after_a_reload_has_its_time_right() -> None:
    found = kept(
        {"blocks": blocks(0, 50, value=7), "isKilled": True},
        {"blocks": blocks(4, 10, value=8)},
    )
    assert spans(found["pcm"])[1:] == [(0, 4 * RATE - 50 * BLOCK), (8, 10 * BLOCK)]


def test_a_full_disk_ends_the_spool_and_keeps_what_is_there() -> None:
    found = kept({"blocks": blocks(0, 100, value=7)}, room=60 * BLOCK * 2)
    assert found["ended"] == "full"
    assert spans(found["pcm"]) == [(7, 60 * BLOCK)]


def test_silence_for_hours_ends_the_spool() -> None:
    """A server refuses spools of which too much is missing."""
    slept = [*blocks(0, 50, value=7), *blocks(9 * 3600, 150, value=8, frame=50 * BLOCK)]
    found = kept({"blocks": slept})
    assert found["ended"] == "missing"
    assert found["missing"] == []
