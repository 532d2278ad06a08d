"""What the studio calculates to show recordings: time axes, sittings, happenings, lists, links."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest

from tests.rigs.node import NODE, run_in_node

pytestmark = pytest.mark.skipif(NODE is None, reason="node is not installed")

MICROPHONE = """
globalThis.navigator = { languages: ["en"], language: "en" };
globalThis.document = { documentElement: {} };
const { loadTexts } = await load("shared/text.js");
await loadTexts("studio");
const { microphoneText } = await load("studio/words.js");
return argument.map(microphoneText);
"""
MOVE = """
const { Axis } = await load("studio/axis.js");
return argument.map(({ total, moves }) => {
  const axis = new Axis(total);
  return moves.map(([name, one, place]) => {
    const at = axis.at(place);
    if (name === "zoom") axis.zoom(one, at);
    else axis[name](one);
    return { name, at, place, now: axis.place(at), from: axis.from, to: axis.to, total: axis.total,
      ticks: axis.ticks(12) };
  });
});
"""


def test_an_axis_never_shows_what_is_not_there_and_zooms_where_one_points() -> None:
    chance = random.Random(1)
    cases = [
        {
            "total": chance.choice([0, 0.004, 0.5, 20, 3600.25, 100_000]),
            "moves": [
                [
                    (name := chance.choice(["zoom", "pan", "resize", "reveal", "whole"])),
                    chance.choice([0.1, 0.5, 2, 30, 1000]) * (-1 if name == "pan" else 1),
                    chance.random(),
                ]
                for _ in range(30)
            ],
        }
        for _ in range(200)
    ]
    for case in run_in_node(MOVE, cases):
        for before, step in itertools.pairwise(case):
            assert 0 <= step["from"] < step["to"] <= step["total"] + 1e-9
            ticks, times = step["ticks"]["step"], step["ticks"]["times"]
            assert len(times) <= 13
            assert all(step["from"] - 1e-6 <= time <= step["to"] + 1e-6 for time in times)
            assert all(abs(b - a - ticks) < 1e-6 for a, b in itertools.pairwise(times))
            inside = step["from"] > 1e-9 and step["to"] < step["total"] - 1e-9
            if step["name"] == "zoom" and inside and before["total"] == step["total"]:
                assert step["now"] == pytest.approx(step["place"], abs=1e-6)


def test_who_sees_the_end_of_a_live_recording_goes_on_seeing_it() -> None:
    steps = run_in_node(
        """
        const { Axis } = await load("studio/axis.js");
        const seen = (axis) => [axis.from, axis.to];
        const end = new Axis(100), middle = new Axis(100), whole = new Axis(100);
        end.zoom(10, 100);
        middle.zoom(10, 50);
        for (const axis of [end, middle, whole]) axis.resize(120);
        return [end, middle, whole].map(seen);
        """
    )
    assert steps == [[110, 120], [45, 55], [0, 120]]


@pytest.mark.parametrize(
    ("seconds", "step", "shown"),
    [
        (0, 1, "00:00"), (61.2, 1, "01:01"), (3599.96, 0.1, "1:00:00.0"), (3661, 60, "1:01:01"),
        (1.25, 0.05, "00:01.25"), (1.2504, 0.001, "00:01.250"), (-3, 1, "00:00"),
    ],
)  # fmt: skip
def test_ticks_are_as_fine_as_they_are_apart(seconds: float, step: float, shown: str) -> None:
    script = """
    const { clock } = await load("studio/axis.js");
    return clock(...argument);
    """
    assert run_in_node(script, [seconds, step]) == shown


def a_recording(number: int, at: str, seconds: float, **more: Any) -> dict[str, Any]:
    return {
        "id": f"r{number}", "name": f"n{number}", "started_at": f"2026-01-02T{at}+00:00",
        "seconds": seconds, "room": "Friday", "state": "complete", "size_bytes": number,
        "client_name": f"c{number}", "title": "", "session": f"s{number}",
    } | more  # fmt: skip


def test_recordings_far_apart_are_of_different_sittings() -> None:
    recordings = [
        a_recording(3, "10:40:00", 60),
        a_recording(1, "09:00:00", 3600),
        a_recording(2, "09:00:12.500", 10),
        a_recording(4, "10:30:01", 5),
        a_recording(5, "10:29:00", 61),
    ]
    script = """
    const { sittingsOf } = await load("studio/sittings.js");
    return sittingsOf(argument).map(({ seconds, lanes }) =>
      [seconds, lanes.map(({ recording, start }) => [recording.id, start])]);
    """
    assert run_in_node(script, recordings) == [
        # r5 begins 29 minutes after r1 has ended: that is one sitting
        [6060, [["r1", 0], ["r2", 12.5], ["r5", 5340], ["r4", 5401], ["r3", 6000]]],
    ]
    del recordings[4], recordings[3]
    assert run_in_node(script, recordings) == [
        [60, [["r3", 0]]],
        [3600, [["r1", 0], ["r2", 12.5]]],
    ]


def test_rooms_are_told_apart_without_case() -> None:
    recordings = [
        a_recording(1, "09:00:00", 1, room="Monday"),
        a_recording(2, "10:00:00", 1, room="friday"),
        a_recording(3, "08:00:00", 1, room="Friday", state="live"),
        a_recording(4, "11:00:00", 1, room=None),
    ]
    script = """
    const { roomsOf } = await load("studio/sittings.js");
    return roomsOf(argument).map(({ name, count, isLive }) => [name, count, isLive]);
    """
    assert run_in_node(script, recordings) == [["friday", 2, True], ["Monday", 1, False]]


def test_what_happened_names_why_sound_is_missing_and_leaves_out_what_was_received() -> None:
    ledger = {
        "spans": [
            {"start": 0, "length": 48_000, "kind": "received"},
            {"start": 48_000, "length": 96_000, "kind": "silence"},
            {"start": 144_000, "length": 960, "kind": "concealed"},
            {"start": 144_960, "length": 48_000, "kind": "dtx"},
        ],
        "events": [
            {"type": "stall", "position": 150_000, "length": 960, "evidence": "sender report"},
            {"type": "outage", "position": 48_000, "length": 96_000, "at": None},
            {"type": "of a later server", "position": 10, "more": {"a": 1}, "text": "<b>"},
        ],
    }
    script = """
    const { happeningsOf, samplesByKind } = await load("studio/happenings.js");
    return [happeningsOf(argument, 48_000), samplesByKind(argument)];
    """
    happened, samples = run_in_node(script, ledger)
    assert [(one["type"], one["kind"], one["cause"], one["seconds"]) for one in happened] == [
        ("of a later server", None, "", 0),
        ("", "silence", "outage", 2),
        ("", "concealed", "", 0.02),
        ("stall", None, "", 0.02),
    ]
    assert happened[0]["details"] == [["text", "<b>"]]
    assert happened[3]["details"] == [["evidence", "sender report"]]
    assert samples == {"received": 48_000, "silence": 96_000, "concealed": 960, "dtx": 48_000}


@pytest.mark.parametrize(
    ("url", "warning"),
    [
        ("https://gapless.example/#token=x", None),
        ("https://192.168.0.7:8080/#token=x", None),
        ("http://192.168.0.7:8080/#token=x", "http"),
        ("http://gapless.example/", "http"),
        ("http://localhost:8080/", "loopback"),
        ("https://LOCALHOST./", "loopback"),
        ("http://127.8.0.1/", "loopback"),
        ("http://127.1/", "loopback"),
        ("http://[::1]:8080/", "loopback"),
        ("http://[::ffff:127.0.0.1]/", "loopback"),
        ("https://127.example/", None),
        ("https://localhost.example/", None),
    ],
)
def test_links_that_a_guest_cannot_use_are_told(url: str, warning: str | None) -> None:
    script = """
    const { warningOf } = await load("studio/links.js");
    return warningOf(argument);
    """
    assert run_in_node(script, url) == warning


def test_a_qr_code_has_exactly_its_dark_modules_and_four_free_ones_around_them() -> None:
    rows = ["".join(random.Random(n).choices("01", k=25)) for n in range(25)]
    script = """
    const { pathOf } = await load("studio/qr.js");
    const found = pathOf(argument).matchAll(/M(\\d+) (\\d+)h(\\d+)v1h-(\\d+)z/g);
    return [...found].map((one) => one.slice(1));
    """
    dark = set()
    for x, y, length, back in run_in_node(script, rows):
        assert length == back
        dark |= {(int(x) + n - 4, int(y) - 4) for n in range(int(length))}
    assert dark == {(x, y) for y, row in enumerate(rows) for x, bit in enumerate(row) if bit == "1"}


SERVER = """
const { Source } = await load("studio/source.js");
const asked = [];
globalThis.fetch = async (path) => {
  const query = new URL(path, "http://server").searchParams;
  asked.push(Object.fromEntries(query));
  if (argument.isAway) throw new TypeError("away");
  const all = argument.recordings.filter((one) => one.state === query.get("state"));
  const from = Number(query.get("before") ?? 0);
  const page = all.slice(from, from + 200);
  const next = from + 200 < all.length ? String(from + 200) : null;
  return new Response(JSON.stringify({ recordings: page, next }));
};
const wanted = { name: "", room: "", state: "", sort: "newest", ...argument.wanted };
const source = new Source(wanted, () => {});
const ids = () => source.items.map((one) => one.id);
"""


def many(count: int) -> list[dict[str, Any]]:
    """Return recordings, the newest first; the one that has begun first is live."""
    found = [
        a_recording(n, f"{n // 3600:02}:{n // 60 % 60:02}:{n % 60:02}", n % 7) for n in range(count)
    ]
    found[0]["state"] = "live"
    return found[::-1]


def test_a_list_asks_for_no_more_than_is_seen_and_has_live_ones_first() -> None:
    script = """
    await source.load(200);
    const first = ids();
    await source.load(400);
    return { first: first.slice(0, 3), asked, count: ids().length, more: source.hasMore };
    """
    found = run_in_node(SERVER + script, {"recordings": many(1000)})
    assert found["first"] == ["r0", "r999", "r998"]
    assert [(one["state"], one.get("before")) for one in found["asked"]] == [
        ("live", None), ("complete", None), ("complete", "200"),
    ]  # fmt: skip
    assert (found["count"], found["more"]) == (401, True)


def test_another_order_than_the_servers_needs_all_recordings() -> None:
    script = """
    await source.load(200);
    return [ids().slice(0, 2), ids().length, source.hasMore];
    """
    argument = {"recordings": many(1000), "wanted": {"sort": "largest"}}
    assert run_in_node(SERVER + script, argument) == [["r0", "r999"], 1000, False]


def test_events_put_recordings_where_they_belong() -> None:
    script = """
    await source.load(10);
    const by = (id) => argument.recordings.find((one) => one.id === id);
    source.put({ ...by("r0"), state: "complete" });     // it began first, so it is now the last
    source.put({ ...by("r5"), seconds: 99 });           // has changed
    source.put({ ...by("r9"), id: "new", state: "live" });
    source.put({ ...by("r9"), id: "other", room: "Monday" });  // is not looked for
    source.remove("r7");
    source.remove("unknown");
    return [ids(), source.items.find((one) => one.id === "r5").seconds];
    """
    argument = {"recordings": many(10), "wanted": {"room": "FRIDAY"}}
    ids, seconds = run_in_node(SERVER + script, argument)
    assert ids == ["new", "r9", "r8", "r6", "r5", "r4", "r3", "r2", "r1", "r0"]
    assert seconds == 99


def test_recordings_are_called_as_their_clients_are() -> None:
    titles = ("José", "مريم الحسيني", "")
    slugs = ("jose", "", "")
    recordings = [
        a_recording(number, f"09:00:0{number}", 1, title=title, client_name=slug)
        for number, (title, slug) in enumerate(zip(titles, slugs, strict=True))
    ]
    script = """
    Object.defineProperty(globalThis, "navigator", { value: { languages: ["en"] } });
    globalThis.document = { documentElement: {} };
    const { loadTexts } = await load("shared/text.js");
    await loadTexts("studio");
    const { nameOf } = await load("studio/words.js");
    return argument.map(nameOf);
    """
    assert run_in_node(script, recordings) == ["José", "مريم الحسيني", "Without a name"]
    recordings.append(a_recording(3, "09:00:03", 1, client_name="jose"))  # older than titles
    assert run_in_node(script, recordings[3:]) == ["jose"]


def test_events_put_recordings_into_a_search_by_their_title() -> None:
    script = """
    await source.load(10);
    for (const recording of argument.told) source.put(recording);
    return ids();
    """
    told = [
        a_recording(number, f"09:00:0{number}", 1, title=title)
        for number, title in enumerate(("مريم الحسيني", "José", "MARIA JOSÉ", ""))
    ]
    argument = {"recordings": [], "wanted": {"name": "مريم"}, "told": told}
    assert run_in_node(SERVER + script, argument) == ["r0"]
    argument["wanted"] = {"name": "jose"}
    assert run_in_node(SERVER + script, argument) == ["r2", "r1"]


def test_a_list_says_that_the_server_is_away_and_can_be_asked_again() -> None:
    script = """
    await source.load(200);
    const failed = source.error?.status;
    argument.isAway = false;
    await source.load(200);
    return [failed, source.error, ids().length];
    """
    argument = {"recordings": many(3), "isAway": True}
    assert run_in_node(SERVER + script, argument) == [0, None, 3]


def test_what_happened_to_a_microphone_is_said_in_words() -> None:
    events = [
        {"what": "mute", "text": "paused"},
        {"what": "stall", "seconds": "2.54"},
        {"what": "microphone", "text": "Desk"},
        {"what": "left out", "count": "7"},
        {},
    ]
    assert run_in_node(MICROPHONE, events) == [
        "Paused on the speaker’s page.",
        "It captured nothing for 2.5 s.",
        "Another one is used: \u2068Desk\u2069",
        "",
        "",
    ]
