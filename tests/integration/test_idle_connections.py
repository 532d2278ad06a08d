"""Connections that do nothing take no memory and no descriptors from what is recorded."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pathlib
import pty
import shutil
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import aiohttp
import pytest
import soundfile

from tests.contracts.test_certificates_are_renewed import encrypt
from tests.rigs.clients import Publishing, Remote
from tests.rigs.idle import (
    Begin,
    client_hello,
    idling,
    is_open,
    peak_memory,
    say,
    say_nothing,
    shake_hands,
)
from tests.rigs.processes import Server, environment, gapless, open_descriptors, serving
from tests.rigs.requests import get
from tests.rigs.tls import self_signed, trusting_anybody

EACH_BYTES = 130_000
"""The most that a TLS connection may cost, whatever it does; asyncio's own server takes 306 kB."""
HEAD = get(b"/health", b"localhost")[:-2]


@asynccontextmanager
async def recorded(server: Server) -> AsyncIterator[tuple[Publishing, Remote]]:
    """Stream to a server in real time until the block is left; then end the session."""
    secure = server.url.startswith("https")
    connector = aiohttp.TCPConnector(ssl=trusting_anybody() if secure else True, force_close=True)
    async with aiohttp.ClientSession(connector=connector) as http:
        client = Publishing(Remote(server.url, http))
        await client.start()
        streaming = asyncio.create_task(stream(client))
        try:
            yield client, client.server
        finally:
            streaming.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await streaming
            await client.close()


async def stream(client: Publishing) -> None:
    began = asyncio.get_running_loop().time()
    while True:
        client.send(1)
        due = began + client.sent * 0.02
        await asyncio.sleep(max(0.0, due - asyncio.get_running_loop().time()))


async def is_served(server: Remote) -> bool:
    async with server.http.get(f"{server.url}/health") as response:
        return response.status == 200


FLOODS: dict[str, Callable[[], Begin]] = {
    "silent": lambda: say_nothing,
    "one byte": lambda: say(b"\x16"),
    "a hello": lambda: say(client_hello()),
    "a handshake": shake_hands,
}


@pytest.mark.parametrize("kind", FLOODS)
async def test_idle_tls_connections_cost_little(kind: str, tmp_path: pathlib.Path) -> None:
    certificate, key = self_signed(tmp_path)
    limit = 200
    arguments = (
        "--tls-cert", certificate, "--tls-key", key, "--max-connections", str(limit),
    )  # fmt: skip
    with serving(tmp_path / "recordings", *arguments) as server:
        process_id = server.process.process.pid
        async with recorded(server) as (client, remote):
            assert await is_served(remote)
            peak_memory(process_id, reset=True)
            before = peak_memory(process_id)
            costs = []
            for count in (limit, 3 * limit):
                with contextlib.ExitStack() as opened:
                    flood = idling(server.url, count, FLOODS[kind]())
                    await asyncio.to_thread(opened.enter_context, flood)
                    assert await is_served(remote)
                    costs.append(peak_memory(process_id) - before)
                    assert open_descriptors(process_id) <= limit + 64
        print(f"{kind}: {costs[0] / limit:.0f} and {costs[1] / limit:.0f} bytes each")
        assert costs[1] <= limit * EACH_BYTES
        server.process.wait_for("session ended")
        server.process.stop()
        assert len(server.process.errors) <= 1, server.process.errors
        server.process.errors.clear()
    (path,) = (tmp_path / "recordings").glob("*.wav")
    assert not list((tmp_path / "recordings").glob("*.part"))
    assert length_s(path) == pytest.approx(client.sent * 0.02, abs=0.001)


def length_s(path: pathlib.Path) -> float:
    with soundfile.SoundFile(str(path)) as file:
        return float(len(file) / file.samplerate)


@pytest.mark.skipif(shutil.which("prlimit") is None, reason="util-linux is not installed")
async def test_idle_connections_take_no_descriptor_from_a_recording(
    tmp_path: pathlib.Path,
) -> None:
    folder = tmp_path / "recordings"
    command = (
        "serve", "--port", "0", "--recordings", str(folder), "--rotate-s", "1",
        "--max-sessions", "4",
    )  # fmt: skip
    with gapless(*command, within=["prlimit", "--nofile=160:160"]) as process:
        server = Server(process, folder)
        async with recorded(server) as (client, remote):
            sources = [f"127.0.0.{number}" for number in range(1, 30)]
            for flood in (say_nothing, say(HEAD)):
                with contextlib.ExitStack() as opened:
                    idle = await asyncio.to_thread(
                        opened.enter_context, idling(server.url, 400, flood, sources)
                    )
                    parts = len(list(folder.glob("*.wav")))
                    async with asyncio.timeout(30):
                        while len(list(folder.glob("*.wav"))) < parts + 2:
                            await asyncio.sleep(0.1)
                    assert await is_served(remote)
                    assert open_descriptors(process.process.pid) < 160
                    assert sum(map(is_open, idle)) < 160
            with contextlib.ExitStack() as opened:
                await asyncio.to_thread(
                    opened.enter_context, idling(server.url, 400, say_nothing, sources)
                )
                async with remote.http.delete(f"{remote.url}/sessions/{client.id}") as response:
                    assert response.status == 204
        process.wait_for("session ended")
        assert process.stop() == 0
    assert len(process.errors) <= 2, process.errors
    assert not [path for path in folder.iterdir() if path.suffix in (".part", ".journal")]
    lengths = [length_s(path) for path in sorted(folder.glob("*.wav"))]
    assert sum(lengths) >= 4
    for line in process.errors:
        assert "were closed for newer ones" in line


def test_a_classroom_behind_one_address_reaches_several_workers(tmp_path: pathlib.Path) -> None:
    """Those who connect at the same moment come to few of them."""
    token = "fifteen blue lamps"
    command = ("--host", "0.0.0.0", "--token", token, "--workers", "4")
    with serving(tmp_path, *command) as server, idling(server.url, 30) as pupils:
        for pupil in pupils:
            pupil.sendall(HEAD + b"\r\n")
            assert pupil.recv(16).startswith(b"HTTP/1.1 200")


def test_a_limit_that_is_too_small_is_told_at_the_start(tmp_path: pathlib.Path) -> None:
    command = ("serve", "--port", "0", "--recordings", str(tmp_path))
    with gapless(*command, within=["prlimit", "--nofile=256:256"]) as process:
        process.wait_for("listening on")
        assert process.stop() == 0
    (line,) = process.errors
    assert "500 sessions may need 5064 open files and sockets, and the limit is 256" in line


def test_an_encrypted_key_is_asked_for_on_a_terminal_only(tmp_path: pathlib.Path) -> None:
    certificate, key = self_signed(tmp_path)
    encrypt(key, "right")
    command = (
        "serve", "--port", "0", "--recordings", str(tmp_path / "recordings"),
        "--tls-cert", certificate, "--tls-key", key,
    )  # fmt: skip
    with gapless(*command, within=["sh", "-c", '"$@" </dev/null', "sh"]) as process:
        assert process.end() == 2
    assert "tls_passphrase" in process.errors[-1]
    assert "is encrypted" in process.errors[-1]
    with gapless(*command, env={"GAPLESS_TLS_PASSPHRASE": "right"}) as process:
        process.wait_for("listening on https://")
        assert process.stop() == 0
    for workers in ("1", "2"):
        assert "listening on https://" in on_terminal([*command, "--workers", workers], "right\n")


def on_terminal(command: list[str], typed: str) -> str:
    """Run a command on a terminal, answer its first question, and stop it when it listens."""
    child, terminal = pty.fork()
    if child == 0:
        arguments = [sys.executable, "-m", "entrypoints", *command]
        os.execve(sys.executable, arguments, environment())
    shown = ""
    try:
        while "Passphrase of" not in shown:
            shown += os.read(terminal, 4096).decode()
        os.write(terminal, typed.encode())
        with contextlib.suppress(OSError):  # it has ended
            while "listening on" not in shown:
                shown += os.read(terminal, 4096).decode()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, 15)
        with contextlib.suppress(OSError):
            while os.read(terminal, 4096):
                pass
        os.close(terminal)
        os.waitpid(child, 0)
    return shown
