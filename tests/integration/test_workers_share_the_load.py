"""Several processes behind one port: every request reaches the worker of its session."""

from __future__ import annotations

import asyncio
import collections
import json
import os
import pathlib
import re
import secrets
import signal
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from typing import Any

import aiohttp
import pytest

from tests.rigs.clients import Publishing, Remote
from tests.rigs.processes import Process, Server, gapless, serving, worker_of, workers_of

WORKERS = 3


def ledgers(folder: pathlib.Path) -> dict[str, dict[str, Any]]:
    """Return the ledgers by session."""
    found = [json.loads(path.read_text()) for path in folder.glob("*.json")]
    return {ledger["id"]: ledger for ledger in found}


@asynccontextmanager
async def reaching(server: Server) -> AsyncIterator[Remote]:
    """Use a new connection for each request, so that any worker may accept it."""
    connector = aiohttp.TCPConnector(force_close=True)
    async with aiohttp.ClientSession(connector=connector) as http:
        yield Remote(server.url, http)


async def health(server: Remote) -> Any:
    async with server.http.get(f"{server.url}/health") as response:
        return await response.json()


@asynccontextmanager
async def connected(server: Remote, count: int, workers: int) -> AsyncIterator[list[Publishing]]:
    """Connect at least `count` clients, and more until each worker has one."""
    clients: list[Publishing] = []
    async with AsyncExitStack() as closing:
        while len(clients) < count or len(owners(clients)) < workers:
            assert len(clients) < 50 * workers, "a worker gets no client"
            clients.append(Publishing(server))
            closing.push_async_callback(clients[-1].close)
            await clients[-1].start()
        yield clients


def owners(clients: list[Publishing]) -> collections.Counter[str]:
    """Count the clients of each worker: each has a UDP port of its own."""
    found = [re.search(r"candidate:.* (\d+) typ host", client.answer) for client in clients]
    return collections.Counter(candidate[1] for candidate in found if candidate)


def sessions_of(server: Server) -> dict[str, int]:
    """Return the number of each session's worker, for all that are being recorded."""
    parts = [path.name.partition(".")[0] for path in server.folder.glob("*.part")]
    sessions = [name.rpartition("-")[2] for name in parts]
    return {session: worker_of(session, server.process.process.pid) for session in sessions}


async def test_sessions_are_spread_and_every_request_reaches_its_session(
    tmp_path: pathlib.Path,
) -> None:
    with serving(tmp_path, "--workers", str(WORKERS)) as served:
        async with reaching(served) as server:
            async with connected(server, 12, WORKERS) as clients:
                had = owners(clients)
                assert len(had) == WORKERS
                # the count that a worker reports may be outdated
                assert max(had.values()) - min(had.values()) <= 2
                for _ in range(10):
                    for client in clients:
                        client.send(5)
                    await asyncio.sleep(0.1)
                for _ in range(5):
                    assert (await health(server))["states"]["recording"] == len(clients)
                status, again = await server.post(
                    "/offer", sdp=clients[0].connection.offer_sdp, type="offer", resume=""
                )
                assert (status, again["sdp"]) == (200, clients[0].answer)
                for client in clients:
                    async with server.http.delete(f"{server.url}/sessions/{client.id}") as response:
                        assert response.status == 204
                        assert float(response.headers["Gapless-Seconds"]) == 1.0
            assert (await health(server))["sessions"] == 0
    assert {id_: ledger["length_samples"] for id_, ledger in ledgers(tmp_path).items()} == {
        client.id: 48_000 for client in clients
    }


async def test_no_worker_is_full_while_another_has_room(tmp_path: pathlib.Path) -> None:
    more = ("--workers", str(WORKERS), "--max-sessions", str(4 * WORKERS))
    with serving(tmp_path, *more) as served:
        async with reaching(served) as server, connected(server, 3 * WORKERS, WORKERS) as clients:
            assert len(clients) == 3 * WORKERS


async def test_whip_and_refusals_pass_unchanged(tmp_path: pathlib.Path) -> None:
    with serving(tmp_path, "--workers", str(WORKERS)) as served:
        async with reaching(served) as server:
            for number in range(6):
                client = Publishing(server)
                async with server.http.post(
                    f"{server.url}/whip",
                    data=client.connection.offer_sdp,
                    headers={"Content-Type": "application/sdp", "Origin": "http://localhost"},
                ) as response:
                    assert response.status == 201
                    assert response.headers["Content-Type"] == "application/sdp"
                    allowed = response.headers.getall("Access-Control-Allow-Origin")
                    assert allowed == ["http://localhost"]
                    location = server.url + response.headers["Location"]
                async with server.http.delete(location) as response:
                    assert response.status == 200
                async with server.http.delete(f"{server.url}/whip/0{number}ff") as response:
                    assert response.status == 404
                    assert "no such session" in (await response.json())["error"]
                await client.close()
            assert (await server.post("/ice-candidate", id="ff", candidate=""))[0] == 404
            assert (await server.post("/offer", sdp="none", type="offer"))[0] == 400
            async with server.http.post(
                f"{server.url}/offer", data="{", headers={"Content-Type": "application/json"}
            ) as response:
                assert response.status == 400


async def test_several_processes_refuse_the_same_requests_as_one(tmp_path: pathlib.Path) -> None:
    with serving(tmp_path, "--workers", str(WORKERS)) as served:
        async with reaching(served) as server:
            for number in range(6):  # whichever worker accepts it
                async with server.http.post(
                    f"{server.url}/whip",
                    data=f"v=0 {number}".ljust(400_000, "x"),
                    headers={"Content-Type": "application/sdp"},
                ) as response:
                    assert response.status == 413
                    assert "error" in await response.json()
                async with server.http.get(
                    f"{server.url}/health", headers={"Host": "foreign.example"}
                ) as response:
                    assert response.status == 401
            client = Publishing(server)
            async with server.http.post(
                f"{server.url}/whip",
                data=client.connection.offer_sdp,
                headers={"Content-Type": "application/sdp"},
            ) as response:
                location, tag = server.url + response.headers["Location"], response.headers["ETag"]
            fragment = f"a=ice-ufrag:abcd\r\na=ice-pwd:{'x' * 22}\r\n"
            for tags, status in ((["no", tag], 200), (["no", "neither"], 412)):
                headers = [("Content-Type", "application/trickle-ice-sdpfrag")]
                headers += [("If-Match", item if item == tag else f'"{item}"') for item in tags]
                async with server.http.patch(location, data=fragment, headers=headers) as response:
                    assert response.status == status
            await client.close()


async def test_a_request_without_a_token_is_refused_before_its_body_arrives(
    tmp_path: pathlib.Path,
) -> None:
    with serving(tmp_path, "--workers", "2", "--token", "right") as served:
        host, port = served.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"POST /offer HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{")
        async with asyncio.timeout(5):
            assert b" 401 " in await reader.readline()
        writer.close()


@pytest.mark.timeout(120)
def test_a_worker_that_dies_is_replaced_and_only_its_own_clients_notice(
    tmp_path: pathlib.Path,
) -> None:
    command = ("serve", "--port", "0", "--recordings", str(tmp_path), "--workers", "2")
    with gapless(*command) as process:
        server = Server(process, tmp_path)
        with streaming(server) as clients:
            first, _ = workers_of(process.process.pid)
            time.sleep(2)  # some sound
            owned_by = sessions_of(server)
            os.kill(first, signal.SIGKILL)
            process.wait_for("worker 0 has died (killed by SIGKILL)")
            process.wait_for("waiting for the client")
            process.wait_for("the client is back")
            time.sleep(2)  # more sound
            interrupt(clients)
        assert process.stop() == 0
    owned = collections.defaultdict(list)
    for session, ledger in ledgers(tmp_path).items():
        owned[owned_by[session]].append(ledger)
        assert ledger["end_reason"] in ("closed", "deleted")
    assert len(owned[0]) + len(owned[1]) == len(clients)
    for ledger in owned[0]:
        events = [event["type"] for event in ledger["events"]]
        assert "process restarted" in events
        assert [s["kind"] for s in ledger["spans"] if s["length"] > 9600] == [
            "received", "silence", "received",
        ]  # fmt: skip
    for ledger in owned[1]:
        assert [span["kind"] for span in ledger["spans"]] == ["received"]


@pytest.mark.timeout(180)
def test_a_frozen_worker_delays_no_offer_and_is_replaced(tmp_path: pathlib.Path) -> None:
    command = ("serve", "--port", "0", "--recordings", str(tmp_path), "--workers", "2")
    with gapless(*command) as process:
        server = Server(process, tmp_path)
        with streaming(server) as clients:
            first, _ = workers_of(process.process.pid)
            time.sleep(2)  # some sound
            owned_by = sessions_of(server)
            on_first = next(session for session, number in owned_by.items() if number == 0)
            times = asyncio.run(offer_times(server, count=8, frozen=first, session=on_first))
            assert max(times) < 5.0, times
            # one after another: some of them met the worker while nobody knew that it is frozen
            assert sum(times) < 10.0, times
            died = process.wait_for("worker 0 has died")
            assert "has not responded for 10 s" in died
            process.wait_for("waiting for the client")
            process.wait_for("the client is back")
            time.sleep(2)  # more sound
            interrupt(clients)
        assert process.stop() == 0
    found = ledgers(tmp_path)
    assert len(found) == len(clients)
    for session, ledger in found.items():
        events = [event["type"] for event in ledger["events"]]
        assert ("process restarted" in events) is (owned_by[session] == 0)
        kinds = [s["kind"] for s in ledger["spans"] if s["length"] > 9600]
        expected = ["received", "silence", "received"] if owned_by[session] == 0 else ["received"]
        assert kinds == expected


@pytest.mark.timeout(120)
def test_a_worker_that_is_frozen_while_it_starts_is_replaced(tmp_path: pathlib.Path) -> None:
    command = ("serve", "--port", "0", "--recordings", str(tmp_path), "--workers", "2")
    with gapless(*command) as process:
        server = Server(process, tmp_path)
        parent = process.process.pid
        first, second = workers_of(parent)
        os.kill(first, signal.SIGKILL)
        process.wait_for("worker 0 has died")
        while not (started := set(workers_of(parent)) - {first, second}):
            pass
        (frozen,) = started
        os.kill(frozen, signal.SIGSTOP)
        assert "has not responded for 10 s" in process.wait_for("worker 0 has died")
        while not set(workers_of(parent)) - {first, second, frozen}:
            time.sleep(0.1)
        assert max(asyncio.run(offer_times_of_all(server))) < 10
        assert process.stop() == 0


@pytest.mark.timeout(120)
def test_a_worker_that_responds_again_in_time_goes_on(tmp_path: pathlib.Path) -> None:
    with serving(tmp_path, "--workers", "2") as server, streaming(server) as clients:
        workers = workers_of(server.process.process.pid)
        os.kill(workers[0], signal.SIGSTOP)
        time.sleep(4)  # shorter than a worker may be frozen
        os.kill(workers[0], signal.SIGCONT)
        time.sleep(8)  # longer than a worker may be frozen, since it was stopped
        assert workers_of(server.process.process.pid) == workers
        for client in clients:
            client.process.send_signal(signal.SIGINT)
        for client in clients:
            assert client.end() == 0, client.errors
    found = ledgers(tmp_path)
    assert len(found) == len(clients)
    for ledger in found.values():
        assert "process restarted" not in [event["type"] for event in ledger["events"]]


async def offer_times(server: Server, *, count: int, frozen: int, session: str) -> list[float]:
    """Freeze the worker of a session, and send offers, one after another, that must be answered.

    Returns how long each took.
    """
    times = []
    async with aiohttp.ClientSession() as http:
        remote = Remote(server.url, http)
        # a client may keep its connections; some of them would lead to the worker
        await asyncio.gather(*(health(remote) for _ in range(8)))
        os.kill(frozen, signal.SIGSTOP)
        for _ in range(count):
            offer = remote.open_connection().offer_sdp
            began = time.monotonic()
            status, _ = await remote.post("/offer", sdp=offer, type="offer")
            times.append(time.monotonic() - began)
            assert status == 200
        # the sessions of the frozen worker cannot be reached: the client should try again later
        began = time.monotonic()
        async with remote.http.delete(f"{server.url}/sessions/{session}") as response:
            assert (response.status, response.headers["Retry-After"]) == (503, "5")
        assert time.monotonic() - began < 3.0
        # half of all secrets lead there, also those that open nothing
        statuses = set()
        for _ in range(20):
            path = f"/whip/{secrets.token_hex(32)}"
            async with remote.http.delete(server.url + path) as response:
                statuses.add((response.status, response.headers.get("Retry-After")))
        assert statuses == {(404, None), (503, "5")}
        began = time.monotonic()
        assert (await health(remote))["states"]["recording"] >= 1
        assert time.monotonic() - began < 3.0
    return times


@pytest.mark.timeout(120)
def test_workers_are_not_replaced_because_the_whole_server_was_stopped(
    tmp_path: pathlib.Path,
) -> None:
    with serving(tmp_path, "--workers", "2") as server:
        parent = server.process.process.pid
        workers = workers_of(parent)
        for pid in (parent, *workers):
            os.kill(pid, signal.SIGSTOP)
        time.sleep(12)  # longer than a single worker may be frozen
        for pid in (parent, *workers):
            os.kill(pid, signal.SIGCONT)
        assert max(asyncio.run(offer_times_of_all(server))) < 10
        assert workers_of(parent) == workers


async def offer_times_of_all(server: Server) -> list[float]:
    async with reaching(server) as remote:
        times = []
        for _ in range(4):
            offer = remote.open_connection().offer_sdp
            began = time.monotonic()
            assert (await remote.post("/offer", sdp=offer, type="offer"))[0] == 200
            times.append(time.monotonic() - began)
            await asyncio.sleep(0.5)  # the parent checks the workers twice a second
        return times


@contextmanager
def streaming(server: Server) -> Iterator[list[Process]]:
    """Start clients until each of two workers has one."""
    with ExitStack() as running:
        clients: list[Process] = []
        owners: set[int] = set()
        while len(owners) < 2:
            command = ("stream", "--server", server.url, "--capture", "tone")
            clients.append(running.enter_context(gapless(*command)))
            session = server.process.wait_for("recording,").split()[0]
            owners.add(worker_of(session, server.process.process.pid))
        yield clients


def interrupt(clients: Sequence[Process]) -> None:
    """Press Ctrl-C at all clients, and wait until each has ended its recording."""
    for client in clients:
        client.process.send_signal(signal.SIGINT)
    for client in clients:
        assert client.end() == 0, client.errors


async def test_workers_end_with_their_parent_and_complete_their_recordings(
    tmp_path: pathlib.Path,
) -> None:
    command = ("serve", "--port", "0", "--recordings", str(tmp_path), "--workers", "2")
    with gapless(*command) as process:
        server = Server(process, tmp_path)
        async with reaching(server) as remote, connected(remote, 4, 2) as clients:
            for client in clients:
                client.send(50)
            await asyncio.sleep(0.3)
            workers = workers_of(process.process.pid)
            process.process.kill()
            async with asyncio.timeout(20):
                while any(is_alive(worker) for worker in workers):
                    await asyncio.sleep(0.05)
    found = ledgers(tmp_path).values()
    assert [ledger["length_samples"] for ledger in found] == [48_000] * len(clients)
    assert {ledger["end_reason"] for ledger in found} == {"shutdown"}


def test_a_worker_that_is_stopped_completes_its_recordings_at_the_end(
    tmp_path: pathlib.Path,
) -> None:
    command = ("serve", "--port", "0", "--recordings", str(tmp_path), "--workers", "2")
    with gapless(*command) as process, streaming(Server(process, tmp_path)) as clients:
        time.sleep(1)  # some sound
        os.kill(workers_of(process.process.pid)[0], signal.SIGSTOP)
        assert process.stop() == 0
        found = ledgers(tmp_path).values()
        assert [ledger["end_reason"] for ledger in found] == ["shutdown"] * len(clients)
        assert process.errors == []


def test_a_port_is_not_shared_with_another_server(tmp_path: pathlib.Path) -> None:
    with serving(tmp_path / "one", "--workers", "2") as first:
        port = first.url.rpartition(":")[2]
        for workers in ("1", "2"):
            with gapless(
                "serve", "--port", port, "--recordings", str(tmp_path), "--workers", workers
            ) as second:
                assert second.end() == 1
                assert "in use by another program" in second.errors[-1]


def test_invalid_settings_are_reported_once(tmp_path: pathlib.Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with gapless(
        "serve", "--port", "0", "--recordings", str(tmp_path / "file"), "--workers", "2"
    ) as process:
        assert process.end() == 1
        assert len(process.errors) == 1


def is_alive(pid: int) -> bool:
    try:
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"
