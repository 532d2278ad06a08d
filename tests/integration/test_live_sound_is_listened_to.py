"""Listeners hear a session while it is recorded, and the recording is whole."""

from __future__ import annotations

import asyncio
import contextlib
import json
import pathlib
import signal
import time

import aiohttp
import numpy as np
import pytest
import soundfile

from tests.rigs.clients import Publishing, local_server
from tests.rigs.processes import (
    Process,
    Server,
    gapless,
    open_descriptors,
    serving,
    worker_of,
    workers_of,
)
from tests.rigs.tapping import Heard, listen_to_end, listening

TAPS = 10
MOST_TAPS = 45
DURATION_S = 12


async def listen(server: Server, session: str) -> list[Heard]:
    """Listen `TAPS` times or more, at least once through the worker without the session."""
    parent = server.process.process.pid
    owner = worker_of(session, parent)
    other = workers_of(parent)[1 - owner]
    idle = open_descriptors(other)
    async with contextlib.AsyncExitStack() as taps, aiohttp.ClientSession() as http:
        opened = []
        while len(opened) < TAPS or open_descriptors(other) <= idle:
            assert len(opened) < MOST_TAPS, "one worker accepts all connections"
            opened.append(await taps.enter_async_context(listening(http, server.url, session)))
        return await asyncio.gather(*(listen_to_end(*tap) for tap in opened))


@pytest.mark.timeout(120)
def test_ten_listeners_hear_each_sample_from_any_worker(tmp_path: pathlib.Path) -> None:
    with serving(tmp_path, "--workers", "2") as server:
        streamed = ("--capture", "tone", "--duration", str(DURATION_S), "--server", server.url)
        with gapless("stream", *streamed) as client:
            session = server.process.wait_for("recording,").split()[0]
            heard = asyncio.run(listen(server, session))
            assert client.end() == 0
        recording = server.recording()
    samples, _ = soundfile.read(str(recording), dtype="int16", always_2d=True)
    ledger = json.loads(recording.with_suffix(".json").read_text())
    assert {span["kind"] for span in ledger["spans"]} == {"received"}
    assert len(samples) == pytest.approx(DURATION_S * 48_000, abs=2_000)
    for tap in heard:
        begin = tap.hello["position"]
        assert (tap.hello["session"], tap.hello["recording"]) == (session, ledger["id"])
        assert np.array_equal(tap.samples, samples[begin:])
        assert [event["type"] for event in tap.events] == ["end"]
        assert len(tap.samples) > 48_000


async def test_undecoded_packets_are_heard_decoded(tmp_path: pathlib.Path) -> None:
    async with local_server(storage="opus", recordings=str(tmp_path)) as server:
        client = Publishing(server)
        await client.start()
        client.send(5)
        async with asyncio.timeout(20):
            while not list(tmp_path.glob("*.part")):
                await asyncio.sleep(0.01)
            async with listening(server.http, server.url, client.id) as (socket, heard):
                client.send(45)
                await asyncio.sleep(0.1)
                async with server.http.delete(f"{server.url}/sessions/{client.id}") as answer:
                    assert answer.status == 204
                await listen_to_end(socket, heard)
        await client.close()
    assert heard.hello["position"] + len(heard.samples) == 48_000
    loudness = np.sqrt(np.mean(heard.samples.astype(float) ** 2))
    assert loudness > 500, "this is speech"


def wait_for_sound(file: pathlib.Path, listener: Process) -> None:
    """Wait until a listener has written a second of sound."""
    while not file.exists() or file.stat().st_size < 96_000:
        assert listener.process.poll() is None, listener.errors
        time.sleep(0.05)


@pytest.mark.timeout(120)
def test_a_session_is_written_to_a_file_by_who_listens(tmp_path: pathlib.Path) -> None:
    file, options = tmp_path / "heard.wav", ("--token", "a-token-of-the-tests")
    with serving(tmp_path / "recordings", *options) as server:
        to_server = ("--server", server.url, *options)
        with gapless("stream", "--capture", "tone", *to_server) as client:
            session = server.process.wait_for("recording,").split()[0]
            with gapless("listen", session, "--output", str(file), *to_server) as listener:
                wait_for_sound(file, listener)
                client.process.send_signal(signal.SIGINT)
                assert client.end() == 0
                assert listener.end() == 0, listener.errors
            with gapless("listen", session, *to_server) as late:
                assert late.end() == 1
        recording = server.recording()
    assert listener.lines == []
    begun, ended = listener.errors
    assert begun.startswith(f"listening to {session} from ")
    assert begun.endswith("48000 Hz, 16 bit, mono")
    assert ended == "the session has ended (closed)"
    assert late.errors == [
        "gapless: the server refused (404): no sound of such a session, or of such a track of it, "
        "is being recorded"
    ]
    samples, _ = soundfile.read(str(recording), dtype="int16")
    heard, _ = soundfile.read(str(file), dtype="int16")
    assert len(heard) >= 40_000
    assert np.array_equal(heard, samples[-len(heard) :])


@pytest.mark.timeout(120)
def test_listening_ends_with_ctrl_c(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "heard.wav"
    with serving(tmp_path / "recordings") as server:
        to_server = ("--server", server.url)
        with gapless("stream", "--capture", "tone", *to_server) as client:
            session = server.process.wait_for("recording,").split()[0]
            with gapless("listen", session, "--output", str(file), *to_server) as listener:
                wait_for_sound(file, listener)
                listener.process.send_signal(signal.SIGINT)
                assert listener.end() == 0, listener.errors
            assert soundfile.info(str(file)).frames > 24_000
            client.process.send_signal(signal.SIGINT)
            assert client.end() == 0
