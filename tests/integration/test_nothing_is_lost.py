"""Whatever the network loses, and whoever is killed: a recording gets what was captured.

In mode `all` the recording is what was captured, bit for bit. In mode `lost` each restored sample
is, and nothing is left that was concealed, recovered or silent.
"""

from __future__ import annotations

import asyncio
import pathlib
import signal

import pytest
import soundfile

from tests.rigs.relay import random_loss
from tests.rigs.spooled import ended, said, spooled

pytestmark = pytest.mark.timeout(180)
MODES = pytest.mark.parametrize("mode", ["lost", "all"])
INACTIVE = ("--inactivity-timeout-s", "3")


@MODES
@pytest.mark.parametrize("share", [0.05, 0.2, 0.6])
async def test_packets_that_the_network_loses(
    tmp_path: pathlib.Path, mode: str, share: float
) -> None:
    # packets that are asked for come too late
    impatient = ("--reorder-hold-s", "0.02")
    async with spooled(tmp_path, mode, *impatient, plan=random_loss(share)) as rig:
        client = rig.stream()
        assert await ended(client) == 0, client.errors
        ledger = rig.check()
        assert ledger["restore"]["restored"] > 0
        assert "all of it on the server" in client.lines[-1]
        assert ("sha256" in client.lines[-1]) == (mode == "all")
        assert rig.kept() == []


@MODES
@pytest.mark.parametrize("seconds", [2.0, 6.0])
async def test_an_outage(tmp_path: pathlib.Path, mode: str, seconds: float) -> None:
    async with spooled(tmp_path, mode, seconds=seconds + 6) as rig:
        client = rig.stream()
        await said(client, "connected")
        await asyncio.sleep(2.0)
        rig.network.go_away()
        await asyncio.sleep(seconds)
        rig.network.come_back()
        assert await ended(client) == 0, client.errors
        rig.check()


@MODES
async def test_an_outage_after_which_the_session_is_over(tmp_path: pathlib.Path, mode: str) -> None:
    async with spooled(tmp_path, mode, *INACTIVE, seconds=16) as rig:
        client = rig.stream()
        await said(client, "connected")
        await asyncio.sleep(2.0)
        rig.network.go_away()
        await said(rig.server.process, "session ended")
        await asyncio.sleep(2.0)
        rig.network.come_back()
        assert await ended(client) == 0, client.errors
        rig.check()


@MODES
async def test_no_network_before_the_first_packet_and_until_after_the_end(
    tmp_path: pathlib.Path, mode: str
) -> None:
    async with spooled(tmp_path, mode, seconds=4) as rig:
        rig.network.go_away()
        client = rig.stream()
        assert await ended(client) == 1
        assert any("gapless spool send" in line for line in client.errors)
        rig.network.come_back()
        sender = rig.send()
        assert await ended(sender) == 0, sender.errors
        rig.check()


@MODES
async def test_no_media_path_at_all(tmp_path: pathlib.Path, mode: str) -> None:
    async with spooled(tmp_path, mode, seconds=4) as rig:
        rig.network.plan = lambda _index: []
        client = rig.stream()
        assert await ended(client) == 0, client.errors
        rig.check()


@MODES
async def test_a_server_that_is_killed_and_started_again(tmp_path: pathlib.Path, mode: str) -> None:
    async with spooled(tmp_path, mode, seconds=12) as rig:
        client = rig.stream()
        await said(client, "connected")
        await asyncio.sleep(3.0)
        rig.server.process.kill()
        await asyncio.sleep(1.0)
        rig.serve_again()
        assert await ended(client) == 0, client.errors
        rig.check()


@MODES
@pytest.mark.parametrize("is_server_killed", [False, True], ids=["alone", "and the server"])
async def test_a_client_that_is_killed(
    tmp_path: pathlib.Path, mode: str, is_server_killed: bool
) -> None:
    plan = random_loss(0.2)
    async with spooled(tmp_path, mode, *INACTIVE, seconds=12, plan=plan) as rig:
        client = rig.stream()
        await said(client, "connected")
        await asyncio.sleep(4.0)
        client.process.kill()
        if is_server_killed:
            rig.server.process.kill()
            rig.serve_again()
        (kept,) = rig.kept()
        export = rig.gapless(
            "spool", "export", kept.name, str(tmp_path / "kept.wav"), "--spool", str(rig.spool)
        )
        assert await ended(export) == 0, export.errors
        sender = rig.send()
        assert await ended(sender) == 0, sender.errors
        captured = soundfile.info(str(tmp_path / "kept.wav")).frames
        assert captured > 3 * 48_000
        rig.check(captured=captured)


@MODES
async def test_a_sender_that_stalls(tmp_path: pathlib.Path, mode: str) -> None:
    async with spooled(tmp_path, mode, seconds=10) as rig:
        client = rig.stream()
        await said(client, "connected")
        await asyncio.sleep(2.0)
        client.process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(3.0)
        client.process.send_signal(signal.SIGCONT)
        assert await ended(client) == 0, client.errors
        rig.check()


async def test_the_next_stream_sends_what_is_owed(tmp_path: pathlib.Path) -> None:
    async with spooled(tmp_path, "all", *INACTIVE, seconds=6, plan=random_loss(0.2)) as rig:
        first = rig.stream()
        await said(first, "connected")
        await asyncio.sleep(2.0)
        first.process.kill()
        await said(rig.server.process, "session ended")
        second = rig.stream()
        assert await ended(second) == 0, second.errors
        await asyncio.to_thread(rig.server.process.wait_for, "restored")
        assert rig.kept() == []
