"""`gapless spool`: what servers do not have yet is listed, sent and exported."""

from __future__ import annotations

import asyncio
import json
import pathlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import pytest
import soundfile
from click.testing import CliRunner, Result

from adapters.http.server import SignalingServer
from adapters.http.tls import TlsFiles
from adapters.storage.spool.folder import DiskSpoolFolder
from domain.ports.restoring import Confirmed
from domain.ports.spool import SpoolSession, SpoolWriter
from entrypoints.cli import main
from tests.fakes.http import FakeRestoring, FakeSessions, http_server
from tests.rigs.spooling import FORMAT, OPTIONS, block_at, description
from tests.rigs.tls import self_signed

RATE = FORMAT.sample_rate_hz
OLDER, NEWER = "20260102T030405Z-a", "20260102T030405Z-b"


@pytest.fixture(autouse=True)
def folder(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return tmp_path / "gapless" / "spool"


async def begin(folder: pathlib.Path, spool_id: str, *, server: str = "") -> SpoolWriter:
    """Begin a spool, and capture a second."""
    description_ = replace(description(spool_id), server=server)
    writer = await DiskSpoolFolder(str(folder), OPTIONS).create(description_)
    for position in range(0, RATE, RATE // 100):
        writer.write(block_at(position, RATE // 100, FORMAT))
    return writer


async def keep(
    folder: pathlib.Path,
    spool_id: str,
    *,
    server: str = "",
    session: SpoolSession | None = None,
) -> None:
    """Leave a spool."""
    writer = await begin(folder, spool_id, server=server)
    await writer.finish()
    if session is not None:
        await writer.spool.note_session(session)
    await writer.spool.release()


async def run(*arguments: str) -> Result:
    """Run a command in another thread, as its servers run in this one."""
    return await asyncio.to_thread(CliRunner().invoke, main, ["spool", *arguments])


async def ids(folder: pathlib.Path) -> list[str]:
    entries = await DiskSpoolFolder(str(folder), OPTIONS).entries()
    return [entry.description.id for entry in entries]


@dataclass
class Server:
    url: str
    sessions: FakeSessions
    restoring: FakeRestoring
    server: SignalingServer


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    sessions = FakeSessions(opens={"secret": "session"})
    restoring = FakeRestoring({"session": "secret"})
    signaling = http_server(sessions, restoring=restoring, token="token")
    yield Server(await signaling.start(), sessions, restoring, signaling)
    await signaling.stop()


def test_a_folder_that_is_not_there_owes_nothing() -> None:
    for arguments in (["spool"], ["spool", "list"], ["spool", "send"]):
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code == 0
        assert result.output == "nothing is owed to any server\n"


async def test_spools_are_listed_with_what_is_known_of_them(folder: pathlib.Path) -> None:
    await keep(folder, OLDER, server="http://first:8080")
    used = await begin(folder, NEWER, server="http://second:8080")
    for result in (await run(), await run("list"), await run("list", "--spool", str(folder))):
        assert result.exit_code == 0
        head, older, newer = result.output.splitlines()
        assert head.split() == ["ID", "NAME", "LENGTH", "FORMAT", "SERVER", "STATE", "SIZE"]
        assert older.startswith(f"{OLDER}  Anna  00:00:01.0  ")
        assert "  http://first:8080   owed    " in older
        assert "  http://second:8080  in use  " in newer
    await used.finish()
    await used.spool.release()


async def test_the_folder_may_be_told_before_or_behind_the_command(tmp_path: pathlib.Path) -> None:
    stick, other = tmp_path / "stick", tmp_path / "other"
    await keep(stick, OLDER)
    for arguments in ([], ["list"], ["list", "--spool", str(stick)]):
        given = other if "--spool" in arguments else stick  # the latter counts
        result = await run("--spool", str(given), *arguments)
        assert OLDER in result.output


async def test_the_list_is_also_there_as_json(folder: pathlib.Path) -> None:
    session = SpoolSession("http://elsewhere:8080", "session", "secret")
    await keep(folder, OLDER, server="http://first:8080", session=session)
    result = await run("list", "--json")
    (entry,) = json.loads(result.output)
    assert entry.pop("bytes") > 1000
    assert entry == {
        "id": OLDER,
        "name": "Anna",
        "started_at": "2026-01-02T03:04:05+00:00",
        "seconds": 1.0,
        "sample_rate_hz": 48_000,
        "channels": 2,
        "sample_format": "s24",
        "server": "http://elsewhere:8080",
        "state": "owed",
    }
    assert "secret" not in result.output


async def test_a_name_from_a_stick_does_not_control_the_terminal(folder: pathlib.Path) -> None:
    writer = await DiskSpoolFolder(str(folder), OPTIONS).create(
        replace(description(OLDER), name="a\x1b[2Jb")
    )
    writer.write(block_at(0, RATE, FORMAT))
    await writer.finish()
    await writer.spool.release()
    assert "\x1b" not in (await run()).output


async def test_a_spool_is_exported_and_stays(folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    await keep(folder, OLDER)
    target = tmp_path / "talk.wav"
    result = await run("export", OLDER, str(target))
    assert (result.exit_code, result.output) == (0, f"{target}: 00:00:01.0\n")
    info = soundfile.info(target)
    assert (info.frames, info.samplerate, info.subtype) == (RATE, RATE, "PCM_24")
    assert await ids(folder) == [OLDER]
    assert (await run("export", OLDER, str(target))).exit_code == 1  # nothing is overwritten


@pytest.mark.parametrize("command", ["export", "send"])
async def test_a_spool_that_is_not_there_is_named(folder: pathlib.Path, command: str) -> None:
    result = await run(command, "nonsense")
    assert result.exit_code == 1
    assert "nonsense is not there" in result.output
    used = await begin(folder, NEWER)
    result = await run(command, NEWER)
    assert result.exit_code == 1
    assert f"{NEWER} is in use" in result.output
    await used.finish()
    await used.spool.release()


async def test_what_is_owed_is_sent_to_its_own_server(folder: pathlib.Path, server: Server) -> None:
    session = SpoolSession(server.url, "session", "secret")
    await keep(folder, OLDER, server=server.url, session=session)
    result = await run("send")
    assert result.exit_code == 0
    assert f"{OLDER} (Anna): 00:00:01.0 to {server.url}" in result.output
    assert f"{OLDER}: 00:00:01.0 captured, all of it on the server" in result.output
    assert server.sessions.deleted == ["session"]
    (captured,) = server.restoring.captures
    assert captured.length == RATE
    assert await ids(folder) == []


async def test_the_last_word_says_that_both_ends_have_the_same(
    folder: pathlib.Path, server: Server
) -> None:
    await keep(folder, OLDER, session=SpoolSession(server.url, "session", "secret"))
    (spool,) = await DiskSpoolFolder(str(folder), OPTIONS).owed()
    sha256 = await spool.sha256()
    await spool.release()
    server.restoring.confirms = Confirmed("complete", sha256)
    result = await run("send")
    assert f"all of it on the server, sha256 {sha256}, the same on both ends" in result.output


async def test_what_never_had_a_session_gets_one(folder: pathlib.Path, server: Server) -> None:
    await keep(folder, OLDER, server="http://127.0.0.1:1")
    result = await run("send", "--server", server.url, "--token", "token")
    assert result.exit_code == 0
    ((_, name),) = server.sessions.offers
    assert name == "Anna"
    (said,) = server.sessions.spools
    assert said is not None
    assert said.format == FORMAT
    assert server.sessions.deleted == ["session"]
    assert await ids(folder) == []


async def test_the_spools_of_others_do_not_say_who_gets_the_token(
    tmp_path: pathlib.Path, server: Server
) -> None:
    stick = tmp_path / "stick"
    await keep(stick, OLDER, server=server.url)
    arguments = ("send", "--spool", str(stick), "--token", "token")
    result = await run(*arguments)
    assert result.exit_code == 1
    assert "the server refused (401)" in result.output
    assert server.sessions.offers == []
    assert (await run(*arguments, "--server", server.url)).exit_code == 0
    assert len(server.sessions.offers) == 1


async def test_a_fingerprint_is_that_of_the_server_in_the_settings(
    folder: pathlib.Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GAPLESS_SERVER", "https://another")
    monkeypatch.setenv("GAPLESS_FINGERPRINT", "00" * 32)
    await keep(folder, OLDER, session=SpoolSession(server.url, "session", "secret"))
    assert (await run("send")).exit_code == 0
    assert await ids(folder) == []


async def test_a_pinned_server_gets_nothing_if_it_is_another(
    folder: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    certificate, key = self_signed(tmp_path)
    sessions = FakeSessions(opens={"secret": "session"})
    signaling = http_server(sessions, tls=TlsFiles(certificate, key))
    url = await signaling.start()
    await keep(folder, OLDER, server=url)
    result = await run("send", "--server", url, "--fingerprint", "00" * 32)
    await signaling.stop()
    assert result.exit_code == 1
    assert "has another fingerprint than it should have" in result.output
    assert await ids(folder) == [OLDER]
    assert sessions.offers == []


async def test_only_what_is_named_is_sent(folder: pathlib.Path, server: Server) -> None:
    for spool_id in (OLDER, NEWER):
        await keep(folder, spool_id, session=SpoolSession(server.url, "session", "secret"))
    assert (await run("send", NEWER)).exit_code == 0
    assert await ids(folder) == [OLDER]


@pytest.mark.parametrize("noted", ["", "file:///etc/passwd"])
async def test_a_spool_without_a_server_is_kept(folder: pathlib.Path, noted: str) -> None:
    await keep(folder, OLDER, server=noted)
    result = await run("send")
    assert result.exit_code == 1
    assert "does not say to which server it belongs (--server); it is kept" in result.output
    assert await ids(folder) == [OLDER]


async def test_what_a_server_refuses_is_kept(folder: pathlib.Path, server: Server) -> None:
    await keep(folder, OLDER, server=server.url)
    result = await run("send", "--token", "wrong")
    assert result.exit_code == 1
    assert "the server refused (401)" in result.output
    assert "it is kept" in result.output
    (spool,) = await DiskSpoolFolder(str(folder), OPTIONS).owed()  # nobody uses it
    await spool.release()


def test_settings_are_checked() -> None:
    result = CliRunner().invoke(main, ["spool", "send", "--server", "nonsense"])
    assert result.exit_code == 2
    assert "http://" in result.output
