"""The live tap over real sockets: what listeners get, and what they are refused."""

from __future__ import annotations

import asyncio
import datetime
import itertools
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import numpy as np
import pytest
from multidict import CIMultiDict

from adapters.http import connections, listener
from adapters.http.api import tap as tap_module
from adapters.http.api.tap import PROTOCOL, TapHandlers
from adapters.http.server import ConnectionLimits, SignalingServer
from adapters.storage.memory import MemoryStore
from domain.errors import NodeUnavailable
from domain.ports.placement import KnownSession, Node
from domain.recording.effects import EndReason
from domain.recording.ledger import RecordingInfo, SampleKind
from domain.services.server.tapped_store import TappedStore
from domain.services.server.tapping import Taps
from domain.session.roles import Role
from domain.sound.formats import AudioFormat
from tests.fakes.http import FakeSessions, http_server
from tests.fakes.media import plain_decoder
from tests.fakes.placement import FakePlacement
from tests.rigs.tapping import Heard, listen_to_end, listening, take

WATCHER, PUBLISHER = "a-watcher.token", "a-publisher.token"
NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
WAIT_S = 20.0
MUCH_S = 150
"""More sound, 14 MB, than fits into the buffers between a server and one who does not read."""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tap_module, "PACE_S", 0.005)


class Recording:
    """A recording that can be listened to, at one node of a server."""

    def __init__(self, *, max_taps: int = 3, buffer_s: float = 2.0) -> None:
        self.taps = Taps(plain_decoder, buffer_s=buffer_s, max_taps=max_taps)
        self.memory = MemoryStore()
        store = TappedStore(self.memory, self.taps)
        info = RecordingInfo(
            "20260101-ana", "ana", AudioFormat(48_000, 1), "opus", NOW, session_id="session"
        )
        self.writer = store.create(info)
        self._chance = np.random.default_rng(1)
        self._channels = 1

    def sound(self, length: int = 960, kind: SampleKind = SampleKind.RECEIVED) -> None:
        samples = self._chance.integers(-(2**15), 2**15, (length, self._channels), "<i2")
        self.writer.append([samples], kind)

    def stereo(self) -> None:
        self._channels = 2
        self.writer.change_format(AudioFormat(48_000, 2))

    @property
    def samples(self) -> Any:
        return self.memory.live["ana"].samples

    async def end(self) -> None:
        await self.writer.finish(EndReason.CLOSED, NOW)


@asynccontextmanager
async def served(
    recording: Recording, **options: Any
) -> AsyncIterator[tuple[str, aiohttp.ClientSession]]:
    server = http_server(FakeSessions(), more=[TapHandlers(recording.taps)], **options)
    url = await server.start()
    async with aiohttp.ClientSession() as http:
        yield url, http
    await server.stop()


async def test_a_listener_gets_every_sample_bit_for_bit() -> None:
    recording, minute = Recording(), 48_000 * 60  # the buffer is shorter
    recording.sound()
    async with (
        served(recording) as (url, http),
        listening(http, url, "session") as (socket, heard),
    ):
        assert heard.hello == {
            "type": "hello", "session": "session", "recording": "20260101-ana", "track": 1,
            "sample_rate_hz": 48_000, "channels": 1, "position": 960,
            "kinds": {kind.value: number for number, kind in enumerate(SampleKind)},
        }  # fmt: skip
        recording.sound()
        recording.sound(480, SampleKind.CONCEALED)
        recording.writer.append_silence(minute, SampleKind.SILENCE)
        recording.sound()
        expected = recording.samples[960:]
        await recording.end()
        await listen_to_end(socket, heard)
    assert np.array_equal(heard.samples, expected)
    assert heard.kinds == [
        (960, 960, "received"), (1_920, 480, "concealed"), (2_400, minute, "silence"),
        (2_400 + minute, 960, "received"),
    ]  # fmt: skip
    assert heard.events == [{"type": "end", "reason": "closed"}]
    assert heard.close_code == 1000


async def test_who_comes_later_can_begin_with_what_is_in_memory() -> None:
    recording = Recording()
    async with (
        served(recording) as (url, http),
        listening(http, url, "session") as (_, first),
    ):
        assert first.hello["position"] == 0
        recording.sound()
        async with listening(http, url, "session", "?from=start&track=1") as (socket, second):
            assert second.hello["position"] == 0
            recording.sound()
            expected = recording.samples
            await recording.end()
            await listen_to_end(socket, second)
    assert np.array_equal(second.samples, expected)


async def test_a_change_of_channels_is_told() -> None:
    recording = Recording()
    async with (
        served(recording) as (url, http),
        listening(http, url, "session") as (socket, heard),
    ):
        recording.sound()
        recording.stereo()
        recording.sound()
        await recording.end()
        await listen_to_end(socket, heard)
    assert heard.events[0] == {"type": "format", "position": 960, "channels": 2}
    assert [samples.shape for samples in heard.sound] == [(960, 1), (960, 2)]


async def test_a_slow_listener_loses_its_own_sound_and_is_told() -> None:
    recording = Recording()
    async with (
        served(recording) as (url, http),
        listening(http, url, "session") as (slow_socket, slow),
        listening(http, url, "session") as (socket, heard),
    ):
        reading = asyncio.create_task(listen_to_end(socket, heard))
        length = 0
        for _ in range(MUCH_S):
            recording.sound(48_000)
            length += 48_000
            async with asyncio.timeout(WAIT_S):
                while sum(n for _, n, _ in heard.kinds) < length:
                    await asyncio.sleep(0.001)
        expected = recording.samples
        await recording.end()
        await reading
        await listen_to_end(slow_socket, slow)
    assert np.array_equal(heard.samples, expected)
    assert [event["type"] for event in heard.events] == ["end"]
    missed = [event for event in slow.events if event["type"] == "missed"]
    assert missed and slow.events[-1]["type"] == "end"
    told = sorted(
        [(position, length) for position, length, _ in slow.kinds]
        + [(event["position"], event["samples"]) for event in missed]
    )
    assert told[0][0] == 0
    assert all(a + n == b for (a, n), (b, _) in itertools.pairwise(told))
    assert sum(length for _, length in told) == len(expected)
    for (position, length, _), samples in zip(slow.kinds, slow.sound, strict=True):
        assert np.array_equal(samples, expected[position : position + length])


async def refusal(
    http: aiohttp.ClientSession, url: str, path: str = "/api/sessions/session/pcm", **options: Any
) -> int:
    try:
        async with http.ws_connect(url + path, **options):
            return 101
    except aiohttp.WSServerHandshakeError as error:
        return error.status


@pytest.mark.parametrize(
    ("path", "status", "reason"),
    [
        ("session/pcm", 426, "ask for a WebSocket"),
        ("other/pcm", 404, "is being recorded"),
        ("session/pcm?track=2", 404, "is being recorded"),
        ("session/pcm?track=0", 400, "track has to be"),
        ("session/pcm?track=²", 400, "track has to be"),
        ("session/pcm?track=" + "9" * 5000, 400, "track has to be"),
        ("session/pcm?from=then", 400, "from has to be"),
    ],
)
async def test_refusals_have_their_reason(path: str, status: int, reason: str) -> None:
    recording = Recording()
    async with (
        served(recording) as (url, http),
        http.get(f"{url}/api/sessions/{path}") as answer,
    ):
        assert (answer.status, answer.content_type) == (status, "application/problem+json")
        assert reason in (await answer.json())["detail"]
        assert answer.headers.get("Upgrade") == ("websocket" if status == 426 else None)
        if status != 426:
            assert await refusal(http, url, f"/api/sessions/{path}") == status


async def test_there_are_only_so_many_listeners() -> None:
    recording = Recording(max_taps=1)
    async with served(recording) as (url, http):
        for _ in range(3):
            async with listening(http, url, "session") as (socket, _):
                assert await refusal(http, url) == 503
                await socket.close()
            await nobody_listens(recording)


async def nobody_listens(recording: Recording) -> None:
    """Wait until the server has noticed that its listeners are gone."""
    async with asyncio.timeout(WAIT_S):
        while recording.taps._taps:
            await asyncio.sleep(0.001)


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def test_listeners_need_the_role_to_watch() -> None:
    roles = {WATCHER: frozenset({Role.WATCH}), PUBLISHER: frozenset({Role.PUBLISH})}
    recording = Recording()
    async with served(recording, tokens=roles) as (url, http):
        assert await refusal(http, url) == 401
        assert await refusal(http, url, headers=bearer("wrong")) == 401
        assert await refusal(http, url, headers=bearer(PUBLISHER)) == 403
        assert await refusal(http, url, headers=bearer(WATCHER)) == 101
        # as browsers do it, which cannot set the header
        assert await refusal(http, url, protocols=[PROTOCOL, "bearer.wrong"]) == 401
        assert await refusal(http, url, protocols=[PROTOCOL, f"bearer.{PUBLISHER}"]) == 403
        assert await refusal(http, url, protocols=[f"bearer.{WATCHER}"]) == 400
        assert await refusal(http, url, f"/api/sessions/session/pcm?token={WATCHER}") == 401
        async with http.ws_connect(
            f"{url}/api/sessions/session/pcm", protocols=[PROTOCOL, f"bearer.{WATCHER}"]
        ) as socket:
            assert socket.protocol == PROTOCOL
        # for other requests, the subprotocol says nothing
        headers = {"Sec-WebSocket-Protocol": f"bearer.{WATCHER}"}
        async with http.get(f"{url}/api/sessions/session/pcm", headers=headers) as answer:
            assert answer.status == 401


@pytest.mark.parametrize(
    "lines",
    [[f"bearer.{WATCHER}", PROTOCOL], [PROTOCOL, f"bearer.{WATCHER}"], [f"Bearer.{WATCHER}"]],
)
async def test_a_token_that_is_offered_in_an_unusual_way_is_in_no_log(
    caplog: pytest.LogCaptureFixture, lines: list[str]
) -> None:
    async with served(Recording(), tokens={WATCHER: frozenset({Role.WATCH})}) as (url, http):
        headers = CIMultiDict(
            {
                "Connection": "Upgrade",
                "Upgrade": "websocket",
                "Sec-WebSocket-Version": "13",
                "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
            }
        )
        for line in lines:
            headers.add("Sec-WebSocket-Protocol", line)
        for bearers in ({}, bearer(WATCHER)):
            async with http.get(
                f"{url}/api/sessions/session/pcm",
                headers=CIMultiDict([*headers.items(), *bearers.items()]),
            ) as answer:
                assert answer.status in (101, 400, 401)
    assert WATCHER not in caplog.text


async def test_foreign_pages_are_refused() -> None:
    recording = Recording()
    async with served(recording) as (url, http):
        assert await refusal(http, url, origin="https://elsewhere.example") == 403
        assert await refusal(http, url, origin="null") == 403
        assert await refusal(http, url, origin="http://localhost:3000") == 101


@pytest.mark.parametrize("message", ["a word", "x" * 5_000])
async def test_a_listener_that_talks_is_sent_away(message: str) -> None:
    recording = Recording()
    async with (
        served(recording) as (url, http),
        listening(http, url, "session") as (socket, heard),
    ):
        await socket.send_str(message)
        async with asyncio.timeout(WAIT_S):
            await listen_to_end(socket, heard)
        assert heard.close_code == (1008 if len(message) < 1_000 else 1009)
        await nobody_listens(recording)


async def test_a_listener_that_is_gone_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tap_module, "PING_S", 0.05)
    monkeypatch.setattr(tap_module, "SILENT_S", 0.4)
    recording = Recording()
    async with served(recording) as (url, http):
        async with listening(http, url, "session") as (there, heard):
            async with listening(http, url, "session", autoping=False) as (gone, nothing):
                async with asyncio.timeout(WAIT_S):  # the other one answers pings while it reads
                    reading = asyncio.create_task(listen_to_end(there, heard))
                    while (await gone.receive()).type is aiohttp.WSMsgType.PING:
                        pass
                assert gone.close_code == 1001
                assert nothing.events == []
            recording.sound()
            await recording.end()
            await reading
        assert (len(heard.samples), heard.close_code) == (960, 1000)


async def test_deadlines_of_requests_do_not_concern_listeners(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("HEAD_S", "CLOSE_S"):
        monkeypatch.setattr(connections, name, 0.1)
    monkeypatch.setattr(connections, "SEND_S", 1.0)
    monkeypatch.setattr(listener, "SWEEP_S", 0.02)
    recording = Recording()
    limits = ConnectionLimits(total=2)
    async with (
        served(recording, limits=limits) as (url, http),
        listening(http, url, "session") as (socket, heard),
    ):
        for _ in range(5):  # newcomers take each other's place, not that of a listener
            await socket.ping()
            async with aiohttp.ClientSession() as other, other.get(f"{url}/health") as answer:
                assert answer.status == 200
            await asyncio.sleep(0.1)
        recording.sound()
        await recording.end()
        await listen_to_end(socket, heard)
        assert (len(heard.samples), heard.close_code) == (960, 1000)


async def test_a_listener_that_stalls_while_it_answers_pings_is_not_taken_for_a_bad_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connections, "HEAD_S", 0.1)
    monkeypatch.setattr(listener, "SWEEP_S", 0.02)
    recording = Recording()
    async with (
        served(recording) as (url, http),
        listening(http, url, "session") as (socket, heard),
    ):
        for _ in range(100):
            recording.sound(48_000)
            await asyncio.sleep(0)
            await asyncio.sleep(0.002)
        for _ in range(3):
            await socket.pong(b"still there")
            await asyncio.sleep(0.1)
        await recording.end()
        await listen_to_end(socket, heard)
        assert heard.events[-1]["type"] == "end"


class Pair:
    """Two nodes; the recording is at the second, and its clients are those of the first."""

    def __init__(self, recording: Recording, folder: str) -> None:
        here, there = Node(f"{folder}/here"), Node(f"{folder}/there")
        self.placement = FakePlacement(
            here,
            there,
            {
                KnownSession("session"): there,
                KnownSession("unknown"): there,
                KnownSession("gone"): NodeUnavailable("its worker is being restarted"),
            },
        )
        roles = {WATCHER: frozenset({Role.WATCH})}
        self.first: SignalingServer = http_server(
            FakeSessions(),
            placement=self.placement,
            tokens=roles,
            more=[TapHandlers(Recording().taps)],
        )
        self.second = http_server(
            FakeSessions(),
            placement=FakePlacement(there, here, {}),
            tokens=roles,
            more=[TapHandlers(recording.taps)],
        )


@asynccontextmanager
async def paired(
    recording: Recording,
) -> AsyncIterator[tuple[str, aiohttp.ClientSession, Pair]]:
    with tempfile.TemporaryDirectory() as folder:
        pair = Pair(recording, folder)
        url = await pair.first.start()
        await pair.second.start()
        async with aiohttp.ClientSession(headers=bearer(WATCHER)) as http:
            yield url, http, pair
        await pair.first.stop()
        await pair.second.stop()


async def test_listeners_reach_the_node_of_a_session() -> None:
    recording = Recording()
    async with (
        paired(recording) as (url, http, _),
        listening(http, url, "session") as (socket, heard),
    ):
        for _ in range(10):
            recording.sound()
            await asyncio.sleep(0.01)
        await socket.ping(b"!")
        expected = recording.samples
        await recording.end()
        await listen_to_end(socket, heard)
    assert np.array_equal(heard.samples, expected)
    assert heard.events == [{"type": "end", "reason": "closed"}]
    assert heard.close_code == 1000


async def test_the_tokens_of_browsers_reach_the_node_of_a_session() -> None:
    async with paired(Recording()) as (url, _, _), aiohttp.ClientSession() as browser:
        path = f"{url}/api/sessions/session/pcm"
        offered = [PROTOCOL, f"bearer.{WATCHER}"]
        async with browser.ws_connect(path, protocols=offered) as socket:
            assert socket.protocol == PROTOCOL
            assert (await socket.receive_json())["type"] == "hello"
        assert await refusal(browser, url, protocols=[PROTOCOL, "bearer.wrong"]) == 401
        unknown = "/api/sessions/unknown/pcm"
        assert await refusal(browser, url, unknown, protocols=offered) == 404


async def test_refusals_of_another_node_have_their_reason() -> None:
    async with paired(Recording()) as (url, http, _):
        for session, status, reason in (
            ("unknown", 404, "is being recorded"), ("gone", 503, "is being restarted"),
            ("session", 426, "ask for a WebSocket"),
        ):  # fmt: skip
            path = f"/api/sessions/{session}/pcm"
            async with http.get(url + path) as answer:
                assert answer.status == status
                assert reason in (await answer.json())["detail"]
            assert await refusal(http, url, path) == (101 if status == 426 else status)


async def test_the_end_of_a_client_reaches_the_other_node() -> None:
    recording = Recording()
    async with paired(recording) as (url, http, _):
        async with listening(http, url, "session"):
            assert len(recording.taps._taps) == 1
        await nobody_listens(recording)


async def test_the_end_of_a_node_ends_what_it_sends() -> None:
    recording = Recording()
    async with (
        paired(recording) as (url, http, pair),
        listening(http, url, "session") as (socket, heard),
    ):
        await pair.second.stop()
        async with asyncio.timeout(WAIT_S):
            await listen_to_end(socket, heard)
    assert heard.close_code in (1001, 1012)
    assert heard.events == []


async def test_a_slow_client_of_another_node_slows_nobody() -> None:
    recording = Recording()
    async with (
        paired(recording) as (url, http, _),
        listening(http, url, "session") as (slow_socket, slow),
        listening(http, url, "session") as (socket, heard),
    ):
        length = 0
        for _ in range(MUCH_S):
            recording.sound(48_000)
            length += 48_000
            async with asyncio.timeout(WAIT_S):
                while sum(n for _, n, _ in heard.kinds) < length:
                    take(await socket.receive(), heard)
        await recording.end()
        await listen_to_end(socket, heard)
        await listen_to_end(slow_socket, slow)
    assert [event["type"] for event in heard.events] == ["end"]
    assert "missed" in [event["type"] for event in slow.events]


def test_what_is_heard_is_checked() -> None:
    heard = Heard({"kinds": {"received": 0}})
    with pytest.raises(ValueError, match="reshape"):
        heard.add(b"\0" * 8 + b"\1\0\0\0" + b"\0\2\0\0" + b"\0\0")
