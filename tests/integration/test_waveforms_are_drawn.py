"""A real server draws what it records: live, after a kill, and complete; a room is kept."""

from __future__ import annotations

import asyncio
import itertools
import json
import pathlib
import time
from typing import Any

import aiohttp
import jsonschema
import numpy as np
import pytest
import soundfile

from adapters.http.api.peaks import PEAKS
from tests.rigs.processes import gapless, serving

WAIT_S = 30.0


async def peaks_of(url: str, recording_id: str, *, least: int = 0, **query: int) -> dict[str, Any]:
    """Ask until there is a waveform of at least so many samples."""
    deadline = time.monotonic() + WAIT_S
    async with aiohttp.ClientSession() as http:
        while True:
            address = f"{url}/api/recordings/{recording_id}/peaks"
            async with http.get(address, params=query) as answer:
                found = await answer.json()
                assert answer.status in (200, 404, 503), found
                if answer.status == 200 and found["to"] >= least:
                    jsonschema.Draft202012Validator(PEAKS).validate(found)
                    return dict(found)
            assert time.monotonic() < deadline, found
            await asyncio.sleep(0.1)


def assert_is(found: dict[str, Any], path: pathlib.Path) -> None:
    """Compare with the file, exactly: an interval is a whole number of entries."""
    samples, _ = soundfile.read(path, dtype="int16", always_2d=True)
    bounds = [
        found["from"] + number * (found["to"] - found["from"]) // found["points"]
        for number in range(found["points"] + 1)
    ]
    for name, of in (("min", np.min), ("max", np.max)):
        expected = [of(samples[a:b, 0]) for a, b in itertools.pairwise(bounds)]
        assert found[name][0] == expected


@pytest.mark.parametrize("workers", [1, 2])
async def test_what_is_recorded_is_drawn(tmp_path: pathlib.Path, workers: int) -> None:
    folder = tmp_path / "recordings"
    more = ("--workers", str(workers)) if workers > 1 else ()
    with serving(folder, *more) as server:
        port = server.url.rpartition(":")[2]
        stream = (
            "stream", "--server", server.url, "--capture", "tone", "--name", "Ana",
            "--room", "Friday", "--no-spool",
        )  # fmt: skip
        with gapless(*stream) as client:
            await asyncio.to_thread(server.process.wait_for, "recording,")
            journal = await _only_journal(folder)
            head = json.loads(journal.read_text().partition("\n")[0])
            assert head["room"] == "Friday"
            live = await peaks_of(server.url, head["id"], least=96_000, to=96_000, points=10)
            assert live["points"] == 10
            assert min(live["max"][0][1:]) > 1000
            assert {item["kind"] for item in live["kinds"]} <= {
                "received", "recovered", "concealed",
            }  # fmt: skip
            if workers == 1:
                server.process.process.kill()
                server.process.process.wait()
                with serving(folder, "--port", port) as again:
                    await asyncio.to_thread(again.process.wait_for, "packets are coming in")
                    resumed = await peaks_of(again.url, head["id"], least=live["to"] + 96_000)
                    assert resumed["max"][0][-1] > 1000
                    assert client.stop() == 0
                    await _complete(again.url, again.recording())
                return
            assert client.stop() == 0
            await _complete(server.url, server.recording())


async def _only_journal(folder: pathlib.Path) -> pathlib.Path:
    """Wait for the journal, which the store makes in a thread of its own."""
    deadline = time.monotonic() + WAIT_S
    while not (found := [path for path in folder.glob("*.journal") if path.stat().st_size]):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)
    (journal,) = found
    return journal


async def _complete(url: str, path: pathlib.Path) -> None:
    ledger = json.loads(path.with_suffix(".json").read_text())
    assert ledger["room"] == "Friday"
    count = ledger["length_samples"] // 2560
    found = await peaks_of(url, ledger["id"], to=count * 2560, points=count)
    assert_is(found, path)
    assert path.with_suffix(".peaks").exists()
    # an exact look at single samples, and what a whole second is like
    near = await peaks_of(url, ledger["id"], **{"from": 48_000, "to": 48_100, "points": 100})
    assert_is(near, path)
