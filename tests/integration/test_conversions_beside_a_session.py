"""Recordings that are converted and downloaded cost a session beside them nothing."""

from __future__ import annotations

import asyncio
import json
import pathlib

import aiohttp
import numpy as np

from domain.recording.effects import EndReason
from domain.recording.ledger import SampleKind
from tests.rigs.processes import gapless, serving
from tests.rigs.recordings import START, close, info, open_folder

SECONDS = 6
FORMATS = ("mp3", "flac", "mp3", "opus")


async def test_a_session_beside_conversions_is_whole(tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "recordings"
    rig = open_folder(folder)
    writer = rig.create(1)
    noise = (np.random.default_rng(1).normal(size=(48_000, 1)) * 1000).astype("<i2")
    for _ in range(1200):
        writer.append([noise], SampleKind.RECEIVED)
    await writer.finish(EndReason.CLOSED, START)
    close(rig)
    converted = 0

    async def convert(url: str, query: str) -> None:
        """Read a recording again and again; count the bytes."""
        nonlocal converted
        path = f"{url}/api/recordings/{info(1).id}/audio{query}"
        async with aiohttp.ClientSession() as http:
            while True:
                async with http.get(path) as answer:
                    assert answer.status == 200
                    async for chunk in answer.content.iter_any():
                        converted += len(chunk)

    with serving(folder) as server:
        working = [
            asyncio.create_task(convert(server.url, query))
            for query in ("", *(f"?format={name}" for name in FORMATS))
        ]
        arguments = ("--capture", "tone", "--duration", str(SECONDS), "--server", server.url)
        with gapless("stream", *arguments) as client:
            assert await asyncio.to_thread(client.end) == 0, client.errors
        for task in working:
            assert not task.done()
            task.cancel()
        await asyncio.gather(*working, return_exceptions=True)
        await asyncio.to_thread(server.process.wait_for, "session ended")
    assert converted > 1_000_000
    (path,) = (path for path in server.recordings() if info(1).name not in path.name)
    with gapless("verify", "--json", str(path)) as verifying:
        assert await asyncio.to_thread(verifying.end) == 0, verifying.lines
    samples = json.loads(verifying.lines[0])["samples"]
    assert samples["received"] >= (SECONDS - 0.1) * 48_000
    assert {kind for kind, count in samples.items() if count} == {"received"}
