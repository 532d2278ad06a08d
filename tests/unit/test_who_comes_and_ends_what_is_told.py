"""Subscribers hear who opens a session, who comes back to it, and who ends it."""

from __future__ import annotations

from domain.events.server import (
    ConnectionAdded,
    SessionDeleted,
    SessionOpened,
)
from domain.session.caller import Caller
from domain.session.placement import id_of
from tests.fakes.media import packet
from tests.unit.test_sessions_are_recorded import Server

FIRST, LATER, ADMIN = (
    Caller("192.0.2.1", "token"),
    Caller("192.0.2.2"),
    Caller("::1", "admin_token"),
)


async def test_each_request_about_a_session_is_told_with_its_caller() -> None:
    server = Server()
    opened = await server.sessions.offer("v=0 one", name="n", caller=FIRST)
    server.receive(packet(1))
    await server.sessions.offer("v=0 two", name="", resume=opened.resume, caller=LATER)
    await server.sessions.delete(opened.session_id, caller=ADMIN)
    told = [
        event
        for event in server.seen.events
        if isinstance(event, SessionOpened | ConnectionAdded | SessionDeleted)
    ]
    assert told == [
        SessionOpened(opened.session_id, "n", FIRST),
        ConnectionAdded(opened.session_id, LATER),
        SessionDeleted(opened.session_id, ADMIN),
    ]
    assert opened.resume not in repr(server.seen.events)


async def test_the_end_of_a_session_that_has_ended_is_nobodys() -> None:
    server = Server()
    session = await server.offer()
    await server.sessions.delete(session, caller=FIRST)
    await server.sessions.delete(session, caller=LATER)
    deleted = [event for event in server.seen.events if isinstance(event, SessionDeleted)]
    assert deleted == [SessionDeleted(session, FIRST)]


async def test_the_id_of_a_session_is_made_from_its_secret() -> None:
    opened = await Server().sessions.offer("v=0", name="")
    assert opened.session_id == id_of(opened.resume)
