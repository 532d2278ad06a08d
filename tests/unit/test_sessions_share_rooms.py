"""Rooms are names that sessions share; a recording keeps that of its session."""

from __future__ import annotations

from dataclasses import replace

import pytest

from domain.errors import SettingInvalid
from domain.events.server import SessionOpened, TrackStarted
from domain.session.rooms import MAX_ROOM_CHARACTERS, read_room, room_key
from entrypoints.client_settings import ClientSettings
from tests.unit.test_interrupted_sessions_are_resumed import Killed, restarted, resume, speak
from tests.unit.test_sessions_are_recorded import Server, packet


@pytest.mark.parametrize("room", ["", "friday", "Küche 2", "👩\u200d🎤", "x" * MAX_ROOM_CHARACTERS])
def test_any_text_names_a_room(room: str) -> None:
    assert read_room(room) == room


def test_no_name_is_no_room() -> None:
    assert read_room(None) == ""


@pytest.mark.parametrize(
    "room", [7, ["a"], "a\n", "a\0b", "\x9b", "a\u2028b", "\ud800", "x" * (MAX_ROOM_CHARACTERS + 1)]
)
def test_what_cannot_name_a_room_is_refused(room: object) -> None:
    with pytest.raises(ValueError, match="room has to be text of at most 100"):
        read_room(room)


def test_case_does_not_make_another_room() -> None:
    assert room_key("Straße É") == room_key("STRASSE e\u0301") != room_key("Strase É")


def test_a_setting_that_cannot_name_a_room_is_refused() -> None:
    with pytest.raises(SettingInvalid, match="room: has to be text"):
        ClientSettings(room="a\x1b[0m")


async def test_the_recording_and_the_events_say_the_room() -> None:
    server = Server()
    session = await server.offer(room="friday")
    server.receive(*(packet(n) for n in range(1, 6)))
    await server.sessions.delete(session)
    (stored,) = server.store.recordings.values()
    assert (stored.info.room, stored.ledger["room"]) == ("friday", "friday")
    told = [e for e in server.seen.events if isinstance(e, SessionOpened | TrackStarted)]
    assert [event.room for event in told] == ["friday", "friday"]


async def test_a_session_stays_in_its_room() -> None:
    server = Server()
    accepted = await server.sessions.offer("v=0 1", name="", room="friday")
    server.receive(packet(1))
    await server.sessions.offer("v=0 2", name="", room="monday", resume=accepted.resume)
    server.receive(packet(2))
    await server.sessions.delete(accepted.session_id)
    (stored,) = server.store.recordings.values()
    assert stored.info.room == "friday"


async def test_a_session_that_is_resumed_after_a_kill_is_in_its_room() -> None:
    server = Server()
    killed = Killed(server.clock.utc())
    killed._found = [replace(it, info=replace(it.info, room="friday")) for it in killed._found]
    server.use(killed)
    server.sessions.recover()
    (live,) = server.sessions._sessions.values()
    assert live.session.room == "friday"


async def test_a_session_without_a_room_is_resumed_without_one() -> None:
    server = restarted()
    await resume(server)
    speak(server, *range(300, 310))
    await server.sessions.delete("session")
    (stored,) = server.store.recordings.values()
    assert stored.ledger["room"] is None
