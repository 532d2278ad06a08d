"""Sessions that pass a limit of the server end, and everybody concerned is told which one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from domain.errors import SessionCutOff, StorageFull
from domain.recording.effects import EndReason
from domain.session.limits import DAY_S, SessionLimits, WrittenInADay
from tests.fakes.media import packet
from tests.unit.test_sessions_are_recorded import Server

SECOND = 50
"""Packets."""
SECOND_GB = 96_060 / 1e9
"""A second of the recording, with a span of its ledger."""


def server_with(**limits: float) -> Server:
    return Server(limits=SessionLimits(**limits))


def record(server: Server, packets: int, *, first: int = 0) -> None:
    server.receive(*(packet(n) for n in range(first, first + packets)))
    server.sessions.tick()


async def end_of(server: Server) -> tuple[EndReason, str | None]:
    await server.seen.next_end()
    (reason,), (detail,) = server.seen.ended, server.seen.details
    return reason, detail


async def test_a_session_ends_after_the_longest_time_allowed() -> None:
    server = server_with(max_session_h=10 / 3600)
    session = await server.offer()
    record(server, 10 * SECOND - 5)
    assert server.seen.ended == []
    record(server, 10, first=10 * SECOND - 5)
    reason, detail = await end_of(server)
    assert reason is EndReason.LIMIT
    assert detail is not None and detail.startswith("it lasted for 0.00277778 h")
    (stored,) = server.store.recordings.values()
    assert stored.ledger["end_reason"] == "limit"
    assert stored.ledger["length_samples"] == (10 * SECOND + 5) * 960
    with pytest.raises(SessionCutOff, match="ended the session: it lasted"):
        await server.sessions.delete(session)


async def test_a_session_ends_when_it_has_written_the_most_that_is_allowed() -> None:
    server = server_with(max_session_gb=5.5 * SECOND_GB)
    await server.offer()
    record(server, 5 * SECOND)
    assert server.seen.ended == []
    record(server, SECOND, first=5 * SECOND)
    reason, detail = await end_of(server)
    assert (reason, str(detail).split(" GB")[1]) == (
        EndReason.LIMIT, ", as much as this server allows",
    )  # fmt: skip


async def test_what_was_written_in_a_day_keeps_new_sessions_out_and_old_ones_in() -> None:
    server = server_with(max_day_gb=5 * SECOND_GB)
    await server.offer()
    record(server, 4 * SECOND)
    await server.offer()
    record(server, 2 * SECOND)
    with pytest.raises(StorageFull, match="within 24 hours"):
        await server.offer()
    record(server, 10 * SECOND, first=2 * SECOND)
    assert server.seen.ended == []
    await server.sessions.shut_down()


async def test_sessions_that_have_ended_count_for_a_day() -> None:
    server = server_with(max_day_gb=SECOND_GB)
    session = await server.offer()
    server.receive(*(packet(n) for n in range(2 * SECOND)))
    await server.sessions.delete(session)  # before a tick has counted it
    with pytest.raises(StorageFull):
        await server.offer()
    server.clock.advance(DAY_S + 600)
    await server.offer()


async def test_a_sender_that_keeps_on_is_ended_and_the_one_beside_it_is_whole() -> None:
    server = server_with(max_burst_s=5, max_packets_per_s=100)
    await server.offer("flood")
    await server.offer("desk")
    flood = server.transport.connections[0].sink
    assert flood is not None
    for n in range(20 * SECOND):
        flood.packets_received(
            0, [replace(packet(4 * n + m), arrived=server.clock.now) for m in range(4)]
        )
        server.receive(packet(n))
        server.sessions.tick()
    assert await server.seen.next_end() is EndReason.LIMIT
    await server.sessions.shut_down()
    whole = next(
        stored for stored in server.store.recordings.values() if "desk" in stored.info.name
    )
    assert whole.ledger["length_samples"] == 20 * SECOND * 960
    assert [span["kind"] for span in whole.ledger["spans"]] == ["received"]


@pytest.mark.parametrize(("per_s", "is_ended"), [(100, False), (200, True)])
async def test_all_tracks_of_a_session_share_a_rate(per_s: int, is_ended: bool) -> None:
    """16 tracks with packets of 10 ms are within it; ten times as much would keep a core busy."""
    server = server_with(max_packets_per_s=200, max_burst_s=1)
    await server.sessions.offer("v=0 16 tracks", name="")
    sink = server.transport.connections[0].sink
    assert sink is not None
    count = per_s // 20
    for n in range(10 * 20):
        for track in range(16):
            numbers = range(n * count, (n + 1) * count)
            packets = [packet(m, ssrc=track + 1) for m in numbers]
            sink.packets_received(
                track, [replace(item, payload=b"", arrived=server.clock.now) for item in packets]
            )
        server.clock.advance(0.05)
        server.sessions.tick()
    assert (server.sessions.session_count == 0) is is_ended
    await server.sessions.shut_down()
    assert server.seen.details == [
        "it sent more than 2000 packets a second in all its tracks" if is_ended else None
    ]


def test_bytes_are_forgotten_after_a_day() -> None:
    written = WrittenInADay()
    for hour in range(30):
        written.add(1, now=hour * 3600.0)
        written.add(1, now=hour * 3600.0 + 5)
    assert 48 <= written.total(now=29 * 3600.0 + 10) <= 50
    assert written.total(now=29 * 3600.0 + DAY_S + 600) == 0
