"""Recordings are converted to other formats while they are sent."""

from __future__ import annotations

import asyncio
import io
import pathlib
import threading
from collections.abc import Iterator
from typing import Any

import aiohttp
import av
import numpy as np
import pytest
import soundfile

from adapters.http.api.audio import AudioHandlers
from adapters.http.connections import HttpConnection
from adapters.storage.converting import begin_file
from domain.errors import InputUnreadable
from domain.ports.conversion import FileEncoder, FileFormat
from domain.recording.effects import EndReason
from domain.recording.ledger import Container, SampleKind
from domain.session.roles import Role
from domain.sound.formats import AudioFormat, SampleFormat, Samples
from tests.rigs.api import TOKENS, api_of
from tests.rigs.recordings import START, Rig, close, info, open_folder

AUDIO = f"/api/recordings/{info(1).id}/audio"
HEADERS = {"Authorization": f"Bearer {TOKENS[Role.WATCH]}"}


@pytest.fixture(params=["wav", "opus"])
def rig(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> Iterator[Rig]:
    rig = open_folder(tmp_path / "recordings")
    rig.container = Container(request.param)
    yield rig
    close(rig)


@pytest.fixture
def wav_rig(tmp_path: pathlib.Path) -> Iterator[Rig]:
    rig = open_folder(tmp_path / "recordings")
    yield rig
    close(rig)


def handlers(rig: Rig, *, begin: Any = begin_file, at_once: int = 4) -> list[AudioHandlers]:
    return [AudioHandlers(rig.catalogue, begin, max_conversions=at_once)]


def tone(audio_format: AudioFormat, length: int) -> Samples:
    """A tone in each channel, at a quarter of full scale."""
    wave = np.sin(np.arange(length) * 2 * np.pi * 440 / audio_format.sample_rate_hz)
    sample_format = audio_format.sample_format
    full = 1.0 if sample_format.is_float else 2 ** (sample_format.bits - 1)
    samples = np.repeat(wave.reshape(-1, 1) * full / 4, audio_format.channels, axis=1)
    if not sample_format.is_float:
        samples = samples.round()
    if sample_format is SampleFormat.U8:
        samples += 128
    return samples.astype(sample_format.dtype)


def encoded(encoder: FileEncoder, samples: Samples, step: int) -> bytes:
    pieces = [encoder.encode(samples[at : at + step]) for at in range(0, len(samples), step)]
    pieces.append(encoder.finish())
    encoder.close()
    return b"".join(pieces)


FORMATS = [
    AudioFormat(48_000, 1), AudioFormat(48_000, 2), AudioFormat(8_000, 1),
    AudioFormat(44_100, 1, SampleFormat.U8), AudioFormat(96_000, 2, SampleFormat.S24),
    AudioFormat(48_000, 3, SampleFormat.S32), AudioFormat(22_050, 1, SampleFormat.F32),
]  # fmt: skip


@pytest.mark.parametrize("audio_format", FORMATS, ids=str)
def test_wav_and_flac_have_each_sample(audio_format: AudioFormat) -> None:
    samples = tone(audio_format, audio_format.sample_rate_hz + 321)
    for file_format in (FileFormat.WAV, FileFormat.FLAC):
        encoder = begin_file(file_format, audio_format, len(samples))
        content = encoded(encoder, samples, 5000)
        assert encoder.size in (None, len(content))
        found = soundfile.info(io.BytesIO(content))
        assert (found.frames, found.samplerate) == (len(samples), audio_format.sample_rate_hz)
        read = soundfile.read(io.BytesIO(content), dtype="float64", always_2d=True)[0]
        expected = samples.astype(float)
        if not audio_format.sample_format.is_float:
            offset = 128 if audio_format.sample_format is SampleFormat.U8 else 0
            expected = (expected - offset) / 2 ** (audio_format.sample_format.bits - 1)
        # FLAC has 24 bits at most
        is_exact = file_format is FileFormat.WAV or audio_format.sample_format.bits <= 24
        assert np.abs(read - expected).max() <= (0 if is_exact else 2**-23)


@pytest.mark.parametrize("audio_format", FORMATS, ids=str)
def test_opus_and_mp3_sound_alike_and_are_as_long(audio_format: AudioFormat) -> None:
    seconds = 1.5
    samples = tone(audio_format, round(seconds * audio_format.sample_rate_hz))
    for file_format in (FileFormat.OPUS, FileFormat.MP3):
        content = encoded(begin_file(file_format, audio_format, len(samples)), samples, 4000)
        with av.open(io.BytesIO(content)) as file:
            stream = file.streams.audio[0]
            blocks = [frame.to_ndarray().astype(float) for frame in file.decode(audio=0)]
        assert stream.layout.nb_channels == min(audio_format.channels, 2)
        planar = np.concatenate([block[0] for block in blocks])
        decoded = len(planar) / stream.rate
        spare_s = 0.02 if file_format is FileFormat.OPUS else 0.16  # MP3 has a delay in front
        assert seconds - 0.02 <= decoded <= seconds + spare_s
        spectrum = np.abs(np.fft.rfft(planar[len(planar) // 4 : -len(planar) // 4]))
        loudest = np.argmax(spectrum) * stream.rate / (len(planar) - 2 * (len(planar) // 4))
        assert abs(loudest - 440) < 10


def test_too_few_or_too_many_samples_are_an_error() -> None:
    for file_format in FileFormat:
        encoder = begin_file(file_format, AudioFormat(48_000, 1), 1000)
        encoder.encode(tone(AudioFormat(48_000, 1), 900))
        with pytest.raises(InputUnreadable):
            encoder.encode(tone(AudioFormat(48_000, 1), 200))
        with pytest.raises(InputUnreadable):
            encoder.finish()
        encoder.close()


def test_an_empty_recording_becomes_an_empty_file() -> None:
    for file_format in FileFormat:
        encoder = begin_file(file_format, AudioFormat(48_000, 1), 0)
        encoder.encode(tone(AudioFormat(48_000, 1), 0))
        assert isinstance(encoder.finish(), bytes)
        encoder.close()


@pytest.mark.parametrize(
    ("name", "media_type"), [("flac", "audio/flac"), ("mp3", "audio/mpeg"), ("opus", "audio/ogg")]
)
async def test_a_conversion_is_sent(rig: Rig, name: str, media_type: str) -> None:
    await rig.record(1)
    async with api_of(handlers(rig)) as api:
        answer = await api.get(f"{AUDIO}?format={name}")
        assert answer.status == 200
        assert answer.headers["Content-Type"] == media_type
        assert answer.headers["Content-Disposition"].endswith(f'{info(1).name}.{name}"')
        if name != rig.container.value:
            assert answer.headers["Accept-Ranges"] == "none"
            ranged = await api.get(f"{AUDIO}?format={name}", Range="bytes=0-9")
            assert ranged.status == 200
        with av.open(io.BytesIO(answer.body)) as file:
            length = sum(frame.samples for frame in file.decode(audio=0))
        assert length >= 9600
        head = await api.ask("HEAD", f"{AUDIO}?format={name}")
        assert (head.status, head.body) == (200, b"")


async def test_packets_become_the_samples_that_the_catalogue_reads(tmp_path: pathlib.Path) -> None:
    rig = open_folder(tmp_path / "recordings")
    rig.container = Container.OGG
    writer = rig.create(1)
    writer.append(rig.sound(96_000), SampleKind.RECEIVED)
    writer.append_silence(4800, SampleKind.SILENCE)
    await writer.finish(EndReason.CLOSED, START)
    opened = rig.catalogue.open(info(1).id)
    expected = opened.read_samples(0, 200_000)
    opened.close()
    async with api_of(handlers(rig)) as api:
        for name in ("wav", "flac"):
            answer = await api.get(f"{AUDIO}?format={name}")
            samples = soundfile.read(io.BytesIO(answer.body), dtype="int16", always_2d=True)[0]
            np.testing.assert_array_equal(samples, expected)
        # the length of a WAV is known before
        wav = await api.get(f"{AUDIO}?format=wav")
        assert wav.headers["Content-Length"] == str(len(wav.body))
    close(rig)


async def test_a_live_recording_is_converted_as_it_is(rig: Rig) -> None:
    writer = rig.create(1)
    writer.append(rig.sound(), SampleKind.RECEIVED)
    await rig.until(lambda entry: entry.length == 9600, 1)
    async with api_of(handlers(rig)) as api:
        answer = await api.get(f"{AUDIO}?format=flac")
        assert soundfile.info(io.BytesIO(answer.body)).frames == 9600
    await writer.finish(EndReason.CLOSED, START)


class _Gate:
    """Encodes as `WavEncoder` does, but waits at each step until it is let on."""

    def __init__(self) -> None:
        self.open = threading.Semaphore(0)
        self.steps = 0
        self.closed = threading.Event()
        self.fails = False
        self.piece = bytes(2_000_000)

    def begin(self, file_format: FileFormat, audio_format: AudioFormat, length: int) -> _Gate:
        return self

    size = None

    def encode(self, samples: Samples) -> bytes:
        assert self.open.acquire(timeout=20)
        if self.fails:
            raise InputUnreadable("it is damaged")
        self.steps += 1
        return self.piece

    def finish(self) -> bytes:
        return b""

    def close(self) -> None:
        self.closed.set()


async def long_recording(rig: Rig) -> None:
    writer = rig.create(1)
    writer.append_silence(48_000 * 60, SampleKind.SILENCE)
    await writer.finish(EndReason.CLOSED, START)


async def test_only_so_many_are_converted_at_a_time(wav_rig: Rig) -> None:
    await long_recording(wav_rig)
    gate = _Gate()
    async with api_of(handlers(wav_rig, begin=gate.begin, at_once=1)) as api:
        async with api.http.get(f"{api.url}{AUDIO}?format=mp3", headers=HEADERS) as response:
            assert response.status == 200
            refused = await api.get(f"{AUDIO}?format=flac")
            assert (refused.status, refused.headers["Retry-After"]) == (503, "5")
            assert (await api.get(AUDIO, Range="bytes=0-9")).status == 206
            response.close()
            gate.open.release(500)
        assert await asyncio.to_thread(gate.closed.wait, 10)
        async with asyncio.timeout(10):
            while (await api.get(f"{AUDIO}?format=flac")).status != 200:
                await asyncio.sleep(0.02)


async def test_a_conversion_ends_when_its_client_goes(wav_rig: Rig) -> None:
    await long_recording(wav_rig)
    gate = _Gate()
    gate.open.release(1000)
    async with api_of(handlers(wav_rig, begin=gate.begin)) as api:
        async with api.http.get(f"{api.url}{AUDIO}?format=mp3", headers=HEADERS) as response:
            await response.content.read(1000)
            response.close()
        assert await asyncio.to_thread(gate.closed.wait, 10)
    assert gate.steps < 60  # of 120


async def test_a_conversion_of_silence_ends_when_its_client_goes(
    wav_rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    await long_recording(wav_rig)
    gate, gone = _Gate(), asyncio.Event()
    gate.piece = b""  # as an encoder does that gathers more than it writes
    original = HttpConnection.connection_lost

    def lose(connection: HttpConnection, error: BaseException | None) -> None:
        original(connection, error)
        gone.set()

    async with api_of(handlers(wav_rig, begin=gate.begin)) as api:
        async with api.http.get(f"{api.url}{AUDIO}?format=mp3", headers=HEADERS) as response:
            gate.open.release(2)
            monkeypatch.setattr(HttpConnection, "connection_lost", lose)
            response.close()
        async with asyncio.timeout(10):
            await gone.wait()
        gate.open.release(1)  # for the step that waits
        assert await asyncio.to_thread(gate.closed.wait, 10)
    assert gate.steps <= 3


async def test_a_client_that_goes_before_the_first_byte_is_no_fault(
    wav_rig: Rig, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    await long_recording(wav_rig)
    begun, may_go_on, gone = threading.Event(), threading.Event(), asyncio.Event()
    original = HttpConnection.connection_lost

    def lose(connection: HttpConnection, error: BaseException | None) -> None:
        original(connection, error)
        gone.set()

    def begin(*arguments: Any) -> FileEncoder:
        begun.set()
        assert may_go_on.wait(20)
        return begin_file(*arguments)

    async with api_of(handlers(wav_rig, begin=begin, at_once=1)) as api:
        monkeypatch.setattr(HttpConnection, "connection_lost", lose)
        asking = asyncio.create_task(api.get(f"{AUDIO}?format=mp3"))
        assert await asyncio.to_thread(begun.wait, 10)
        asking.cancel()
        async with asyncio.timeout(10):
            await gone.wait()
            may_go_on.set()
            while (await api.get(f"{AUDIO}?format=flac")).status != 200:
                await asyncio.sleep(0.02)
    assert "failed" not in caplog.text


async def test_a_conversion_that_fails_does_not_look_whole(
    wav_rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    await long_recording(wav_rig)
    gate = _Gate()
    gate.open.release(1000)
    async with api_of(handlers(wav_rig, begin=gate.begin)) as api:
        async with api.http.get(f"{api.url}{AUDIO}?format=mp3", headers=HEADERS) as response:
            await response.content.read(1000)
            gate.fails = True
            with pytest.raises(aiohttp.ClientError):
                await response.read()
        assert await asyncio.to_thread(gate.closed.wait, 10)
    assert "it is damaged" in caplog.text
