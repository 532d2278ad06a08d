"""The spool of a page sends what its server wants, as its path allows, until nothing is owed."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.recording.ranges import Range, RangeSet
from tests.rigs.node import NODE, run_in_node

pytestmark = pytest.mark.skipif(NODE is None, reason="Node is not installed")

PIECES = """
const { PiecePlan } = await load("worker/pieces.js");
const { Ranges } = await load("worker/ranges.js");
return argument.map(({ wanted, captured, limit, sent }) => {
  const plan = new PiecePlan(48000, 2);
  plan.limit = limit;
  for (const [samples, bytes, seconds] of sent) plan.sent(samples, bytes, seconds);
  return { pieces: [...plan.pieces(wanted, new Ranges(captured))], size: plan.size };
});
"""
PACE = """
const { Pacer } = await load("worker/pacing.js");
const { capacity, baseS, lossy, seconds } = argument;
const pacer = new Pacer(0);
const rates = [], delays = [];
let queued = 0, sent = 0, waited = 0;
for (let now = 0; now < seconds; now += 0.01) {
  queued = Math.max(0, queued - capacity * 0.01);
  const wait = pacer.waitS(now);
  if (wait === 0) { pacer.granted(600, now); queued += 600; sent += 600; }
  if (Math.round(now * 100) % 50 === 0) {
    const delay = queued / capacity;
    delays.push(delay);
    rates.push(pacer.rate);
    pacer.reported({ roundTripS: baseS + delay, lost: lossy }, now);
  }
}
return { rates, delays, sent };
"""
NO_LIVE = """
const { Pacer } = await load("worker/pacing.js");
const never = new Pacer(0), gone = new Pacer(0), silent = new Pacer(0);
gone.gone();
silent.reported({ roundTripS: 0.01, lost: 0 }, 5);
return {
  never: [never.waitS(1) > 0, never.waitS(10.1)], gone: gone.waitS(0),
  silent: [silent.waitS(9) > 0, silent.waitS(15.1)],
};
"""
MEMORY = """
const { openStore } = await load("worker/store.js");
const store = await openStore("x", { isNew: true });
let next = 0;
for (const length of argument) {
  const bytes = Uint8Array.from({ length }, () => next++ % 251);
  store.append(bytes);
  bytes.fill(0); // it is the caller's
}
const same = (found, offset) => found.every((byte, n) => byte === (offset + n) % 251);
const checks = [];
for (let offset = 0; offset < next; offset += 7)
  checks.push(same(store.read(offset, next - offset), offset));
const slices = await store.slices();
checks.push(same(new Uint8Array(await slices(3, next - 3).arrayBuffer()), 3));
const before = await store.room();
let isFull = false;
try {
  for (;;) store.append(new Uint8Array(64 * 1024 * 1024));
} catch { isFull = true; }
return { checks, kept: store.kept, isFull, before, size: next, room: await store.room() };
"""
SEND = """
globalThis.addEventListener = () => {};
const timers = globalThis.setTimeout;
const waits = [];
globalThis.setTimeout = (call, ms) => {
  if (ms >= 100) waits.push(ms / 1000);
  return timers(call, 0);
};
AbortSignal.timeout = () => new AbortController().signal;
const { Kept } = await load("worker/kept.js");
const { Uploads } = await load("worker/uploads.js");
const { written } = await load("worker/journal.js");
const { openStore } = await load("worker/store.js");

const store = await openStore("x", { isNew: true });
store.note(written({ begun: {
  id: "x", startedAt: "2026-01-31T12:00:00Z", sampleRate: 48000, channels: 1, name: "", room: "",
} }));
const kept = new Kept(store);
if (argument.session) kept.renew({ id: "i d", secret: "secret" });
for (let n = 0; n < 100; n++)
  kept.add({ frame: n * 1024, at: 1e12 + (n + 1) * 1024 / 48, pcm: new Int16Array(1024).fill(n) });
kept.noteEvent({ type: "mute", at: "2026-01-31T12:00:01Z" });
kept.end();

const requests = [];
const held = [];
globalThis.fetch = async (path, { method, headers, body }) => {
  const what = path.split("/").slice(3).join("/");
  const script = argument.answers[`${method} ${what.split("/")[0]}`]?.shift();
  requests.push([method, path, headers.Authorization, script ?? null]);
  if (script === "away") throw new TypeError("Failed to fetch");
  if (script === "login page") return new Response("<html>", { status: 200 });
  if (script) {
    const [status, answer, after] = script;
    return new Response(answer === null ? null : JSON.stringify(answer), {
      status, headers: after ? { "Retry-After": after } : {},
    });
  }
  if (what === "captured") {
    const { length, sha256 } = JSON.parse(body);
    const left = held.length ? [] : [{ start: 0, length }];
    if (left.length)
      return new Response(JSON.stringify({ state: "waiting", ranges: left }), { status: 409 });
    return new Response(JSON.stringify({ state: "complete", sha256 }));
  }
  if (method === "PUT") { held.push(what); return new Response(null, { status: 204 }); }
  return new Response(null, { status: 204 });
};
const uploads = new Uploads(kept);
const states = [];
uploads.onchange = () => states.push([uploads.state, uploads.reason, uploads.isReachable]);
let finished = await uploads.finish();
const { isForgotten } = finished;
if (argument.renewed) {
  kept.renew({ id: "other", secret: "new" });
  finished = await uploads.finish();
}
uploads.close();
return {
  finished, isForgotten, requests, waits, states, owed: kept.owed, delivered: kept.isDelivered,
  events: kept.events.length, size: store.size, journal: store.journal(),
};
"""

positions = st.integers(0, 400_000)
sets = st.lists(st.builds(Range, positions, st.integers(1, 200_000)), max_size=6).map(RangeSet)


def written(ranges: RangeSet) -> list[dict[str, int]]:
    return [{"start": item.start, "length": item.length} for item in ranges]


@settings(max_examples=5, deadline=None)
@given(
    st.lists(
        st.tuples(
            sets,
            sets,
            st.sampled_from([None, 250.0, 8000.0, 250_000.0]),
            st.lists(st.tuples(st.integers(1, 9999), st.integers(1, 99_999), st.floats(0, 9))),
        ),
        min_size=20,
        max_size=40,
    )
)
def test_what_is_wanted_and_was_captured_is_sent_once(examples: list[Any]) -> None:
    items = [
        {"wanted": written(wanted), "captured": written(captured), "limit": limit, "sent": sent}
        for wanted, captured, limit, sent in examples
    ]
    for (wanted, captured, *_), found in zip(examples, run_in_node(PIECES, items), strict=True):
        assert 960 <= found["size"] <= 480_000
        sent = RangeSet()
        for piece in found["pieces"]:
            start, end = piece["start"], piece["start"] + piece["length"]
            assert 0 < piece["length"] <= found["size"]
            assert not sent.within(start, end), "twice"
            assert captured.covers(start, end)
            sent.add(start, end)
        for item in wanted:
            for part in captured.within(item.start, item.end):
                assert sent.covers(part.start, part.end)


@pytest.mark.parametrize("capacity", [4_000, 20_000, 100_000])
def test_what_is_sent_beside_live_sound_keeps_the_queue_short(capacity: int) -> None:
    """`capacity` bytes a second are left; a queue delays the live sound."""
    path = {"capacity": capacity, "baseS": 0.05, "lossy": 0, "seconds": 120}
    found = run_in_node(PACE, path)
    late = [delay for delay in found["delays"] if delay > 0.3]
    assert len(late) < 0.05 * len(found["delays"])
    assert max(found["delays"]) < 2
    # 600 bytes every 10 ms at most; on the slowest path, these alone are a queue of 150 ms
    assert found["sent"] / 120 > (0.1 if capacity < 10_000 else 0.3) * min(capacity, 60_000)


def test_a_lossy_path_is_used_and_a_bad_one_is_not() -> None:
    path = {"capacity": 100_000, "baseS": 0.05, "seconds": 60}
    assert run_in_node(PACE, path | {"lossy": 0.1})["sent"] > 60 * 10_000
    assert run_in_node(PACE, path | {"lossy": 0.6})["sent"] < 10_000


def test_without_live_sound_nothing_waits() -> None:
    found = run_in_node(NO_LIVE)
    assert found == {"never": [True, 0], "gone": 0, "silent": [True, 0]}


def test_memory_takes_the_place_of_files_up_to_a_limit() -> None:
    found = run_in_node(MEMORY, [1, 2, 3, 500, 1, 999])
    assert (found["kept"], found["isFull"]) == ("memory", True)
    assert found["before"] + found["size"] == 256 * 1024 * 1024
    assert 0 <= found["room"] < 64 * 1024 * 1024
    assert all(found["checks"])


# -- requests ------------------------------------------------------------------------------------


def sent(
    answers: dict[str, list[Any]] | None = None, *, session: bool = True, renewed: bool = False
) -> Any:
    given = {"answers": answers or {}, "session": session, "renewed": renewed}
    found = run_in_node(SEND, given)
    assert found["size"] == 100 * 1024 * 2, "the sound stays"
    return found


def test_all_is_sent_and_confirmed_by_its_hash() -> None:
    found = sent()
    finished = found["finished"]
    assert (finished["state"], finished["isSame"], finished["length"]) == (
        "complete",
        True,
        102_400,
    )
    assert (found["owed"], found["delivered"], found["events"]) == (0, True, 0)
    paths = {path for _, path, *_ in found["requests"]}
    assert all(path.startswith("/sessions/i%20d/") for path in paths)
    assert {bearer for _, _, bearer, _ in found["requests"]} == {"Bearer secret"}


@pytest.mark.parametrize(
    "answer",
    ["away", "login page", [503, {"error": "full"}, "7"], [429, None], [502, None]],
)
@pytest.mark.parametrize("request_", ["POST captured", "PUT sound", "POST capture-events"])
def test_what_fails_for_a_while_is_repeated(request_: str, answer: Any) -> None:
    found = sent({request_: [answer] * 3})
    assert found["finished"]["isSame"]
    assert found["states"][0] == ["sending", "", True]
    if isinstance(answer, list) and len(answer) == 3:
        # the server has asked for seven seconds
        assert len([wait for wait in found["waits"] if wait >= 7]) >= 3
    elif request_ != "POST capture-events":
        assert any(not is_reachable for *_, is_reachable in found["states"])


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
def test_a_refusal_is_told_and_the_sound_stays(status: int) -> None:
    found = sent({"POST captured": [[status, {"error": "not wanted"}]] * 2})
    finished = found["finished"]
    assert (finished["state"], finished["reason"]) == ("refused", "not wanted")
    assert len(finished["sha256"]) == 64
    assert (found["owed"], found["delivered"]) == (102_400, False)


def test_another_session_gets_what_the_server_has_forgotten() -> None:
    forgotten: dict[str, list[Any]] = {"POST captured": [[401, {"error": "unknown"}]]}
    found = sent(forgotten, renewed=True)
    assert found["isForgotten"]
    assert (found["finished"]["state"], found["finished"]["isSame"]) == ("complete", True)
    paths = [(path.split("/")[2], bearer) for _, path, bearer, _ in found["requests"]]
    assert paths[0] == ("i%20d", "Bearer secret")
    assert paths[-1] == ("other", "Bearer new")
    # a page after this one goes on with it
    known = run_in_node(
        'return (await load("worker/journal.js")).read(argument).session', found["journal"]
    )
    assert known == {"id": "other", "secret": "new"}


@pytest.mark.parametrize("status", [403, 404, 422])
def test_what_is_refused_otherwise_needs_no_other_session(status: int) -> None:
    assert not sent({"POST captured": [[status, {"error": "no"}]] * 2})["isForgotten"]


def test_what_has_arrived_once_is_not_sent_to_another_session() -> None:
    """Its recording may have been deleted: it is not to come back."""
    found = sent({"POST captured": [None, [401, {"error": "unknown"}]]})
    assert found["finished"]["state"] == "refused"
    assert not found["isForgotten"]


def test_a_server_that_doubts_the_hash_is_told_it_twice() -> None:
    """It then wants everything once more: one of the pieces was wrong."""
    found = sent({"POST captured": [[422, {"error": "it has another hash"}]]})
    assert found["finished"]["isSame"]


def test_what_a_server_does_not_know_of_events_changes_nothing() -> None:
    found = sent({"POST capture-events": [[404, {"error": "unknown"}]]})
    assert found["finished"]["isSame"]


@pytest.mark.parametrize("state", ["off", "expired"])
def test_a_server_that_wants_nothing_ends_it(state: str) -> None:
    found = sent({"POST captured": [[200, {"state": state, "sha256": None}]]})
    assert (found["finished"]["state"], found["finished"]["isSame"]) == (state, False)
    assert not found["delivered"]


def test_without_a_session_nothing_is_asked() -> None:
    found = sent(session=False)
    assert (found["finished"]["state"], found["requests"]) == ("refused", [])
