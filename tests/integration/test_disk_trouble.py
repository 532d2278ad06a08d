"""A disk that fills up, a folder that can no longer be written, a disk that stalls."""

from __future__ import annotations

import asyncio
import json
import os
import pathlib
import statistics
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

import aiohttp
import pytest
import soundfile

from domain.recording.verification import Limits, verify
from entrypoints.container import ToolsContainer
from tests.rigs.clients import Publishing, Remote, local_server
from tests.rigs.processes import Server, serving

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


# -- faults that pass ----------------------------------------------------------------------------


@contextmanager
def immutable(folder: pathlib.Path) -> Iterator[None]:
    """Let nobody create, rename or delete files in a folder, not even root (ext4, xfs, btrfs)."""
    if os.geteuid() != 0 or subprocess.run(["chattr", "+i", folder]).returncode != 0:
        pytest.skip("a folder cannot be made immutable here")
    try:
        yield
    finally:
        subprocess.run(["chattr", "-i", folder], check=True)


@asynccontextmanager
async def streaming(folder: pathlib.Path, *arguments: str) -> AsyncIterator[tuple[Server, Stream]]:
    """Run a server and a client that streams until its stream is ended."""
    with serving(folder, *arguments) as running:
        async with aiohttp.ClientSession() as http:
            client = Publishing(Remote(running.url, http))
            await client.start()
            sending = asyncio.create_task(stream(client, 120))
            await asyncio.to_thread(running.process.wait_for, "recording,")
            await asyncio.sleep(1)
            yield running, Stream(client, sending)
            sending.cancel()
            await client.close()


@dataclass(frozen=True)
class Stream:
    client: Publishing
    sending: asyncio.Task[None]

    async def end(self) -> int:
        """End the stream; return the samples that were sent."""
        self.sending.cancel()
        await asyncio.sleep(0.3)  # the last packets arrive
        await self.client.close()
        return self.client.sent * 960


def assert_whole(recorded: str, length: int, *, parts: int = 1) -> pathlib.Path:
    """Check that all parts of a recording are sound and, together, as long as what was sent."""
    first = pathlib.Path(recorded.split(" to ")[-1].split(" in ")[0])
    paths = sorted(first.parent.glob(f"{first.stem}*.wav"))
    assert len(paths) == parts
    total = 0
    for path in paths:
        verdict = verify(ToolsContainer().inspector().inspect(str(path)), Limits(silence=0))
        assert verdict.problems == []
        total += verdict.length
    assert total == length
    return first


async def test_a_disk_that_is_full_for_some_seconds_costs_nothing(small_disk: pathlib.Path) -> None:
    filler = small_disk / "filler"
    async with streaming(small_disk, "--min-free-mb", "1") as (running, sending):
        filler.write_bytes(bytes(11 << 20))
        delayed = await asyncio.to_thread(running.process.wait_for, "recordings wait for the disk")
        assert delayed.endswith(".wav.part: No space left on device")
        await asyncio.sleep(3)
        filler.unlink()
        await asyncio.to_thread(running.process.wait_for, "the disk can be written again")
        await asyncio.sleep(1)
        length = await sending.end()
        path = assert_whole(await asyncio.to_thread(running.process.wait_for, "recorded"), length)
    events = json.loads(path.with_suffix(".json").read_text())["events"]
    (fault,) = [event for event in events if event["type"] == "disk fault"]
    assert fault["reason"] == "No space left on device"
    assert fault["seconds"] > 2


async def test_a_folder_that_is_immutable_for_some_seconds_costs_nothing(
    tmp_path: pathlib.Path,
) -> None:
    """Parts cannot be created meanwhile, and the recording ends then, too."""
    folder = tmp_path / "recordings"
    folder.mkdir()
    async with streaming(folder, "--rotate-s", "1") as (running, sending):
        with immutable(folder):
            await asyncio.sleep(3)
            length = await sending.end()
            delayed = await asyncio.to_thread(
                running.process.wait_for, "recordings wait for the disk"
            )
            assert delayed.endswith("Operation not permitted")
        recorded = await asyncio.to_thread(running.process.wait_for, "recorded")
        parts = len(list(folder.glob("*.wav")))
        assert_whole(recorded, length, parts=parts)
        running.process.errors.clear()
    assert not list(folder.glob("*.part"))
    assert not list(folder.glob("*.journal"))


async def test_a_folder_that_comes_back_after_the_end_gets_its_recording(
    tmp_path: pathlib.Path,
) -> None:
    folder, away = tmp_path / "recordings", tmp_path / "away"
    async with streaming(folder) as (running, sending):
        folder.rename(away)
        length = await sending.end()
        failed = await asyncio.to_thread(running.process.wait_for, "failed: ")
        assert failed.endswith("No such file or directory")
        assert str(folder) in failed
        away.rename(folder)
        recovered = await asyncio.to_thread(running.process.wait_for, "recovered")
        (path,) = folder.glob("*.wav")
        assert recovered.endswith(str(path))
        assert_whole(str(path), length)
        running.process.errors.clear()
    assert not list(folder.glob("*.part"))


async def test_a_server_says_that_it_ends_with_unfinished_recordings(
    tmp_path: pathlib.Path,
) -> None:
    folder, away = tmp_path / "recordings", tmp_path / "away"
    async with streaming(folder) as (running, _):
        folder.rename(away)
        assert await asyncio.to_thread(running.process.stop) == 0
        assert running.process.errors[-1] == (
            "gapless: completing recordings took longer than 4.5 s; unfinished recordings are "
            "completed at the next start"
        )
        running.process.errors.clear()
    away.rename(folder)
    (recording,) = ToolsContainer().recovery().recover(str(folder)).recovered
    assert_whole(recording.location, recording.length)
    assert recording.length > 30_000


@pytest.mark.parametrize("harm", ["folder replaced", "part removed", "journal removed"])
async def test_what_is_called_recorded_is_there(tmp_path: pathlib.Path, harm: str) -> None:
    folder = tmp_path / "recordings"
    async with streaming(folder) as (running, sending):
        (part,) = folder.glob("*.wav.part")
        if harm == "folder replaced":
            folder.rename(tmp_path / "old")
            folder.mkdir()
        elif harm == "part removed":
            part.unlink()
        else:
            (journal,) = folder.glob("*.journal")
            journal.unlink()
        await asyncio.sleep(1)
        length = await sending.end()
        recorded = await asyncio.to_thread(running.process.wait_for, "recorded")
        path = assert_whole(recorded, length)
        assert path.parent == folder
        running.process.errors.clear()


async def test_a_truncated_recording_is_an_error(tmp_path: pathlib.Path) -> None:
    folder = tmp_path / "recordings"
    async with streaming(folder) as (running, sending):
        (part,) = folder.glob("*.wav.part")
        os.truncate(part, 40_000)
        failed = await asyncio.to_thread(running.process.wait_for, "failed: ")
        assert "cut off" in failed
        await asyncio.to_thread(running.process.wait_for, "session ended: storage failed")
        sending.sending.cancel()
        running.process.errors.clear()
    (path,) = folder.glob("*.wav")
    verdict = verify(ToolsContainer().inspector().inspect(str(path)), Limits())
    assert verdict.problems == []
    assert verdict.end_reason == "storage failed"
    assert 19_000 < verdict.length < 20_000
