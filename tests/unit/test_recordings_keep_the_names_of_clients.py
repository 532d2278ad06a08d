"""The name that a client gives is kept, in one line, beside the slug in the file's name."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.session.titles import MAX_TITLE_CHARACTERS, title_key, title_of
from tests.unit.test_interrupted_sessions_are_resumed import Killed
from tests.unit.test_sessions_are_recorded import Server, packet


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("", ""), ("José", "José"), ("مريم الحسيني", "مريم الحسيني"), ("👩\u200d🎤", "👩\u200d🎤"),
        ("a\nb\x1b[0m", "a b [0m"), ("Ana\ud800", "Ana"), ("\0", ""), ("a\u2028b", "a b"),
        ("🎙" * 200, "🎙" * 200), ("x" * 201, "x" * 200),
    ],
)  # fmt: skip
def test_a_name_is_kept_without_control_characters(name: str, title: str) -> None:
    assert title_of(name) == title


@given(st.text(st.characters()))
def test_what_is_kept_can_be_kept_again_and_written(name: str) -> None:
    title = title_of(name)
    assert title_of(title) == title and len(title) <= MAX_TITLE_CHARACTERS
    assert title.encode().decode() == title


def test_case_and_accents_do_not_count_in_a_search() -> None:
    assert title_key("JOSÉ Straße") == title_key("jose\u0301 STRASSE") == "jose strasse"
    assert title_key("مُريم") == title_key("مريم")


async def test_a_recording_has_the_name_of_its_client() -> None:
    server = Server()
    session = await server.offer(name="مريم\x1b الحسيني")
    server.receive(*(packet(n) for n in range(1, 6)))
    await server.sessions.delete(session)
    (stored,) = server.store.recordings.values()
    assert stored.info.title == stored.ledger["title"] == "مريم الحسيني"


@pytest.mark.parametrize(("title", "expected"), [("مريم", "مريم"), ("", "maryam")])
async def test_a_session_that_is_resumed_after_a_kill_has_its_name(
    title: str, expected: str
) -> None:
    server = Server()
    killed = Killed(server.clock.utc())
    name = "20260102T030405678Z-maryam-00ab00ab"
    found = [replace(it, info=replace(it.info, name=name, title=title)) for it in killed._found]
    killed._found = found
    server.use(killed)
    server.sessions.recover()
    (live,) = server.sessions._sessions.values()
    assert live.session.name == expected
