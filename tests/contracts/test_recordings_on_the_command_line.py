"""`gapless recordings` lists, shows, downloads and deletes what a server has recorded."""

from __future__ import annotations

import asyncio
import json
import pathlib
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from typing import Any

import pytest
import soundfile
from aiohttp import web
from click.testing import CliRunner, Result

from adapters.codec.pyav import PyAvResampler
from adapters.http.api.audio import AudioHandlers
from adapters.http.api.recordings import RecordingHandlers
from adapters.http.api.verdicts import VerdictHandlers
from adapters.http.routes import Route
from adapters.storage.converting import begin_file
from adapters.storage.folder.inspection import FolderInspector
from domain.recording.effects import EndReason
from domain.recording.ledger import SampleKind
from domain.session.roles import Role
from entrypoints import downloading
from entrypoints.cli import main
from entrypoints.commands.recordings import _table
from tests.fakes.events import SeenByServer
from tests.rigs.api import TOKENS, Api, api_of
from tests.rigs.recordings import START, Rig, close, info, open_folder, ramp


class _Events(SeenByServer):
    def publish(self, event: Any) -> None:
        self.events.append(event)


class _Requests(AudioHandlers):
    """Notes the ranges that are asked for; breaks off after `breaks_after` bytes."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.ranges: list[str | None] = []
        self.breaks_after: int | None = None

    def routes(self) -> list[Route]:
        (route,) = super().routes()

        async def note(request: web.Request) -> web.StreamResponse:
            self.ranges.append(request.headers.get("Range"))
            if self.breaks_after is not None:
                transport = request.transport
                assert transport is not None
                original, left = transport.write, self.breaks_after

                def write(data: Any) -> None:
                    nonlocal left
                    original(bytes(data)[: max(0, left)])
                    left -= len(data)
                    if left <= 0:
                        transport.close()

                request.protocol.transport.write = write  # type: ignore[union-attr, method-assign]
            return await route.handler(request)

        return [Route("GET", route.path, note, role=route.role, operation=route.operation)]


@pytest.fixture
def rig(tmp_path: pathlib.Path) -> Iterator[Rig]:
    rig = open_folder(tmp_path / "recordings")
    yield rig
    close(rig)


@pytest.fixture
def requests(rig: Rig) -> _Requests:
    return _Requests(rig.catalogue, begin_file, max_conversions=4)


@pytest.fixture
async def api(rig: Rig, requests: _Requests) -> AsyncIterator[Api]:
    handlers = [
        RecordingHandlers(rig.catalogue, _Events()),
        requests,
        VerdictHandlers(rig.catalogue, FolderInspector(PyAvResampler)),
    ]
    async with api_of(handlers) as api:
        yield api


@pytest.fixture(autouse=True)
def place(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """The folder in which the commands run."""
    place = tmp_path / "place"
    place.mkdir()
    monkeypatch.chdir(place)
    return place


async def run(
    api: Api, *arguments: str, role: Role = Role.WATCH, typed: str | None = None
) -> Result:
    """Run a command in another thread, as its server runs in this one."""
    command, *rest = arguments
    given = ["recordings", command, "--server", api.url, *rest]
    env = {"GAPLESS_TOKEN": TOKENS[role]}
    return await asyncio.to_thread(CliRunner().invoke, main, given, input=typed, env=env)


async def record_long(rig: Rig) -> bytes:
    """Record 4 MB; return the file."""
    writer = rig.create(1)
    writer.append([ramp(2_000_000)], SampleKind.RECEIVED)
    await writer.finish(EndReason.CLOSED, START)
    with closing(rig.catalogue.open(info(1).id)) as opened:
        return opened.read_bytes(0, opened.size)


# -- list and show ----------------------------------------------------------------------------


async def test_recordings_are_listed_in_a_table(rig: Rig, api: Api) -> None:
    await rig.record(1)
    await rig.record(2, client="Bad")
    result = await run(api, "list")
    assert result.exit_code == 0, result.output
    heading, second, first = result.output.splitlines()
    assert heading.split() == ["ID", "STARTED", "LENGTH", "STATE", "SIZE", "NAME"]
    assert second.split()[0] == info(2).id and second.split()[-1] == "Bad"
    assert first.split()[-4:] == ["complete", "20.0", "kB", "kitchen"]
    assert "00:00:00.2" in first
    named = await run(
        api, "list", "--name", "kitch", "--since", "2026-01-01", "--state", "complete"
    )
    assert [line.split()[0] for line in named.output.splitlines()] == ["ID", info(1).id]
    assert (await run(api, "list", "--until", "2026-01-01")).output == "no recordings\n"


async def test_a_list_of_several_pages_is_one_object(
    rig: Rig, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("entrypoints.commands.recordings._PAGE", 2)
    for number in range(5):
        await rig.record(number)
    found = json.loads((await run(api, "list", "--limit", "3", "--json")).output)
    assert [one["id"] for one in found["recordings"]] == [info(n).id for n in (4, 3, 2)]
    assert found["next"]
    found = json.loads((await run(api, "list", "--json")).output)
    assert len(found["recordings"]) == 5 and found["next"] is None


@pytest.mark.parametrize("width", [60, 80, 100, 200])
def test_a_table_fits_the_terminal(width: int) -> None:
    one = {
        "id": "0123456789abcdef" * 2, "started_at": "2026-01-02T03:04:05+00:00",
        "seconds": 3600.5, "state": "complete", "size_bytes": 5e8, "room": "friday",
        "client_name": "a-name-that-is-quite-long-" * 2,
    }  # fmt: skip
    lines = _table([one, {}], width)
    assert max(map(len, lines)) <= max(width, 75)
    assert all("0123456789abcdef" * 2 in line for line in lines[1:2])
    assert ("SIZE" in lines[0]) == (width >= 120)
    assert max(map(len, _table([one], None))) > 140  # in a pipe everything is shown


def test_what_a_server_says_does_not_control_the_terminal() -> None:
    (_, line) = _table([{"id": "\x1b[2J", "client_name": "a\nb"}], None)
    assert line.isprintable()


async def test_one_is_shown(rig: Rig, api: Api) -> None:
    await rig.record(1)
    result = await run(api, "show", info(1).id, "--verdict")
    assert result.exit_code == 0, result.output
    assert f"name     {info(1).name}" in result.output
    assert "title    kitchen" in result.output
    assert "sound    opus, 48000 Hz, mono" in result.output
    assert "verdict  sound" in result.output
    as_json = json.loads((await run(api, "show", info(1).id, "--json")).output)
    assert as_json == (await api.get(f"/api/recordings/{info(1).id}")).json
    ledger = json.loads((await run(api, "show", info(1).id, "--ledger")).output)
    assert ledger["spans"] == [{"start": 0, "length": 9600, "kind": "received"}]


async def test_a_bad_verdict_is_an_exit_code(rig: Rig, api: Api) -> None:
    await rig.record(1)
    path = pathlib.Path(rig.catalogue.entry(info(1).id).parts[0].location)
    path.write_bytes(path.read_bytes()[:-2] + b"xx")
    result = await run(api, "show", info(1).id, "--verdict")
    assert result.exit_code == 1
    assert "verdict  not sound" in result.output and "problem" in result.output


async def test_errors_have_reasons_and_exit_codes(rig: Rig, api: Api) -> None:
    result = await run(api, "show", "../../etc")
    assert result.exit_code == 1
    assert "the server refused (404)" in result.output
    assert (await run(api, "list", "--since", "yesterday")).exit_code == 2
    assert (await run(api, "list", "--limit", "0")).exit_code == 2
    assert "(403)" in (await run(api, "list", role=Role.PUBLISH)).output


# -- get --------------------------------------------------------------------------------------


async def test_a_recording_is_downloaded(rig: Rig, api: Api, place: pathlib.Path) -> None:
    whole = await record_long(rig)
    result = await run(api, "get", info(1).id)
    assert result.exit_code == 0, result.output
    assert result.output == f"{info(1).name}.wav: 4.0 MB\n"
    assert (place / f"{info(1).name}.wav").read_bytes() == whole
    assert [path.name for path in place.iterdir()] == [f"{info(1).name}.wav"]


async def test_nothing_is_replaced_unless_forced(
    rig: Rig, api: Api, place: pathlib.Path, requests: _Requests
) -> None:
    await rig.record(1)
    target = place / "talk.wav"
    target.write_bytes(b"mine")
    result = await run(api, "get", info(1).id, "talk.wav")
    assert (result.exit_code, target.read_bytes()) == (2, b"mine")
    assert requests.ranges == []
    assert (await run(api, "get", info(1).id, "talk.wav", "--force")).exit_code == 0
    assert soundfile.info(str(target)).frames == 9600


async def test_an_interrupted_download_goes_on(
    rig: Rig, api: Api, place: pathlib.Path, requests: _Requests
) -> None:
    whole = await record_long(rig)
    requests.breaks_after = 1_500_000
    result = await run(api, "get", info(1).id, "talk.wav")
    assert result.exit_code == 1, result.output
    (partial,) = place.iterdir()
    have = partial.stat().st_size
    assert 0 < have < 1_500_000
    requests.breaks_after = None
    result = await run(api, "get", info(1).id, "talk.wav")
    assert result.exit_code == 0, result.output
    assert requests.ranges == [None, f"bytes={have - 1}-"]
    assert (place / "talk.wav").read_bytes() == whole
    assert [path.name for path in place.iterdir()] == ["talk.wav"]


@pytest.mark.parametrize("have", [0, 1, 1000, None])
async def test_what_is_left_of_this_version_is_used(
    rig: Rig, api: Api, place: pathlib.Path, have: int | None
) -> None:
    whole = await record_long(rig)
    version = (await api.ask("HEAD", f"/api/recordings/{info(1).id}/audio")).headers["ETag"]
    (place / f"talk.wav.{version.strip(chr(34))}.partial").write_bytes(whole[:have])
    result = await run(api, "get", info(1).id, "talk.wav")
    assert result.exit_code == 0, result.output
    assert (place / "talk.wav").read_bytes() == whole
    assert [path.name for path in place.iterdir()] == ["talk.wav"]


async def test_what_is_left_of_another_version_is_not_mixed_in(
    rig: Rig, api: Api, place: pathlib.Path
) -> None:
    whole = await record_long(rig)
    (place / "talk.wav.0123456789abcdef.partial").write_bytes(b"x" * 1000)
    assert (await run(api, "get", info(1).id, "talk.wav")).exit_code == 0
    assert (place / "talk.wav").read_bytes() == whole
    assert [path.name for path in place.iterdir()] == ["talk.wav"]


async def test_a_conversion_is_downloaded_and_leaves_no_rest(
    rig: Rig, api: Api, place: pathlib.Path, requests: _Requests
) -> None:
    await record_long(rig)
    assert (await run(api, "get", info(1).id, "--format", "flac")).exit_code == 0
    assert soundfile.info(str(place / f"{info(1).name}.flac")).frames == 2_000_000
    requests.breaks_after = 2_000
    result = await run(api, "get", info(1).id, "other.flac", "--format", "flac")
    assert result.exit_code == 1
    assert [path.name for path in place.iterdir()] == [f"{info(1).name}.flac"]


async def test_a_long_download_shows_its_progress(
    rig: Rig, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    await record_long(rig)
    quick = await run(api, "get", info(1).id, "quick.wav")
    assert "%" not in quick.output
    monkeypatch.setattr(downloading, "_QUIET_S", 0.0)
    monkeypatch.setattr(downloading, "_PLAIN_S", 0.0)
    slow = await run(api, "get", info(1).id, "slow.wav")
    assert "of 4.0 MB (100%)" in slow.output


async def test_a_folder_that_does_not_exist_is_an_error(rig: Rig, api: Api) -> None:
    await rig.record(1)
    result = await run(api, "get", info(1).id, "nowhere/talk.wav")
    assert result.exit_code == 1
    assert "cannot write nowhere/talk.wav: No such file or directory" in result.output


async def test_a_server_cannot_choose_where_files_are_written(place: pathlib.Path) -> None:
    class Evil:
        def routes(self) -> list[Route]:
            async def show(_request: web.Request) -> web.StreamResponse:
                return web.json_response({"name": "../evil", "container": "wav"})

            return [Route("GET", "/api/recordings/{id}", show, role=Role.WATCH)]

    async with api_of([Evil()]) as api:
        result = await run(api, "get", "1")
    assert result.exit_code == 1
    assert "names a file that cannot be one" in result.output
    assert list(place.iterdir()) == []


# -- delete -----------------------------------------------------------------------------------


async def test_deleting_asks_before(rig: Rig, api: Api) -> None:
    for number in (1, 2, 3):
        await rig.record(number)
    kept = await run(api, "delete", info(1).id, role=Role.ADMIN, typed="n\n")
    assert "kept" in kept.output and "kitchen" in kept.output
    gone = await run(api, "delete", info(1).id, role=Role.ADMIN, typed="y\n")
    assert gone.exit_code == 0
    nobody = await run(api, "delete", info(2).id, role=Role.ADMIN, typed="")
    assert nobody.exit_code == 1
    both = await run(api, "delete", "--yes", info(2).id, info(3).id, role=Role.ADMIN)
    assert both.exit_code == 0
    assert rig.ids() == []


async def test_watchers_do_not_delete(rig: Rig, api: Api) -> None:
    await rig.record(1)
    result = await run(api, "delete", "--yes", info(1).id)
    assert (result.exit_code, rig.ids()) == (1, [info(1).id])
    assert "admin" in result.output
