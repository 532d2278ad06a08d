"""A server is killed at random moments: no written sound is lost, and all files can be opened.

`make soak` does this a hundred times.
"""

from __future__ import annotations

import asyncio
import os
import pathlib
import random
import shutil
import subprocess
import time
import wave

import aiohttp
import av
import pytest
import soundfile

from tests.property.test_recovery_laws import hashes
from tests.rigs.clients import Publishing, Remote
from tests.rigs.processes import environment, gapless, serving

KILLS = int(os.environ.get("KILLS", "4"))
SESSIONS = 3


async def stream(client: Publishing, stop: asyncio.Event) -> None:
    began = time.monotonic()
    while not stop.is_set():
        await asyncio.sleep(max(0.0, began + client.sent * 0.02 - time.monotonic()))
        client.send(1)


async def kill_while_recording(folder: pathlib.Path, seed: int) -> float:
    """Kill a server; return for how many seconds all sessions had been recording."""
    dice = random.Random(seed)
    with serving(folder) as server:
        async with aiohttp.ClientSession() as http:
            clients = [Publishing(Remote(server.url, http)) for _ in range(SESSIONS)]
            stop = asyncio.Event()
            for client in clients:
                await client.start()
            streams = [asyncio.create_task(stream(client, stop)) for client in clients]
            started = asyncio.gather(
                *(asyncio.to_thread(server.process.wait_for, "recording,") for _ in clients)
            )
            await asyncio.wait({started, *streams}, return_when=asyncio.FIRST_COMPLETED)
            for task in streams:
                assert not task.done(), task.exception()
            await started
            began = time.monotonic()
            await asyncio.sleep(dice.uniform(0.0, 2.0))
            server.process.process.kill()
            recorded = time.monotonic() - began
            server.process.process.wait()
            stop.set()
            await asyncio.gather(*streams)
            for client in clients:
                await client.close()
    return recorded


def run(*command: str) -> int:
    return subprocess.run(command, env=environment(), capture_output=True).returncode


def opens_everywhere(path: pathlib.Path) -> int:
    """Return the number of frames, on which all readers must agree."""
    frames = soundfile.info(path).frames
    with wave.open(str(path)) as file:
        assert file.getnframes() == frames
    with av.open(str(path)) as container:  # FFmpeg
        assert sum(frame.samples for frame in container.decode(audio=0)) == frames
    if shutil.which("sox"):
        samples = subprocess.run(["soxi", "-s", str(path)], capture_output=True, text=True)
        assert int(samples.stdout) == frames
    return int(frames)


@pytest.mark.parametrize("seed", range(KILLS))
async def test_a_killed_server_loses_at_most_a_second(tmp_path: pathlib.Path, seed: int) -> None:
    recorded = await kill_while_recording(tmp_path, seed)
    # the unfinished files can be played even before recovery
    assert len(list(tmp_path.glob("*.wav.part"))) == SESSIONS
    with gapless("recover", str(tmp_path)) as recovering:
        assert recovering.end() == 0, recovering.errors
    assert len(recovering.lines) == SESSIONS
    recordings = sorted(tmp_path.glob("*.wav"))
    assert len(recordings) == SESSIONS
    for path in recordings:
        assert opens_everywhere(path) / 48_000 >= recorded - 1
    with gapless("verify", "--max-concealed", "0", *map(str, recordings)) as verifying:
        assert verifying.end() == 0, verifying.lines
    before = hashes(tmp_path)
    with gapless("recover", str(tmp_path)) as again:
        assert again.end() == 0
    assert again.lines == ["nothing to recover"]
    assert hashes(tmp_path) == before


async def test_a_server_that_is_started_again_recovers_by_itself(tmp_path: pathlib.Path) -> None:
    await kill_while_recording(tmp_path, seed=1)
    command = ("serve", "--port", "0", "--recordings", str(tmp_path))
    with gapless(*command, "--inactivity-timeout-s", "1") as server:
        server.wait_for("listening on")
        assert sum(line.startswith("waiting for the client") for line in server.lines) == SESSIONS
        for _ in range(SESSIONS):
            assert "recovered" in server.wait_for("session ended")
        assert server.stop() == 0
    assert len(list(tmp_path.glob("*.json"))) == SESSIONS
    for path in tmp_path.glob("*.wav"):
        opens_everywhere(path)
    with gapless("verify", *map(str, tmp_path.glob("*.wav"))) as verifying:
        assert verifying.end() == 0, verifying.lines


async def test_recordings_that_cannot_be_resumed_are_recovered_at_once(
    tmp_path: pathlib.Path,
) -> None:
    await kill_while_recording(tmp_path, seed=1)
    long_ago = time.time() - 3600
    for path in tmp_path.glob("*.part"):
        os.utime(path, (long_ago, long_ago))
    with gapless("serve", "--port", "0", "--recordings", str(tmp_path)) as server:
        server.wait_for("listening on")
        assert sum(line.startswith("recovered") for line in server.lines) == SESSIONS
        assert server.stop() == 0
    assert len(list(tmp_path.glob("*.json"))) == SESSIONS
