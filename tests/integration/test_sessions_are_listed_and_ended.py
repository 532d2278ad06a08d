"""Administrators see what is recorded, tell its speakers something, and end it."""

from __future__ import annotations

import asyncio
import json
import pathlib
import subprocess
import sys
from typing import Any

import aiohttp
import pytest

from tests.rigs.processes import Process, Server, environment, gapless, serving, worker_of

pytestmark = pytest.mark.timeout(180)  # it runs a dozen commands
WORKERS = 2
STREAM = ("stream", "--capture", "tone", "--server")


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "entrypoints", "sessions", *arguments],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def session_of(client: Process) -> str:
    return client.wait_for("connected, session ").split()[2].strip(";")


def listed(server: Server) -> list[dict[str, Any]]:
    done = command("list", "--json", "--server", server.url)
    assert (done.returncode, done.stderr) == (0, "")
    found: list[dict[str, Any]] = json.loads(done.stdout)["sessions"]
    return found


async def lists(server: Server, count: int) -> list[Any]:
    """Ask over a new connection each time, so that any worker may answer."""
    connector = aiohttp.TCPConnector(force_close=True)
    found = []
    async with aiohttp.ClientSession(connector=connector) as http:
        for _ in range(count):
            async with http.get(f"{server.url}/api/sessions") as answer:
                assert answer.status == 200
                found.append(await answer.json())
    return found


def test_every_worker_lists_and_ends_all_sessions(tmp_path: pathlib.Path) -> None:
    with (
        serving(tmp_path, "--workers", str(WORKERS)) as server,
        gapless(*STREAM, server.url, "--name", "one") as one,
        gapless(*STREAM, server.url, "--name", "two") as two,
    ):
        ids = {session_of(client) for client in (one, two)}
        parent = server.process.process.pid
        assert len({worker_of(session, parent) for session in ids}) == WORKERS
        for found in asyncio.run(lists(server, 12)):
            assert found["is_complete"] is True
            assert {session["id"] for session in found["sessions"]} == ids
            assert {session["name"] for session in found["sessions"]} == {"one", "two"}
            assert {session["state"] for session in found["sessions"]} == {"recording"}
        assert {session["id"] for session in listed(server)} == ids
        for client, name in ((one, "one"), (two, "two")):
            (session,) = (item["id"] for item in found["sessions"] if item["name"] == name)
            sent = command("message", session, f"hello {name}", "--server", server.url)
            assert (sent.returncode, sent.stderr) == (0, "")
            client.wait_for(f"message: hello {name}")
        ended = command("end", *ids, "--server", server.url)
        assert (ended.returncode, ended.stderr) == (0, "")
        assert asyncio.run(lists(server, 4)) == [{"sessions": [], "is_complete": True}] * 4
        assert {one.end(), two.end()} == {1}
    assert len(list(tmp_path.glob("*.wav"))) == 2


def test_a_speaker_is_told_something(tmp_path: pathlib.Path) -> None:
    with serving(tmp_path) as server, gapless(*STREAM, server.url, "--name", "desk") as client:
        session = session_of(client)
        sent = command("message", session, "closer, please \x1b", "--server", server.url)
        assert (sent.returncode, "control characters" in sent.stderr) == (1, True)
        sent = command("message", session, "näher ran, bitte", "--server", server.url)
        assert (sent.returncode, sent.stderr) == (0, "")
        client.wait_for("message: näher ran, bitte")
        table = command("list", "--server", server.url)
        head, row = table.stdout.splitlines()
        assert head.split()[:3] == ["ID", "NAME", "STATE"]
        assert row.split()[:3] == [session, "desk", "recording"]
        assert " dBFS" in row
        (status,) = listed(server)
        (track,) = status["tracks"]
        assert track["shares"]["received"] == pytest.approx(1, abs=0.01)
        assert (track["codec"], track["lost"], track["fault"]) == ("opus", 0, None)
        assert command("list", "--watch", "--server", server.url).returncode == 2
        assert client.stop() == 0
    assert command("list", "--server", server.url).returncode == 1
