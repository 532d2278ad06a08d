"""The studio's word on a session, its picture of the last minute, and its alarms."""

from __future__ import annotations

import itertools
import re
from typing import Any

import pytest

from adapters.http.pages.handlers import FILES
from domain.recording.ledger import SampleKind
from domain.session.alarm_kinds import AlarmKind, AlarmLevel
from domain.session.capture import CaptureChange
from domain.session.session import SessionState
from tests.contracts.test_pages_are_served import texts_of
from tests.rigs.node import NODE, run_in_node

pytestmark = pytest.mark.skipif(NODE is None, reason="Node is not installed")

SLOT = 24_000
"""Samples of half a second at 48 kHz."""


def session(state: str = "recording", **track: Any) -> dict[str, Any]:
    return {"state": state, "tracks": [{"recording": "r", "wanted": 0, "fault": None, **track}]}


def alarm(kind: str = "silence", level: str = "warning", **values: Any) -> dict[str, Any]:
    since = "2026-01-01T00:00:00.000Z"
    return {"id": "a", "kind": kind, "level": level, "session": "s", "since": since, **values}


def shares(**lacking: float) -> dict[str, float]:
    return {"silence": 0.0, "concealed": 0.0, "recovered": 0.5, "dtx": 0.1, **lacking}


CASES: list[tuple[str, dict[str, Any], list[Any], dict[str, float], tuple[str, str]]] = [
    ("all is there", session(), [], shares(), ("good", "good")),
    ("a little is missing", session(), [], shares(silence=0.001), ("look", "missing")),
    ("much is missing", session(), [], shares(concealed=0.01, silence=0.015), ("bad", "missing")),
    ("much is to come", session(wanted=99), [], shares(silence=0.2), ("look", "to_come")),
    ("a warning", session(), [alarm()], shares(), ("look", "alarm.silence")),
    ("an urgent one", session(), [alarm("loss", "critical")], shares(), ("bad", "alarm.loss")),
    ("a full disk", session(fault="full"), [], shares(), ("bad", "fault")),
    ("not there", session("connecting", recording=None), [], shares(), ("waiting", "connecting")),
    ("no sound yet", session("silent", recording=None), [], shares(), ("waiting", "begin")),
    ("gone", session("interrupted"), [], shares(), ("look", "away")),
    ("silent", session("silent"), [], shares(), ("look", "nothing")),
]  # fmt: skip


def test_a_session_gets_one_word() -> None:
    script = """
    const { judge } = await load("studio/verdict.js");
    return argument.map(([, session, alarms, shares]) => judge(session, alarms, [shares]));
    """
    judged = run_in_node(script, [case[:4] for case in CASES])
    found = {case[0]: (one["word"], one["why"]) for case, one in zip(CASES, judged, strict=True)}
    assert found == {case[0]: case[4] for case in CASES}


def test_a_track_that_is_bad_is_not_hidden_by_another() -> None:
    script = """
    const { judge } = await load("studio/verdict.js");
    return judge(...argument);
    """
    judged = run_in_node(script, [session(), [], [shares(), shares(silence=0.5)]])
    assert (judged["word"], judged["share"]) == ("bad", 0.5)


def happened(*events: tuple[str, str]) -> Any:
    script = """
    const { Microphone } = await load("studio/microphone.js");
    const { judge } = await load("studio/verdict.js");
    const microphone = new Microphone();
    for (const [what, text] of argument.events) microphone.add({ what, text, seconds: null });
    const { word } = judge(argument.session, [], [], microphone.obstacle);
    return [microphone.obstacle, word, microphone.latest.what];
    """
    return run_in_node(script, {"events": events, "session": session()})


def test_a_microphone_that_is_not_heard_is_told_until_it_is_heard() -> None:
    assert happened(("mute", "")) == ["mute", "bad", "mute"]
    assert happened(("mute", ""), ("unmute", "")) == [None, "good", "unmute"]
    assert happened(("ended", "USB"), ("microphone", "Built-in")) == [None, "good", "microphone"]
    assert happened(("interrupted", ""), ("hidden", "")) == ["interrupted", "bad", "hidden"]
    assert happened(("interrupted", ""), ("resumed", "")) == [None, "good", "resumed"]


def test_what_a_speaker_does_on_purpose_is_no_fault() -> None:
    assert happened(("mute", "by the speaker")) == ["mute.speaker", "look", "mute.speaker"]
    assert happened(("mute", "paused")) == ["mute.paused", "waiting", "mute.paused"]
    # one hand does not take back what the other has done
    assert happened(("mute", "paused"), ("unmute", "by the speaker"))[0] == "mute.paused"
    assert happened(("mute", "paused"), ("unmute", "continued"))[0] is None


def told(length: int, peak_dbfs: float | None = -6.0, **lost: int) -> dict[str, Any]:
    samples = {kind.value: 0 for kind in SampleKind} | lost
    samples["received"] = length - sum(lost.values())
    return {"length": length, "channels": [{"peak_dbfs": peak_dbfs}], "samples": samples}


def shown(*tellings: dict[str, Any], fill: Any = None) -> dict[str, Any]:
    script = """
    const { History } = await load("studio/history.js");
    const history = new History(48000);
    for (const told of argument.tellings) history.add(told);
    if (argument.fill) history.fill(...argument.fill);
    return history.shown();
    """
    found: dict[str, Any] = run_in_node(script, {"tellings": tellings, "fill": fill})
    return found


def kinds(found: dict[str, Any]) -> list[str | None]:
    return [None if one is None else one["kind"] for one in found["intervals"]]


def test_what_was_lost_colours_the_half_second_in_which_it_was() -> None:
    quarter = SLOT // 2
    found = shown(*(told(quarter * n, silence=960 if n > 4 else 0) for n in range(1, 9)))
    assert kinds(found) == ["received", "received", "silence", "received"]
    assert found["intervals"][1]["max"] == pytest.approx(10 ** (-6 / 20))
    assert found["to"] == 1


def test_events_that_do_not_come_in_step_leave_no_holes() -> None:
    lengths = itertools.accumulate([9_000, 21_000, 26_000, 20_000, 24_000, 13_000])
    assert None not in kinds(shown(*map(told, lengths)))


def test_a_gap_that_is_told_at_once_is_coloured_as_a_whole() -> None:
    found = shown(told(SLOT), told(4 * SLOT, None, silence=3 * SLOT))
    assert kinds(found) == [None, "silence", "silence", "silence"]
    assert found["intervals"][1]["max"] == 0


def test_the_latest_minute_is_kept_and_no_more() -> None:
    found = shown(*(told(SLOT * n) for n in range(1, 300)))
    assert len(found["intervals"]) == 120
    assert (found["from"], found["to"]) == (0, 1)


def test_what_was_before_the_first_event_is_filled_in() -> None:
    before = [{"min": -1, "max": 1, "kind": "concealed"}] * 4
    found = shown(told(4 * SLOT), told(5 * SLOT), fill=[0, 4 * SLOT, before])
    assert kinds(found) == ["concealed"] * 4 + ["received"]


def test_a_process_that_counts_anew_is_no_loss() -> None:
    """Samples are counted since the process began; that of a worker that died is another one."""
    early = told(10 * SLOT, silence=5 * SLOT)
    late = told(11 * SLOT) | {"samples": {kind.value: 0 for kind in SampleKind}}
    assert kinds(shown(early, late))[-1] == "received"


def book(*calls: tuple[str, Any], dismissed: dict[str, str] | None = None) -> Any:
    script = """
    const { AlarmBook } = await load("studio/alarm-book.js");
    const book = new AlarmBook(argument.dismissed ?? {});
    for (const [name, value] of argument.calls) book[name](value);
    return {
      shown: book.shown().map(({ id }) => id),
      all: book.all().map(({ id }) => id),
      ended: book.ended.map(({ id }) => id),
      dismissed: Object.fromEntries(book.dismissed),
    };
    """
    return run_in_node(script, {"calls": calls, "dismissed": dismissed})


def test_an_alarm_that_was_dismissed_comes_back_when_it_gets_worse() -> None:
    dismissed = book(("raise", alarm()), ("dismiss", "a"))
    assert (dismissed["shown"], dismissed["all"]) == ([], ["a"])
    worse = book(("raise", alarm()), ("dismiss", "a"), ("raise", alarm(level="critical")))
    assert worse["shown"] == ["a"]
    again = book(("raise", alarm(level="critical")), ("dismiss", "a"), ("raise", alarm()))
    assert again["shown"] == []


def test_what_was_dismissed_is_remembered_while_it_is_on() -> None:
    listed = {"on": [alarm()], "ended": []}
    assert book(("replace", listed), dismissed={"a": "warning", "old": "critical"}) == {
        "shown": [], "all": ["a"], "ended": [], "dismissed": {"a": "warning"},
    }  # fmt: skip
    over = book(("replace", listed), ("end", alarm()), dismissed={"a": "warning"})
    assert over == {"shown": [], "all": [], "ended": ["a"], "dismissed": {}}


def test_what_is_urgent_comes_first() -> None:
    alarms = [
        alarm(id="late", since="2026-01-01T00:00:02.000Z"),
        alarm(id="early", since="2026-01-01T00:00:01.000Z"),
        alarm(id="urgent", level="critical", since="2026-01-01T00:00:03.000Z"),
    ]
    assert book(*(("raise", one) for one in alarms))["shown"] == ["urgent", "early", "late"]


def test_there_is_a_text_for_all_that_the_server_may_say() -> None:
    """These keys are put together in the scripts."""
    there = texts_of("studio", "en").keys()
    assert {f"why.alarm.{kind.value}" for kind in AlarmKind} <= there
    assert {f"alarms.level.{level.value}" for level in AlarmLevel} <= there
    assert {f"state.{state.value}" for state in SessionState} <= there
    words = re.findall(r'word: "(\w+)", why: "(\w+)"', (FILES / "studio/verdict.js").read_text())
    assert len(words) > 5
    for word, why in words:
        assert {f"verdict.{word}", f"live.count.{word}", f"why.{why}"} <= there
    (states,) = re.findall(
        r"@typedef \{([^}]+)\} State", (FILES / "studio/listener.js").read_text()
    )
    assert {f"listen.state.{state}" for state in re.findall(r'"(\w+)"', states)} <= there
    assert "why.to_come" in there
    assert {f"mic.{change.value}" for change in CaptureChange} <= there
    by_hand = itertools.product(["mute", "unmute"], ["speaker", "paused"])
    assert {f"mic.{change}.{hand}" for change, hand in by_hand} <= there
