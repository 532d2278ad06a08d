"""What `gapless listen` makes of a live tap: a file, a pipe, or sound."""

from __future__ import annotations

import asyncio
import io
import json
import pathlib
import sys
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import soundfile
from aiohttp import web

from adapters.http import frames
from adapters.http.api.tap import TapHandlers
from adapters.http.api_client import ApiClient
from adapters.http.frames import read_frame, write_frames
from adapters.http.listening import listen
from adapters.http.routes import Route
from adapters.playback import files
from adapters.playback.files import RawOutput, WavOutput
from adapters.playback.loudspeaker import Loudspeaker
from domain.errors import (
    BackendMissing,
    PlaybackFailed,
    ServerRefused,
    ServerUnreachable,
    WrongServer,
)
from domain.ports.playback import OutputOpener
from domain.ports.tap import Heard, Missed, TapStart
from domain.recording.effects import EndReason
from domain.recording.ledger import SampleKind
from domain.services.client.listening import play
from domain.session.roles import Role
from domain.sound.formats import AudioFormat
from tests.contracts.test_recordings_are_listened_to import WATCHER, Recording
from tests.fakes.http import FakeSessions, http_server

MONO = AudioFormat(48_000, 1)
HELLO = {
    "type": "hello", "session": "session", "recording": "id", "track": 1,
    "sample_rate_hz": 48_000, "channels": 1, "position": 0, "kinds": {"received": 0},
}  # fmt: skip


@asynccontextmanager
async def served(recording: Recording, token: str = WATCHER) -> AsyncIterator[ApiClient]:
    """Serve a recording; give a client of it."""
    roles = {WATCHER: frozenset({Role.WATCH})}
    server = http_server(FakeSessions(), tokens=roles, more=[TapHandlers(recording.taps)])
    api = ApiClient(await server.start(), token=token)
    yield api
    await api.close()
    await server.stop()


async def heard_by(
    api: ApiClient, opener: OutputOpener, act: Callable[[], Any]
) -> tuple[EndReason | None, list[TapStart | Missed]]:
    """Play a session; call `act` when the listening has begun."""
    notices: list[TapStart | Missed] = []

    def notice(item: TapStart | Missed) -> None:
        notices.append(item)
        if isinstance(item, TapStart):
            acting.append(asyncio.ensure_future(act()))

    acting: list[asyncio.Future[None]] = []
    sound = listen(api, "session", track=1, from_start=False)
    reason = await play(sound, opener, notice=notice)
    await asyncio.gather(*acting)
    return reason, notices


def to_file(path: pathlib.Path) -> OutputOpener:
    async def open_output(audio_format: AudioFormat) -> WavOutput:
        return await WavOutput.open(str(path), audio_format)

    return open_output


async def test_a_file_is_as_long_as_reality(tmp_path: pathlib.Path) -> None:
    recording, path = Recording(buffer_s=10), tmp_path / "heard.wav"
    expected: list[Any] = []

    async def act() -> None:
        recording.sound(960)
        recording.writer.append_silence(200_000, SampleKind.SILENCE)
        recording.sound(200_000)  # longer than a message
        expected.append(recording.samples)
        await recording.end()

    async with served(recording) as api:
        reason, notices = await heard_by(api, to_file(path), act)
    samples, rate_hz = soundfile.read(str(path), dtype="int16", always_2d=True)
    assert (rate_hz, reason) == (48_000, EndReason.CLOSED)
    assert np.array_equal(samples, expected[0])
    assert [type(item) for item in notices] == [TapStart]


async def test_an_output_keeps_the_channels_with_which_it_began(tmp_path: pathlib.Path) -> None:
    recording, pipe = Recording(), io.BytesIO()

    async def open_output(audio_format: AudioFormat) -> RawOutput:
        return RawOutput(pipe, audio_format.channels)

    async def act() -> None:
        recording.sound(960)
        recording.writer.append_silence(70_000, SampleKind.DTX)
        recording.stereo()
        recording.sound(960)
        await recording.end()

    async with served(recording) as api:
        await heard_by(api, open_output, act)
    assert len(pipe.getvalue()) == 2 * (960 + 70_000 + 960)


async def test_no_file_is_overwritten(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "heard.wav"
    path.write_text("precious")
    with pytest.raises(PlaybackFailed, match=r"heard\.wav: File exists"):
        await WavOutput.open(str(path), MONO)
    assert path.read_text() == "precious"


async def test_a_full_file_is_told(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_BYTES", 4_000)
    output = await WavOutput.open(str(tmp_path / "heard.wav"), MONO)
    await output.gap(2_000)
    with pytest.raises(PlaybackFailed, match="4 GiB"):
        await output.gap(1)
    await output.close()
    await output.close()
    assert soundfile.info(str(tmp_path / "heard.wav")).frames == 2_000


@pytest.mark.parametrize(
    ("token", "session", "reason"),
    [("wrong", "session", r"\(401\)"), (WATCHER, "../x", r"\(404\): no sound of such a session")],
)
async def test_refusals_are_told(token: str, session: str, reason: str) -> None:
    async with served(Recording(), token) as api:
        with pytest.raises(ServerRefused, match=reason):
            async for _ in listen(api, session, track=1, from_start=True):
                pass


class FakeServer:
    """Sends what it is told over a WebSocket, and closes."""

    def __init__(self, messages: Sequence[str | bytes]) -> None:
        self._messages = messages

    def routes(self) -> list[Route]:
        return [Route("GET", "/api/sessions/{id}/pcm", self._get, role=None)]

    async def _get(self, request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        for message in self._messages:
            await (socket.send_str if isinstance(message, str) else socket.send_bytes)(message)
        await socket.close()
        return socket


async def told_by(*messages: str | bytes) -> list[Any]:
    server = http_server(FakeSessions(), more=[FakeServer(messages)])
    api = ApiClient(await server.start())
    try:
        return [item async for item in listen(api, "session", track=1, from_start=False)]
    finally:
        await api.close()
        await server.stop()


async def test_the_end_of_a_server_is_not_the_end_of_a_session() -> None:
    with pytest.raises(ServerUnreachable, match="gone away"):
        await told_by(json.dumps(HELLO))


@pytest.mark.parametrize(
    "message",
    [
        "no JSON", "[]", "[" * 5_000, '{"type": "hello"}', '{"type": "end", "reason": 7}',
        json.dumps(HELLO | {"sample_rate_hz": 0}), '{"type": "missed", "position": null}',
        b"", b"\0" * 15, b"\0" * 8 + b"\5\0\0\0" + b"\0\1\0\0" + b"\0" * 9,
    ],
)  # fmt: skip
async def test_nonsense_is_told(message: str | bytes) -> None:
    with pytest.raises(WrongServer):
        await told_by(json.dumps(HELLO), message)


async def test_what_later_servers_may_send_is_ignored() -> None:
    kinds = {"unheard-of": 0, "received": 7}
    end = '{"type": "end", "reason": "closed"}'
    frame = frames.HEADER.pack(0, 3, 7, 1, 1)
    unknown = frames.HEADER.pack(3, 3, 0, 1, 1)
    hello = json.dumps(HELLO | {"kinds": kinds, "more": 1})
    found = await told_by(hello, '{"type": "news"}', frame, unknown, end)
    assert [item.kind for item in found[1:3]] == [SampleKind.RECEIVED, SampleKind.SILENCE]


@pytest.mark.parametrize("length", [1, 65_536, 65_537, 200_000])
def test_long_sound_is_sent_in_several_messages(length: int) -> None:
    samples = np.arange(2 * length, dtype="<i2").reshape(length, 2)
    heard = Heard(7, length, SampleKind.RECEIVED, 2, samples)
    kinds = {number: kind for kind, number in frames.NUMBERS.items()}
    parts = [read_frame(message, kinds) for message in write_frames(heard)]
    assert all(len(message) <= 1 << 18 | 16 for message in write_frames(heard))
    assert np.array_equal(np.concatenate([part.samples for part in parts]), samples)
    assert [part.position for part in parts] == list(range(7, 7 + length, frames.MAX_SAMPLES))


class FakeSoundDevice(ModuleType):
    """Takes the place of sounddevice."""

    class PortAudioError(Exception):
        pass

    def __init__(self) -> None:
        super().__init__("sounddevice")
        self.played: list[Any] = []
        self.threads: set[int] = set()
        self.is_open = False
        self.fault: str | None = None
        self.options: dict[str, Any] = {}

    def OutputStream(self, **options: Any) -> FakeSoundDevice:  # noqa: N802
        self._check()
        self.options = options
        return self

    def start(self) -> None:
        self.is_open = True

    def write(self, samples: Any) -> None:
        self.threads.add(threading.get_ident())
        self._check()
        self.played.append(np.array(samples))

    def stop(self) -> None:
        pass

    def close(self) -> None:
        self.is_open = False

    def _check(self) -> None:
        if self.fault is not None:
            raise self.PortAudioError(self.fault)


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> FakeSoundDevice:
    fake = FakeSoundDevice()
    monkeypatch.setitem(sys.modules, "sounddevice", fake)
    return fake


async def test_sound_is_played_outside_of_the_event_loop(device: FakeSoundDevice) -> None:
    recording = Recording()

    async def act() -> None:
        recording.sound(960)
        # its time has passed already: played whole, everything after it would be a minute late
        recording.writer.append_silence(48_000 * 60, SampleKind.SILENCE)
        recording.sound(960)
        await recording.end()

    async with served(recording) as api:
        assert (await heard_by(api, Loudspeaker.open, act))[0] is EndReason.CLOSED
    assert device.options == {"samplerate": 48_000, "channels": 1, "dtype": "int16"}
    assert [len(samples) for samples in device.played] == [960, 9_600, 960]
    assert threading.get_ident() not in device.threads
    assert not device.is_open


async def test_faults_of_the_device_are_told(
    device: FakeSoundDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    speaker = await Loudspeaker.open(MONO)
    device.fault = "Unplugged"
    with pytest.raises(PlaybackFailed, match="Unplugged"):
        await speaker.gap(1)
    await speaker.close()
    await speaker.close()
    with pytest.raises(PlaybackFailed, match="no output device plays 48000 Hz"):
        await Loudspeaker.open(MONO)
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(BackendMissing):
        await Loudspeaker.open(MONO)
