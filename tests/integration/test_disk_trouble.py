"""A disk that fills up, a folder that can no longer be written, a disk that stalls."""

from __future__ import annotations

import asyncio
import json
import os
import pathlib
import statistics
import subprocess
import time
from collections.abc import Iterator

import aiohttp
import pytest
import soundfile

from domain.recording.verification import Limits, verify
from entrypoints.container import ToolsContainer
from tests.rigs.clients import Publishing, Remote, local_server
from tests.rigs.processes import serving

NOBODY = 65534


@pytest.fixture
def small_disk(tmp_path: pathlib.Path) -> Iterator[pathlib.Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("a tmpfs cannot be mounted here")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


async def stream(client: Publishing, seconds: float) -> None:
    began = time.monotonic()
    while client.sent * 0.02 < seconds:
        await asyncio.sleep(max(0.0, began + client.sent * 0.02 - time.monotonic()))
        client.send(1)


async def health(server: Remote) -> int:
    async with server.http.get(f"{server.url}/health") as response:
        sessions: int = (await response.json())["sessions"]
        return sessions


async def test_a_disk_that_fills_up_ends_recordings_as_valid_files_and_refuses_new_ones(
    small_disk: pathlib.Path,
) -> None:
    filler = small_disk / "filler"
    with serving(small_disk, "--min-free-mb", "1") as running:
        async with aiohttp.ClientSession() as http:
            server = Remote(running.url, http)
            clients = [Publishing(server) for _ in range(3)]
            for client in clients:
                await client.start()
            streams = [asyncio.create_task(stream(client, 60)) for client in clients]
            for _ in clients:
                await asyncio.to_thread(running.process.wait_for, "recording,")
            await asyncio.sleep(1)  # a second of sound
            filler.write_bytes(bytes(11 << 20))
            for _ in clients:
                line = await asyncio.to_thread(running.process.wait_for, "session ended")
                assert "storage failed" in line
            for task in streams:
                task.cancel()
            assert await health(server) == 0
            late = Publishing(server)
            status, body = await server.post("/offer", sdp=late.connection.offer_sdp, type="offer")
            assert (status, "full" in body["error"]) == (507, True)
            filler.unlink()
            deadline = time.monotonic() + 10
            while status == 507 and time.monotonic() < deadline:
                await asyncio.sleep(0.2)
                status, body = await server.post(
                    "/offer", sdp=late.connection.offer_sdp, type="offer"
                )
            assert status == 200
            for client in (*clients, late):
                await client.close()
        running.process.stop()
        said = [line for line in running.process.errors if "No space left" in line]
        assert len(said) == 3
        running.process.errors.clear()
    recordings = sorted(small_disk.glob("*.wav"))
    assert len(recordings) == 3
    assert not list(small_disk.glob("*.part"))
    for path in recordings:
        assert soundfile.info(path).duration > 0.5
        verdict = verify(ToolsContainer().inspector().inspect(str(path)), Limits())
        assert verdict.problems == []
        assert verdict.end_reason == "storage failed"
        ledger = json.loads(path.with_suffix(".json").read_text())
        assert ledger["events"][-1]["reason"] == "No space left on device"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can drop its privileges")
async def test_a_folder_that_becomes_read_only_keeps_what_was_written(
    tmp_path: pathlib.Path,
) -> None:
    folder = tmp_path / "recordings"
    folder.mkdir()
    os.chown(folder, NOBODY, NOBODY)
    for parent in (tmp_path, *tmp_path.parents):
        if parent.stat().st_uid == 0 and parent != pathlib.Path("/"):
            parent.chmod(parent.stat().st_mode | 0o011)
    async with local_server(storage="wav", recordings=str(folder)) as server:
        client = Publishing(server)
        await client.start()
        await stream(client, 1)
        os.chown(folder, 0, 0)
        folder.chmod(0o555)
        os.setresuid(NOBODY, NOBODY, 0)
        try:
            await asyncio.sleep(1.2)  # the store checks once a second
            status, _ = await server.post(
                "/offer", sdp=server.open_connection().offer_sdp, type="offer"
            )
            assert status == 507
            await client.close()
            await server.seen.next_end()
            (failure,) = server.seen.failures
            assert "Permission denied" in str(failure)
        finally:
            os.setresuid(0, 0, 0)
            folder.chmod(0o755)
    (part,) = folder.glob("*.wav.part")
    assert soundfile.info(part).duration == pytest.approx(1.0)
    found = ToolsContainer().recovery().recover(str(folder))
    assert [round(recording.seconds, 2) for recording in found.recovered] == [1.0]


async def test_a_disk_that_stalls_for_five_seconds_delays_nothing(tmp_path: pathlib.Path) -> None:
    async with local_server(storage="wav", recordings=str(tmp_path)) as server:
        clients = [Publishing(server) for _ in range(3)]
        for client in clients:
            await client.start()
        lags = asyncio.create_task(worst_lags(7))
        streams = [asyncio.create_task(stream(client, 7)) for client in clients]
        await asyncio.sleep(1)
        server.container.store().disk.submit(lambda: time.sleep(5))
        await asyncio.gather(*streams)
        # a busy machine may cause some lag; a stall of ours would show in every second
        assert statistics.median(await lags) < 0.05
        assert max(await lags) < 1
        for client in clients:
            await client.close()
            await server.seen.next_end()
        assert server.seen.failures == []
        assert [seconds for _, seconds in server.seen.finished] == pytest.approx([7.0] * 3)
    for path in tmp_path.glob("*.wav"):
        verdict = verify(
            ToolsContainer().inspector().inspect(str(path)), Limits(silence=0, concealed=0)
        )
        assert verdict.problems == []


async def worst_lags(seconds: int) -> list[float]:
    """Return the worst lag of the event loop in each second, sampled every 5 ms."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    worst = [0.0] * seconds
    while (second := int(loop.time() - began)) < seconds:
        due = loop.time() + 0.005
        await asyncio.sleep(0.005)
        worst[second] = max(worst[second], loop.time() - due)
    return worst
