"""The service that asks clients for what their recordings lack."""

from __future__ import annotations

import asyncio
import datetime

import pytest

from domain.errors import (
    CapturedInvalid,
    OfferRejected,
    RecordingRemoved,
    StorageFailed,
    StorageFull,
    Unauthorized,
)
from domain.events.server import (
    RecordingRestored,
    RestoringFailed,
)
from domain.ports.restoring import Confirmed, RestoreKey
from domain.recording.ledger import RestoreMode, RestoreState, SampleKind
from domain.recording.ranges import Range
from domain.recording.restoring import Captured, Restoration, Segment, SpoolInfo
from domain.services.server.restoring import EMPTY_S, RETRY_S
from domain.session.session import digest_of
from domain.sound.formats import AudioFormat
from tests.fakes.events import SeenByServer
from tests.fakes.restoring import FakePieces, FakePieceStore, restoring
from tests.fakes.time import FakeClock, Spawned

RATE = 48_000
SPOOL = SpoolInfo(rtp_timestamp=0, format=AudioFormat(RATE, 1))
LOST = Segment(960, SampleKind.CONCEALED, 4800, 4800)
NEEDED = Range(4800 - 192, 960 + 2 * 192)
EVERYTHING = Captured(RATE, "hash")


class Restoring:
    """A `RestoreService` with its fakes, and one session."""

    def __init__(self, mode: RestoreMode = RestoreMode.LOST, **changes: object) -> None:
        self.clock, self.spawned, self.seen = FakeClock(), Spawned(), SeenByServer()
        self.store = FakePieceStore()
        self.service = restoring(
            clock=self.clock, spawner=self.spawned, events=self.seen, store=self.store,
            mode=mode, **changes,
        )  # fmt: skip

    async def begin(self, spool: SpoolInfo = SPOOL) -> FakePieces:
        await self.service.begin(
            session_id="a", resume_digest=digest_of("secret"), name="", spool=spool
        )
        return self.store.pieces["a"]

    async def end(self) -> None:
        self.service.session_ended("a")
        await self.spawned.join()

    async def captured(self, captured: Captured = EVERYTHING) -> Confirmed:
        """Say what was captured, while time goes by."""
        answer = asyncio.ensure_future(self.service.captured("a", "secret", captured))
        while not answer.done():
            await self.clock.run(0.05)
        return answer.result()

    @property
    def pieces(self) -> FakePieces:
        return self.store.pieces["a"]


async def test_what_a_live_recording_lacks_is_wanted_until_it_has_come() -> None:
    server = Restoring()
    await server.begin()
    tracker = server.service.tracker("a")
    assert tracker is not None
    tracker._need([LOST])
    wanted = await server.service.wanted("a", "secret")
    assert (wanted.ranges, wanted.state, wanted.until) == ([NEEDED], "live", None)
    await server.service.put("a", "secret", 4000, b"1000")
    rest = Range(5000, NEEDED.end - 5000)
    wanted = await server.service.wanted("a", "secret")
    assert wanted.ranges == [rest]
    assert wanted.held == [Range(NEEDED.start, 5000 - NEEDED.start)]
    await server.service.put("a", "secret", 5000, b"48000")
    assert (await server.service.wanted("a", "secret")).ranges == []
    assert server.pieces.held == [NEEDED]  # nothing else was kept


async def test_a_recording_is_restored_when_its_session_has_ended_and_everything_has_come() -> None:
    server = Restoring()
    pieces = await server.begin()
    confirmed = await server.captured()
    assert confirmed.state == "live"  # there may be more
    pieces.live = [LOST]
    await server.end()
    assert pieces.ended_at == server.clock.utc()
    assert (await server.service.wanted("a", "secret")).state == "waiting"
    confirmed = await server.captured()
    assert (confirmed.state, confirmed.sha256, confirmed.ranges) == ("waiting", None, [NEEDED])
    await server.service.put("a", "secret", 4000, b"4000")
    for _ in range(2):  # the answer may have been lost
        confirmed = await server.captured()
        assert (confirmed.state, confirmed.sha256, confirmed.ranges) == ("complete", "hash", ())
    assert pieces.states == [RestoreState.COMPLETE]
    assert RecordingRestored("a", RestoreState.COMPLETE, 1.0, 0.01) in server.seen.events


async def test_what_the_client_never_captured_is_not_wanted() -> None:
    server = Restoring()
    pieces = await server.begin()
    pieces.live = [LOST]
    await server.end()
    captured = Captured(RATE, "hash", (Range(4000, 4000),))
    assert (await server.captured(captured)).state == "complete"


async def test_only_the_secret_of_the_session_opens_it() -> None:
    server = Restoring()
    await server.begin()
    for call in (
        lambda: server.service.wanted("a", "other"),
        lambda: server.service.put("a", "other", 0, b"960"),
        lambda: server.service.captured("a", "other", EVERYTHING),
    ):
        with pytest.raises(Unauthorized) as refused:
            await call()
        with pytest.raises(Unauthorized) as unknown:
            await server.service.wanted("b", "secret")
        assert str(unknown.value) == str(refused.value)  # nobody learns which sessions there are


async def test_a_client_cannot_have_captured_for_longer_than_there_was_time() -> None:
    server = Restoring()
    await server.begin()
    await server.end()
    with pytest.raises(CapturedInvalid, match="so much"):
        await server.captured(Captured(9 * 86_400 * RATE, "hash"))


async def test_after_the_window_a_recording_gets_what_has_come() -> None:
    server = Restoring(window_s=600)
    pieces = await server.begin()
    pieces.live = [LOST]
    await server.end()
    wanted = await server.service.wanted("a", "secret")
    assert wanted.until == server.clock.utc() + datetime.timedelta(seconds=600)
    server.clock.advance(599)
    server.service.tick()
    await server.spawned.join()
    assert not pieces.was_discarded
    server.clock.advance(1)
    server.service.tick()
    await server.spawned.join()
    assert pieces.states == [RestoreState.EXPIRED]
    assert pieces.was_discarded
    with pytest.raises(Unauthorized):
        await server.service.wanted("a", "secret")


async def test_a_session_without_any_sound_is_forgotten_soon() -> None:
    server = Restoring(window_s=86_400)
    pieces = await server.begin()
    await server.end()
    server.clock.advance(EMPTY_S)
    server.service.tick()
    await server.spawned.join()
    assert (pieces.states, pieces.was_discarded) == ([], True)


async def test_a_client_that_has_said_what_it_captured_has_the_whole_window_for_it() -> None:
    server = Restoring(window_s=86_400)
    pieces = await server.begin()
    await server.end()
    pieces.live = [Segment(RATE, SampleKind.SILENCE, None, 0)]
    assert (await server.captured()).ranges == [Range(0, RATE)]
    server.clock.advance(86_000)  # the network is slow
    server.service.tick()
    await server.spawned.join()
    await server.service.put("a", "secret", 0, b"48000")
    assert (await server.captured()).state == "complete"


async def test_two_requests_at_once_restore_a_recording_once() -> None:
    server = Restoring()
    pieces = await server.begin()
    pieces.live = [LOST]
    await server.end()
    await server.service.put("a", "secret", 4000, b"4000")
    answers = await asyncio.gather(server.captured(), server.captured())
    assert [answer.state for answer in answers] == ["complete", "complete"]
    restored = [event for event in server.seen.events if isinstance(event, RecordingRestored)]
    assert len(restored) == 1


async def test_a_recording_is_compared_once_however_often_its_client_asks() -> None:
    server = Restoring()
    pieces = await server.begin()
    pieces.live = [LOST]
    await server.end()
    first = await server.captured()
    comparisons = pieces.comparisons
    assert await server.captured() == first
    assert pieces.comparisons == comparisons


async def test_what_arrives_while_a_recording_is_compared_is_not_wanted_again() -> None:
    server = Restoring()
    pieces = await server.begin()
    pieces.live = [LOST]
    await server.end()
    compare = pieces.compare

    async def slow() -> Restoration:
        found = await compare()
        await server.service.put("a", "secret", 4000, b"4000")
        return found

    pieces.compare = slow  # type: ignore[method-assign]
    assert (await server.captured()).state == "complete"


@pytest.mark.parametrize("error", [StorageFull("no room"), StorageFailed("broken")])
async def test_what_has_come_is_kept_while_the_storage_fails(error: Exception) -> None:
    server = Restoring(window_s=600)
    pieces = await server.begin()
    pieces.live, pieces.errors = [LOST], [error]
    await server.end()
    server.clock.advance(600)
    server.service.tick()
    await server.spawned.join()
    assert (pieces.states, pieces.was_discarded) == ([], False)
    server.service.tick()  # not at once
    await server.spawned.join()
    assert pieces.states == []
    server.clock.advance(RETRY_S)
    server.service.tick()
    await server.spawned.join()
    assert (pieces.states, pieces.was_discarded) == ([RestoreState.EXPIRED], True)


async def test_what_belongs_to_a_removed_recording_is_forgotten() -> None:
    server = Restoring(window_s=600)
    pieces = await server.begin()
    pieces.live, pieces.errors = [LOST], [RecordingRemoved("its recording was removed")]
    await server.end()
    server.clock.advance(600)
    server.service.tick()
    await server.spawned.join()
    assert pieces.was_discarded


async def test_a_client_that_comes_while_its_window_ends_learns_that() -> None:
    server = Restoring(window_s=600)
    pieces = await server.begin()
    pieces.live = [LOST]
    await server.end()
    pieces.may_go_on.clear()
    server.clock.advance(600)
    server.service.tick()
    answer = asyncio.ensure_future(server.captured())
    await server.clock.run(1)
    pieces.may_go_on.set()
    with pytest.raises(Unauthorized):
        await answer
    assert pieces.states == [RestoreState.EXPIRED]
    assert pieces.was_discarded


async def test_a_server_that_shuts_down_leaves_rewriting_to_the_next_process() -> None:
    server = Restoring()
    pieces = await server.begin()
    pieces.live = [LOST]
    await server.end()
    await server.service.put("a", "secret", 4000, b"4000")
    pieces.may_go_on.clear()
    answer = asyncio.ensure_future(server.captured())
    await server.clock.run(1)
    await server.service.shut_down()
    await server.spawned.join()
    await server.clock.run(1)
    assert (await answer).state == "waiting"
    assert (await server.captured()).state == "waiting"
    assert pieces.states == []


async def test_a_rewrite_that_fails_is_told_and_can_be_asked_for_again() -> None:
    server = Restoring()
    pieces = await server.begin()
    pieces.live, pieces.errors = [LOST], [StorageFull("no room")]
    await server.end()
    await server.service.put("a", "secret", 4000, b"4000")
    with pytest.raises(StorageFull):
        await server.captured()
    assert any(isinstance(event, RestoringFailed) for event in server.seen.events)
    assert (await server.captured()).state == "complete"


async def test_what_an_earlier_process_has_left_goes_on() -> None:
    server = Restoring()
    key = RestoreKey("a", digest_of("secret"), "", SPOOL, RestoreMode.LOST, server.clock.utc())
    ended, live = FakePieces(key), FakePieces(key)
    ended.live, ended.captured = [LOST], EVERYTHING
    ended.ended_at = server.clock.utc() - datetime.timedelta(seconds=60)
    ended._held.add(4000, 8000)
    live.key = RestoreKey("b", digest_of("other"), "", SPOOL, RestoreMode.LOST, key.opened_at)
    server.store.left = [ended, live]
    server.service.recover({"b"})
    await server.spawned.join()
    assert ended.states == [RestoreState.COMPLETE]  # everything had come before the kill
    assert (await server.service.wanted("b", "other")).state == "live"


@pytest.mark.parametrize(
    ("server_mode", "client_mode", "agreed"),
    [
        (RestoreMode.LOST, RestoreMode.LOST, RestoreMode.LOST),
        (RestoreMode.LOST, RestoreMode.ALL, RestoreMode.ALL),
        (RestoreMode.ALL, RestoreMode.LOST, RestoreMode.ALL),
        (RestoreMode.OFF, RestoreMode.ALL, RestoreMode.OFF),
        (RestoreMode.ALL, RestoreMode.OFF, RestoreMode.OFF),
    ],
)
async def test_either_side_can_ask_for_everything_or_switch_it_off(
    server_mode: RestoreMode, client_mode: RestoreMode, agreed: RestoreMode
) -> None:
    server = Restoring(server_mode)
    spool = SpoolInfo(rtp_timestamp=0, format=SPOOL.format, mode=client_mode)
    await server.service.begin(session_id="a", resume_digest="", name="", spool=spool)
    tracker = server.service.tracker("a")
    assert (RestoreMode.OFF if tracker is None else tracker.mode) is agreed


async def test_a_session_goes_on_without_restoring_where_pieces_cannot_be_kept() -> None:
    server = Restoring()
    server.store.error = StorageFull("no room")
    digest = digest_of("secret")
    await server.service.begin(session_id="a", resume_digest=digest, name="", spool=SPOOL)
    assert server.service.tracker("a") is None
    assert (await server.service.wanted("a", "secret")).state == "off"
    assert (await server.captured()).state == "off"
    await server.service.put("a", "secret", 0, b"960")
    await server.end()
    server.clock.advance(EMPTY_S)
    server.service.tick()
    with pytest.raises(Unauthorized):
        await server.service.wanted("a", "secret")
    assert any(isinstance(event, RestoringFailed) for event in server.seen.events)


async def test_silence_that_nobody_captured_fills_no_disk() -> None:
    server = Restoring()
    await server.begin()
    await server.end()
    hours = Captured(10 * 3600 * RATE, "hash", (Range(0, 10 * 3600 * RATE - 960),))
    with pytest.raises(CapturedInvalid, match="missing"):
        await server.captured(hours)


async def test_a_client_that_insists_on_its_hash_sends_everything_once_more() -> None:
    server = Restoring()
    pieces = await server.begin()
    pieces.live, pieces.errors = [LOST], [CapturedInvalid("another hash")]
    await server.end()
    await server.service.put("a", "secret", 4000, b"4000")
    with pytest.raises(CapturedInvalid, match="hash"):
        await server.captured()
    assert (await server.service.wanted("a", "secret")).ranges == []
    assert (await server.captured()).ranges == [NEEDED]
    await server.service.put("a", "secret", 4000, b"4000")
    assert (await server.captured()).state == "complete"


async def test_a_session_has_one_spool() -> None:
    server = Restoring()
    await server.begin()
    other = SpoolInfo(rtp_timestamp=9, format=AudioFormat(96_000, 1))
    with pytest.raises(OfferRejected, match="96000"):
        server.service.check_spool("a", other)
    server.service.check_spool("a", SpoolInfo(rtp_timestamp=9, format=SPOOL.format))
    server.service.check_spool("b", other)
