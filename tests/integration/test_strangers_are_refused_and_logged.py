"""Guesses and floods against real servers: what strangers get, and what is logged of them."""

from __future__ import annotations

import asyncio
import collections
import json
import pathlib
import signal
import time
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from adapters.http.refusals import FREE_TOKENS, TOLD_KINDS
from entrypoints.log_limit import MAX_LINES
from tests.integration.test_terminal_that_hangs import decline_a_track
from tests.rigs.processes import gapless, serving

TOKEN, ADMIN = "the clients' own token", "the administrator's token"
TOKENS = ("--token", TOKEN, "--admin-token", ADMIN)
OFFER = {"sdp": "v=0", "type": "offer"}
FLOOD_S = 4.0
COUNTED = MAX_LINES + 5


def entries(path: pathlib.Path) -> list[dict[str, Any]]:
    """Read an audit log, in which nothing secret and no control character may be."""
    text = path.read_bytes()
    assert text.endswith(b"\n")
    assert all(32 <= byte < 127 or byte == 10 for byte in text)
    for secret in (TOKEN, ADMIN, "guess"):
        assert secret.encode() not in text
    return [json.loads(line) for line in text.splitlines()]


async def wait_for(path: pathlib.Path, **wanted: Any) -> dict[str, Any]:
    """Wait for an entry of an audit log."""
    async with asyncio.timeout(30):
        while True:
            for entry in entries(path) if path.exists() else ():
                if wanted.items() <= entry.items():
                    return entry
            await asyncio.sleep(0.05)


@asynccontextmanager
async def new_connections() -> AsyncIterator[aiohttp.ClientSession]:
    """Use a new connection for each request, so that any worker may accept it."""
    connector = aiohttp.TCPConnector(force_close=True)
    async with aiohttp.ClientSession(connector=connector) as http:
        yield http


async def offer(http: aiohttp.ClientSession, url: str, token: str) -> int:
    headers = {"Authorization": f"Bearer {token}"}
    async with http.post(f"{url}/offer", json=OFFER, headers=headers) as answer:
        await answer.read()
        return answer.status


@pytest.mark.parametrize("workers", [1, 2])
async def test_guesses_get_no_answers_and_cost_others_nothing(
    tmp_path: pathlib.Path, workers: int
) -> None:
    log = tmp_path / "audit.log"
    options = ("--workers", str(workers), "--audit-log", str(log), *TOKENS)
    with serving(tmp_path / "recordings", *options) as server:
        command = ("stream", "--server", server.url, "--capture", "tone", "--token", TOKEN)
        with gapless(*command) as client:
            server.process.wait_for("recording,")
            answered: collections.Counter[int] = collections.Counter()
            let_in: collections.Counter[int] = collections.Counter()
            end = time.monotonic() + FLOOD_S

            async def guess(number: int) -> None:
                async with new_connections() as http:
                    while time.monotonic() < end:
                        answered[await offer(http, server.url, f"guess {number}")] += 1

            async def use() -> None:
                """Another client of the same address, which has the token."""
                async with new_connections() as http:
                    while time.monotonic() < end:
                        headers = {"Authorization": f"Bearer {TOKEN}"}
                        async with http.get(f"{server.url}/whip", headers=headers) as answer:
                            let_in[answer.status] += 1
                        await asyncio.sleep(0.1)

            await asyncio.gather(use(), *(guess(number) for number in range(8)))
            client.process.send_signal(signal.SIGINT)
            assert client.end() == 0, client.errors
        guesses = sum(answered.values())
        print(f"{workers} workers: {guesses / FLOOD_S:.0f} guesses/s, {dict(answered)}")
        assert set(answered) == {401, 429}
        # beyond the first ones, one after 1, 2, 4 … s
        assert answered[401] <= workers * (FREE_TOKENS + 3)
        assert set(let_in) == {204}
        assert let_in[204] >= 5
        said = [line for line in server.process.lines if "refused" in line]
        assert 0 < len(said) <= 2 * workers
        assert "POST /offer from 127.0.0.1: too many wrong tokens" in said[0]
    (recording,) = (tmp_path / "recordings").glob("*.json")
    spans = json.loads(recording.read_text())["spans"]
    assert [span["kind"] for span in spans] == ["received"]
    found = entries(log)
    assert len(found) < 15 + 10 * workers
    refused = [entry for entry in found if entry["event"] == "refused"]
    assert sum(entry["count"] for entry in refused) == guesses  # the server has ended
    assert {entry["address"] for entry in refused} == {"127.0.0.1"}
    assert len({entry["pid"] for entry in refused}) == workers
    opened = next(entry for entry in found if entry["event"] == "session opened")
    assert (opened["address"], opened["token"]) == ("127.0.0.1", "token")
    assert {"server started", "server stopping", "session ended"} <= {
        entry["event"] for entry in found
    }


async def test_a_flood_from_many_addresses_is_a_few_lines(tmp_path: pathlib.Path) -> None:
    log = tmp_path / "audit.log"
    options = ("--audit-log", str(log), "--trusted-proxies", "127.0.0.1", *TOKENS)
    with serving(tmp_path / "recordings", *options) as server:
        async with aiohttp.ClientSession() as http:

            async def ask(number: int) -> int:
                headers = {
                    "X-Forwarded-For": f"2001:db8:{number:x}::1",
                    "Authorization": f"Bearer guess {number}",
                }
                async with http.delete(f"{server.url}/sessions/x", headers=headers) as answer:
                    return answer.status

            for start in range(0, 3000, 100):
                assert {*await asyncio.gather(*map(ask, range(start, start + 100)))} == {401}
    found = [entry for entry in entries(log) if entry["event"] == "refused"]
    assert sum(entry["count"] for entry in found) == 3000
    assert len(found) == TOLD_KINDS + 2
    assert log.stat().st_size < 10_000


async def test_a_log_is_rotated_while_workers_write(tmp_path: pathlib.Path) -> None:
    """As logrotate does it, both ways: nobody tells the server."""
    log, old = tmp_path / "audit.log", tmp_path / "audit.log.1"
    options = ("--workers", "2", "--audit-log", str(log), *TOKENS)
    with serving(tmp_path / "recordings", *options) as server:
        async with new_connections() as http:

            async def refuse_of_both(path: str, refused: str) -> None:
                """Let each worker refuse a request that it has not refused before."""
                writers: set[int] = set()
                while len(writers) < 2:
                    async with http.request("GET", f"{server.url}{path}") as answer:
                        assert answer.status == 401
                    await asyncio.sleep(0.05)
                    writers = {entry["pid"] for entry in entries(log)
                               if entry.get("request") == refused}  # fmt: skip

            await refuse_of_both("/whip", "GET /whip")
            log.rename(old)
            before = old.read_bytes()
            log.write_text("{}\n")  # logrotate's `create`
            await refuse_of_both("/whip/x", "GET /whip/{secret}")
            assert old.read_bytes() == before
            with log.open("r+b") as file:  # logrotate's `copytruncate`
                file.truncate(0)
            await refuse_of_both("/nothing", "another request")
    assert entries(log)[0]["request"] == "another request"


async def test_who_ends_a_session_is_logged(tmp_path: pathlib.Path) -> None:
    log = tmp_path / "audit.log"
    options = ("--workers", "2", "--audit-log", str(log), *TOKENS)
    with serving(tmp_path / "recordings", *options) as server:
        name = "a\x1b[2J\u202e\nname"
        command = ("stream", "--server", server.url, "--capture", "tone", "--token", TOKEN)
        with gapless(*command, "--name", name) as client:
            session = server.process.wait_for("recording,").split()[0]
            opened = await wait_for(log, event="session opened", session=session)
            assert opened["name"] == name
            headers = {"Authorization": f"Bearer {ADMIN}"}
            async with (
                new_connections() as http,
                http.delete(f"{server.url}/sessions/{session}", headers=headers) as answer,
            ):
                assert answer.status == 204
            deleted = await wait_for(log, event="session deleted", session=session)
            assert (deleted["token"], deleted["address"]) == ("admin_token", "127.0.0.1")
            assert (await wait_for(log, event="session ended"))["reason"] == "deleted"
            client.end()


def test_an_audit_log_that_cannot_be_written_is_said_at_the_start(tmp_path: pathlib.Path) -> None:
    for workers in ("1", "2"):
        command = ("serve", "--port", "0", "--recordings", str(tmp_path), "--workers", workers)
        with gapless(*command, "--audit-log", str(tmp_path / "no" / "log")) as process:
            assert process.end() == 2
        assert len(process.errors) == 1
        assert "audit_log: cannot write" in process.errors[0]


def test_a_server_without_tokens_tells_others_only_that_it_works(tmp_path: pathlib.Path) -> None:
    with serving(tmp_path, "--host", "0.0.0.0", "--allow-anyone") as server:
        url = server.url.replace("0.0.0.0", "127.0.0.1")
        with urllib.request.urlopen(f"{url}/health") as response:
            assert json.load(response) == {"status": "ok"}


def test_what_offers_make_the_server_say_is_counted(tmp_path: pathlib.Path) -> None:
    command = ("serve", "--port", "0", "--recordings", str(tmp_path))
    with gapless(*command) as process:
        url = process.wait_for("listening on ").partition("listening on ")[2].split()[0]
        for number in range(COUNTED):
            decline_a_track(url, number=number)
        with urllib.request.urlopen(f"{url}/health") as response:  # on loopback
            assert json.load(response)["sessions"] == COUNTED
        assert process.stop() == 0
    assert len([line for line in process.errors if "WARNING: declined" in line]) == MAX_LINES
    assert process.errors[-1].startswith(f"gapless: {COUNTED - MAX_LINES} more of: declined audio")
    assert len(process.errors) == MAX_LINES + 1
