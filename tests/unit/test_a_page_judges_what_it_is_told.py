"""What the speaker's page makes of levels, links and messages, in Node."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.rigs.node import NODE, run_in_node

pytestmark = pytest.mark.skipif(NODE is None, reason="node is not installed")

HEARD = """
const { Hearing } = await load("speaker/hearing.js");
const hearing = new Hearing();
return argument.map(([peak_dbfs, clipped], index) =>
  hearing.note([{ peak_dbfs, rms_dbfs: peak_dbfs, clipped }], index / 10));
"""


def verdicts(*levels: tuple[float | None, int]) -> list[str]:
    """Return what is said of levels that come 10 times a second: peaks in dBFS, what is clipped."""
    found: list[str] = run_in_node(HEARD, list(levels))
    return found


def test_a_microphone_is_called_silent_after_three_seconds() -> None:
    found = verdicts(*[(None, 0)] * 40)
    assert set(found[:30]) == {"listening"}
    assert set(found[30:]) == {"silent"}


def test_noise_of_a_room_is_silence_too() -> None:
    assert verdicts(*[(-62.0, 0)] * 40)[-1] == "silent"


def test_a_voice_is_good_and_pauses_between_sentences_change_nothing() -> None:
    found = verdicts(*[(-12.0, 0)] * 10, *[(-70.0, 0)] * 25, (-14.0, 0))
    assert set(found) == {"good"}


def test_sound_that_is_clipped_is_told_for_some_seconds() -> None:
    found = verdicts((-3.0, 0), (0.0, 2), *[(-10.0, 0)] * 50)
    assert found[0] == "good"
    assert set(found[1:41]) == {"clips"}
    assert found[-1] == "good"


def test_a_microphone_that_is_far_away_is_called_quiet() -> None:
    assert verdicts(*[(-45.0, 0)] * 60)[-1] == "low"


@pytest.mark.parametrize(
    ("label", "is_virtual"),
    [
        ("Monitor of Built-in Audio Analogue Stereo", True),
        ("CABLE Output (VB-Audio Virtual Cable)", True),
        ("BlackHole 2ch", True),
        ("Stereo Mix (Realtek)", True),
        ("USB Audio CODEC", False),
        ("MacBook Pro Microphone", False),
        ("", False),
    ],
)
def test_devices_that_are_no_microphones_are_known_by_their_names(
    label: str, is_virtual: bool
) -> None:
    script = 'return (await load("speaker/hearing.js")).isVirtual(argument);'
    assert run_in_node(script, label) is is_virtual


def invited(fragment: str) -> dict[str, Any]:
    script = 'return (await load("speaker/invitation.js")).invitationIn(argument);'
    found: dict[str, Any] = run_in_node(script, fragment)
    return found


def token(claims: Any) -> str:
    payload = base64.urlsafe_b64encode(json.dumps(claims, ensure_ascii=False).encode())
    return f"x.{payload.decode().rstrip('=')}.y"


def test_a_link_says_for_whom_it_is() -> None:
    given_token = token({"name": "Zoë ليلى", "room": "friday", "exp": 1_700_000_000, "once": True})
    assert invited(f"#token={given_token}") == {
        "token": given_token,
        "name": "Zoë ليلى",
        "room": "friday",
        "expiresAt": 1_700_000_000,
        "once": True,
    }


@pytest.mark.parametrize(
    "claims",
    [None, 7, "text", [], {"name": 7, "room": {}, "exp": "soon", "once": "yes"}, {"name": None}],
)
def test_claims_that_make_no_sense_are_left_out(claims: Any) -> None:
    found = invited(f"#token={token(claims)}")
    assert (found["name"], found["room"], found["expiresAt"], found["once"]) == (
        "",
        "",
        None,
        False,
    )


def test_names_are_one_line_and_not_endless() -> None:
    name = "a\nb" + "c" * 5000
    found = invited(f"#token={token({'name': name})}")
    assert found["name"].startswith("a b")
    assert len(found["name"]) == 200


@pytest.mark.parametrize(
    "fragment", ["", "#", "#other", "#token=", "#token=one", "#token=%ff.%00."]
)
def test_any_fragment_is_taken(fragment: str) -> None:
    assert invited(fragment)["name"] == ""


@settings(max_examples=5, deadline=None)
@given(st.lists(st.text(min_size=1, max_size=20), min_size=1, max_size=5), st.data())
def test_messages_are_read_from_pieces_of_any_length(texts: list[str], data: st.DataObject) -> None:
    blocks = [
        f"event: message\nid: {number}\ndata: {json.dumps({'text': text, 'at': 'now'})}\n\n"
        for number, text in enumerate(texts)
    ]
    stream = ":\n\n" + ":\n\n".join(blocks)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(stream)), max_size=8)))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    script = """
    const { EventParser } = await load("speaker/messages.js");
    const parser = new EventParser();
    return argument.flatMap((piece) => parser.push(piece));
    """
    found = run_in_node(script, pieces)
    assert [json.loads(event["data"])["text"] for event in found] == texts
    assert [event["id"] for event in found] == [str(number) for number in range(len(texts))]


def test_a_stream_without_an_end_takes_no_more_and_more_memory() -> None:
    script = """
    const { EventParser } = await load("speaker/messages.js");
    const parser = new EventParser();
    for (let count = 0; count < 100; count += 1) parser.push("x".repeat(10_000));
    return parser.rest.length;
    """
    assert run_in_node(script) <= 100_000
