"""The transition table, and the deadlines."""

from __future__ import annotations

import itertools

from domain.recording.effects import EndReason
from domain.session.session import (
    END_REASONS,
    TRANSITIONS,
    Session,
    SessionInput,
    SessionState,
    digest_of,
)


def session() -> Session:
    return Session(
        id="a",
        resume_digest=digest_of("b"),
        name="",
        connect_deadline=115.0,
        inactivity_timeout_s=30.0,
    )


def test_an_ended_session_stays_ended() -> None:
    assert not any(state is SessionState.ENDED for state, _ in TRANSITIONS)


def test_every_event_that_ends_a_session_has_a_reason() -> None:
    ending = {event for (_, event), target in TRANSITIONS.items() if target is SessionState.ENDED}
    assert ending == set(END_REASONS)


def test_every_live_session_can_be_ended_by_client_server_and_fault() -> None:
    for state, event in itertools.product(
        (SessionState.CONNECTING, SessionState.RECORDING),
        (
            SessionInput.CONNECTION_CLOSED,
            SessionInput.DELETED,
            SessionInput.SHUT_DOWN,
            SessionInput.FAILED,
        ),
    ):
        assert TRANSITIONS[state, event] is SessionState.ENDED


def test_a_session_that_never_connects_is_due_at_its_deadline() -> None:
    waiting = session()
    assert waiting.due(now=114.9) is None
    assert waiting.due(now=115.0) is SessionInput.CONNECT_DEADLINE_PASSED


def test_packets_keep_a_session_alive_and_nothing_else_does() -> None:
    live = session()
    live.packet_received(now=110.0)
    assert live.state is SessionState.RECORDING
    assert live.due(now=111.9) is None
    live.packet_received(now=130.0)
    live.handle(SessionInput.PACKETS_CEASED)
    live.connected(now=140.0)  # another connection, which brings nothing either
    assert live.due(now=159.9) is None
    assert live.due(now=160.0) is SessionInput.INACTIVITY_DEADLINE_PASSED


def test_only_changes_of_state_are_reported() -> None:
    live = session()
    assert live.connected(now=100.0)
    assert not live.connected(now=101.0)
    assert live.active_at == 100.0
    assert live.packet_received(now=102.0)
    assert not live.packet_received(now=103.0)
    assert live.active_at == 103.0
    assert not live.connected(now=104.0)
    assert live.active_at == 103.0


def test_a_session_without_new_packets_becomes_silent() -> None:
    live = session()
    live.connected(now=100.0)
    assert live.state is SessionState.SILENT
    live.packet_received(now=110.0)
    assert live.due(now=112.0) is SessionInput.PACKETS_CEASED
    assert live.handle(SessionInput.PACKETS_CEASED)
    assert live.state is SessionState.SILENT
    live.packet_received(now=120.0)
    assert live.state is SessionState.RECORDING


def test_an_interrupted_session_waits_for_its_client_and_then_is_recovered() -> None:
    found = session()
    found.state, found.active_at = SessionState.INTERRUPTED, 100.0
    found.connected(now=110.0)
    assert found.due(now=129.9) is None
    due = found.due(now=130.0)
    assert due is SessionInput.NEVER_RESUMED
    assert END_REASONS[due] is EndReason.RECOVERED


def test_deadlines_are_exact() -> None:
    live = session()
    live.packet_received(now=100.0)
    assert live.due(now=101.999) is None
    assert live.due(now=102.0) is SessionInput.PACKETS_CEASED
    assert live.due(now=129.999) is SessionInput.PACKETS_CEASED
    assert live.due(now=130.0) is SessionInput.INACTIVITY_DEADLINE_PASSED  # though unseen till now
    live.handle(SessionInput.PACKETS_CEASED)
    assert live.due(now=129.999) is None
    assert live.due(now=130.0) is SessionInput.INACTIVITY_DEADLINE_PASSED


def test_an_event_after_the_end_changes_nothing() -> None:
    over = session()
    assert over.handle(SessionInput.DELETED)
    assert not over.handle(SessionInput.CONNECTION_CLOSED)
    assert over.due(now=1e9) is None
