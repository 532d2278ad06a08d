"""The sound of recordings is sent as one file, whole or in ranges."""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import pathlib
import shutil
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from typing import Any

import aiohttp
import numpy as np
import pytest
import soundfile

from adapters.http.api import audio
from adapters.http.api.audio import AudioHandlers
from adapters.http.ranges import attachment
from adapters.storage.converting import begin_file
from adapters.storage.folder.part import PartOptions
from adapters.storage.memory import MemoryStore
from adapters.storage.memory_catalogue import MemoryCatalogue
from domain.recording.effects import EndReason
from domain.recording.ledger import Container, SampleKind
from domain.session.roles import Role
from tests.rigs.api import TOKENS, Api, api_of
from tests.rigs.recordings import START, Rig, close, info, open_folder, ramp

CURL = shutil.which("curl")


@pytest.fixture(params=["wav", "opus", "memory"])
def rig(request: pytest.FixtureRequest, tmp_path: pathlib.Path) -> Iterator[Rig]:
    if request.param == "memory":
        memory = MemoryStore()
        rig = Rig(memory, MemoryCatalogue(memory))
    else:
        rig = open_folder(tmp_path / "recordings")
        rig.container = Container(request.param)
    yield rig
    close(rig)


@pytest.fixture
def wav_rig(tmp_path: pathlib.Path) -> Iterator[Rig]:
    rig = open_folder(tmp_path / "recordings")
    yield rig
    close(rig)


def handlers(rig: Rig) -> list[Any]:
    return [AudioHandlers(rig.catalogue, begin_file, max_conversions=4)]


@pytest.fixture
async def api(rig: Rig) -> AsyncIterator[Api]:
    async with api_of(handlers(rig)) as api:
        yield api


def audio_of(number: int) -> str:
    return f"/api/recordings/{info(number).id}/audio"


def stored(rig: Rig, number: int) -> bytes:
    with closing(rig.catalogue.open(info(number).id)) as opened:
        return opened.read_bytes(0, opened.size)


# -- whole ------------------------------------------------------------------------------------


async def test_a_recording_is_sent_as_it_is_stored(rig: Rig, api: Api) -> None:
    await rig.record(1)
    answer = await api.get(audio_of(1))
    assert (answer.status, answer.body) == (200, stored(rig, 1))
    kind = rig.container.value
    assert answer.headers["Content-Type"] == {"wav": "audio/wav", "opus": "audio/ogg"}[kind]
    assert answer.headers["Content-Disposition"] == f'attachment; filename="{info(1).name}.{kind}"'
    assert answer.headers["Accept-Ranges"] == "bytes"
    assert answer.headers["Content-Length"] == str(len(answer.body))
    same = await api.get(f"{audio_of(1)}?format={kind}")
    assert (same.body, same.headers["ETag"]) == (answer.body, answer.headers["ETag"])
    head = await api.ask("HEAD", audio_of(1))
    assert (head.status, head.body) == (200, b"")
    for name in ("ETag", "Content-Length", "Content-Type", "Accept-Ranges"):
        assert head.headers[name] == answer.headers[name]


async def test_what_is_not_there_is_404_and_other_formats_400(rig: Rig, api: Api) -> None:
    await rig.record(1)
    assert (await api.get(audio_of(2))).status == 404
    assert (await api.get("/api/recordings/..%2F..%2Fetc%2Fpasswd/audio")).status == 404
    assert (await api.get(f"{audio_of(1)}?format=aiff")).status == 400
    assert (await api.ask("GET", audio_of(1), role=Role.PUBLISH)).status == 403


async def test_parts_are_sent_as_one_file(tmp_path: pathlib.Path) -> None:
    rig = open_folder(tmp_path / "recordings", PartOptions(rotate_s=0.96))
    writer = rig.create(1)
    writer.append([ramp(110_400)], SampleKind.RECEIVED)
    await writer.finish(EndReason.CLOSED, START)
    assert len(rig.catalogue.entry(info(1).id).parts) == 3
    async with api_of(handlers(rig)) as api:
        answer = await api.get(audio_of(1))
        samples, _ = soundfile.read(io.BytesIO(answer.body), dtype="int16", always_2d=True)
        np.testing.assert_array_equal(samples, ramp(110_400))
        across = await api.get(audio_of(1), Range="bytes=90000-190000")
        assert across.body == answer.body[90_000:190_001]
    close(rig)


# -- ranges -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "start", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=100-299", 100, 300),
        ("bytes=100-", 100, None),
        ("bytes=-100", -100, None),
        ("bytes=100-999999999999999999", 100, None),
        ("bytes=-999999999999999999", 0, None),
        ("Bytes= 5-6 ", 5, 7),
    ],
)
async def test_a_range_is_sent(
    rig: Rig, api: Api, header: str, start: int, stop: int | None
) -> None:
    await rig.record(1)
    whole = stored(rig, 1)
    answer = await api.get(audio_of(1), Range=header)
    assert (answer.status, answer.body) == (206, whole[start:stop])
    first = start % len(whole)
    assert answer.headers["Content-Range"] == (
        f"bytes {first}-{first + len(answer.body) - 1}/{len(whole)}"
    )
    assert answer.headers["Content-Length"] == str(len(answer.body))


@pytest.mark.parametrize(
    "header",
    [
        "bytes=0-1,5-6", "bytes=5-4", "bytes=", "bytes=-", "samples=0-5", "bytes=a-b",
        "bytes=0-" + "9" * 5000, "bytes=\u0661-5", "0-5",
    ],
)  # fmt: skip
async def test_what_is_no_single_range_gets_the_whole(rig: Rig, api: Api, header: str) -> None:
    await rig.record(1)
    answer = await api.get(audio_of(1), Range=header)
    assert (answer.status, answer.body) == (200, stored(rig, 1))


async def test_a_range_behind_the_end_is_not_satisfiable(rig: Rig, api: Api) -> None:
    await rig.record(1)
    size = len(stored(rig, 1))
    for header in (f"bytes={size}-", "bytes=-0"):
        answer = await api.get(audio_of(1), Range=header)
        assert answer.status == 416
        assert answer.headers["Content-Range"] == f"bytes */{size}"


async def test_head_knows_no_ranges(rig: Rig, api: Api) -> None:
    await rig.record(1)
    answer = await api.ask("HEAD", audio_of(1), headers={"Range": "bytes=0-9"})
    assert (answer.status, answer.headers["Content-Length"]) == (200, str(len(stored(rig, 1))))


async def test_if_range_protects_from_mixing_versions(rig: Rig, api: Api) -> None:
    writer = rig.create(1)
    writer.append(rig.sound(), SampleKind.RECEIVED)
    await rig.until(lambda entry: entry.length == 9600, 1)
    first = await api.get(audio_of(1))
    given = {"Range": "bytes=10-", "If-Range": first.headers["ETag"]}
    same = await api.get(audio_of(1), **given)
    assert (same.status, same.body) == (206, first.body[10:])
    writer.append(rig.sound(), SampleKind.RECEIVED)
    await rig.until(lambda entry: entry.length == 19_200, 1)
    grown = await api.get(audio_of(1), **given)
    assert (grown.status, grown.body) == (200, stored(rig, 1))
    assert grown.headers["ETag"] != first.headers["ETag"]
    await writer.finish(EndReason.CLOSED, START)
    complete = await api.get(audio_of(1), **given)
    assert complete.status == 200
    weak = {"Range": "bytes=10-", "If-Range": f"W/{complete.headers['ETag']}"}
    assert (await api.get(audio_of(1), **weak)).status == 200
    date = {"Range": "bytes=10-", "If-Range": "Sat, 02 Jan 2027 03:04:05 GMT"}
    assert (await api.get(audio_of(1), **date)).status == 200


# -- live -------------------------------------------------------------------------------------


async def test_a_live_recording_has_the_length_of_the_moment(wav_rig: Rig) -> None:
    writer = wav_rig.create(1)
    async with api_of(handlers(wav_rig)) as api:
        for length in (9600, 19_200, 28_800):
            writer.append([ramp(9600, length - 9600)], SampleKind.RECEIVED)
            await wav_rig.until(lambda entry, wanted=length: entry.length == wanted, 1)
            answer = await api.get(audio_of(1))
            samples, _ = soundfile.read(io.BytesIO(answer.body), dtype="int16", always_2d=True)
            np.testing.assert_array_equal(samples, ramp(length))
    await writer.finish(EndReason.CLOSED, START)


# -- large ------------------------------------------------------------------------------------


async def test_more_than_4_gib_are_sent_from_anywhere(
    wav_rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapters.opening.MAX_HOLES_BYTES", 2**40)  # else it is refused
    await wav_rig.record(1)
    path = pathlib.Path(wav_rig.catalogue.entry(info(1).id).parts[0].location)
    size = 5 * 2**30
    header = struct.pack(
        "<4sI4s4sIQQQI4sIHHIIHH4sI",
        b"RF64", 2**32 - 1, b"WAVE", b"ds64", 28, 72 + size, size, size // 2, 0,
        b"fmt ", 16, 1, 1, 48_000, 96_000, 2, 16, b"data", 2**32 - 1,
    )  # fmt: skip
    with path.open("wb") as file:
        file.write(header)
        file.truncate(len(header) + size)
        file.seek(len(header) + size - 4)
        file.write(b"tail")
    path.with_suffix(".json").unlink()
    total = len(header) + size
    async with api_of(handlers(wav_rig)) as api:
        head = await api.ask("HEAD", audio_of(1))
        assert head.headers["Content-Length"] == str(total)
        end = await api.get(audio_of(1), Range="bytes=-4")
        assert (end.body, end.headers["Content-Range"]) == (
            b"tail", f"bytes {total - 4}-{total - 1}/{total}",
        )  # fmt: skip
        middle = await api.get(audio_of(1), Range=f"bytes={2**32}-{2**32 + 99}")
        assert (middle.status, middle.body) == (206, bytes(100))
        assert (await api.get(audio_of(1), Range="bytes=0-79")).body == header


# -- clients ----------------------------------------------------------------------------------


@pytest.mark.skipif(CURL is None, reason="curl is not installed")
async def test_curl_goes_on_where_it_was_cut_off(wav_rig: Rig, tmp_path: pathlib.Path) -> None:
    assert CURL is not None
    writer = wav_rig.create(1)
    writer.append([ramp(2_000_000)], SampleKind.RECEIVED)
    await writer.finish(EndReason.CLOSED, START)
    whole = stored(wav_rig, 1)
    target = tmp_path / "download.wav"
    target.write_bytes(whole[:1_234_567])
    async with api_of(handlers(wav_rig)) as api:
        process = await asyncio.create_subprocess_exec(
            CURL, "--silent", "--show-error", "--fail", "-C", "-", "-o", str(target),
            "-H", f"Authorization: Bearer {TOKENS[Role.WATCH]}",
            "-w", "%{http_code} %{size_download}", api.url + audio_of(1),
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        said, _ = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 0
    assert said.decode() == f"206 {len(whole) - 1_234_567}"
    assert hashlib.sha256(target.read_bytes()).digest() == hashlib.sha256(whole).digest()


async def test_a_client_that_stops_reading_is_cut_off(
    wav_rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapters.http.connections.SEND_S", 1.0)
    writer = wav_rig.create(1)
    writer.append_silence(20_000_000, SampleKind.SILENCE)
    await writer.finish(EndReason.CLOSED, START)
    files = open_files()
    async with api_of(handlers(wav_rig)) as api:
        host, port = api.url.removeprefix("http://").split(":")
        reader, writing = await asyncio.open_connection(host, int(port), limit=1024)
        writing.write(
            f"GET {audio_of(1)} HTTP/1.1\r\nHost: localhost\r\n"
            f"Authorization: Bearer {TOKENS[Role.WATCH]}\r\n\r\n".encode()
        )
        await reader.readuntil(b"\r\n\r\n")
        other = await api.get(audio_of(1), Range="bytes=0-9")  # others are served meanwhile
        assert other.status == 206
        async with asyncio.timeout(20):
            while open_files() > files:
                await asyncio.sleep(0.05)
        writing.close()


def open_files() -> int:
    """Count the recordings that this process has open."""
    count = 0
    for descriptor in pathlib.Path("/proc/self/fd").iterdir():
        try:
            count += str(descriptor.readlink()).endswith((".wav", ".opus"))
        except FileNotFoundError:  # it is closed meanwhile
            continue
    return count


async def test_a_file_that_becomes_shorter_is_not_taken_for_whole(
    wav_rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    writer = wav_rig.create(1)
    writer.append_silence(20_000_000, SampleKind.SILENCE)
    await writer.finish(EndReason.CLOSED, START)
    path = wav_rig.catalogue.entry(info(1).id).parts[0].location
    async with api_of(handlers(wav_rig)) as api:
        headers = {"Authorization": f"Bearer {TOKENS[Role.WATCH]}"}
        async with api.http.get(api.url + audio_of(1), headers=headers) as response:
            await response.content.read(1)
            os.truncate(path, 5000)
            with pytest.raises(aiohttp.ClientError):
                await response.read()
    assert f"a recording cannot be sent: {info(1).name} has become shorter" in caplog.text


async def test_downloads_are_limited(wav_rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audio, "MAX_DOWNLOADS", 1)
    writer = wav_rig.create(1)
    writer.append_silence(20_000_000, SampleKind.SILENCE)
    await writer.finish(EndReason.CLOSED, START)
    async with api_of(handlers(wav_rig)) as api:
        headers = {"Authorization": f"Bearer {TOKENS[Role.WATCH]}"}
        async with api.http.get(api.url + audio_of(1), headers=headers) as response:
            await response.content.read(1)
            refused = await api.get(audio_of(1))
            assert (refused.status, refused.headers["Retry-After"]) == (503, "5")
            response.close()
        async with asyncio.timeout(10):
            while (await api.get(audio_of(1), Range="bytes=0-9")).status != 206:
                await asyncio.sleep(0.02)


# -- names ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("a-b_1.wav", 'attachment; filename="a-b_1.wav"'),
        ('a"b.wav', "attachment; filename=\"a_b.wav\"; filename*=UTF-8''a%22b.wav"),
        ("a\\b%.wav", "attachment; filename=\"a_b_.wav\"; filename*=UTF-8''a%5Cb%25.wav"),
        ("ü;.wav", "attachment; filename=\"_;.wav\"; filename*=UTF-8''%C3%BC%3B.wav"),
        ("a\r\nX: y", "attachment; filename=\"a__X_ y\"; filename*=UTF-8''a%0D%0AX%3A%20y"),
    ],
)
def test_names_of_files_are_quoted(name: str, value: str) -> None:
    assert attachment(name) == value
