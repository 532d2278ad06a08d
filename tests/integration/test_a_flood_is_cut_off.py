"""Publishers that send far too much are cut off, and the one beside them is recorded whole."""

from __future__ import annotations

import asyncio
import json
import pathlib
import random
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest

from domain.recording.pace_limit import MAX_FAST
from domain.rtp.packets import RtpPacket
from tests.rigs.clients import Remote
from tests.rigs.priority import ahead_of_others
from tests.rigs.processes import gapless, serving
from tests.rigs.rebinding import Streaming, connected, ended, expected, outcomes, streaming

BURST_S = 5.0
LONG = bytes([0x1B, 2])
"""Two bytes that claim 120 ms."""
_TICK_S = 0.005


def chance() -> Callable[[], bytes]:
    """Bytes of chance that claim to be mono packets of 60 or 120 ms."""
    source = random.Random(4)
    return lambda: bytes([0x18 | source.choice((0, 3)), 2]) + source.randbytes(30)


ATTACKS: dict[str, tuple[int, Callable[[], bytes]]] = {
    "a packet of 120 ms, 4,000 times a second": (4000, lambda: LONG),
    "a packet of 120 ms, 50 times a second": (50, lambda: LONG),
    "chance under valid SRTP, 400 times a second": (400, chance()),
}


class Attacker(Streaming):
    """Sends at a rate until it is cut off."""

    def __init__(self, server: Remote, rate: int, payload: Callable[[], bytes]) -> None:
        super().__init__(server)
        self._rate, self._payload = rate, payload
        self.lasted_s = 0.0

    async def flood(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        began, count = loop.time(), 0
        while not self.is_cut_off and (passed_s := loop.time() - began) < seconds:
            while count < passed_s * self._rate and self.connection.is_open:
                self.connection.send(
                    RtpPacket(111, count % 2**16, count * 5760 % 2**32, 7, self._payload())
                )
                count += 1
            self.lasted_s = passed_s
            await asyncio.sleep(_TICK_S)
        await self.connection.close()

    @property
    def is_cut_off(self) -> bool:
        connection: Any = self.connection
        return bool(connection.is_closed_by_server)


def ledger_of(folder: pathlib.Path, session: str) -> tuple[dict[str, Any], int, int]:
    """The ledger of a session, and the bytes of it and of the sound."""
    (path,) = [p for p in folder.glob("*.json") if json.loads(p.read_text())["id"] == session]
    text = path.read_text()
    return json.loads(text), len(text), path.with_suffix(".wav").stat().st_size


async def test_floods_are_cut_off_and_the_session_beside_them_is_whole(
    tmp_path: pathlib.Path,
) -> None:
    with ahead_of_others(), serving(tmp_path, "--max-burst-s", f"{BURST_S:g}") as server:
        async with aiohttp.ClientSession() as http:
            remote = Remote(server.url, http)
            beside = Streaming(remote)
            attackers = [Attacker(remote, *attack) for attack in ATTACKS.values()]
            await connected([beside, *attackers])
            floods = [asyncio.create_task(attacker.flood(20.0)) for attacker in attackers]
            seconds = 6.0
            async for _ in streaming([beside], seconds):
                pass
            await asyncio.gather(*floods)
            for _ in attackers:
                await asyncio.to_thread(server.process.wait_for, "session ended: limit (it sent")
            await ended([beside], server)
        found = outcomes(tmp_path)
        assert found[beside.id] == expected([beside])[beside.id]
        for name, attacker in zip(ATTACKS, attackers, strict=True):
            ledger, ledger_bytes, sound_bytes = ledger_of(tmp_path, attacker.id)
            length_s = ledger["length_samples"] / 48_000
            print(
                f"{name}: {length_s:.1f} s of sound in {attacker.lasted_s:.1f} s, "
                f"{sound_bytes / 1e6:.1f} MB, ledger {ledger_bytes / 1e3:.1f} kB"
            )
            assert attacker.is_cut_off
            assert attacker.lasted_s < 10
            assert length_s <= BURST_S + MAX_FAST * (attacker.lasted_s + 2.0)
            assert ledger["end_reason"] == "limit"
            assert [e for e in ledger["events"] if e["type"] == "ahead"]
            assert ledger_bytes < 12_000


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        (("--max-session-h", "0.001"), "it lasted for 0.001 h, as long as this server allows"),
        (("--max-session-gb", "0.001"), "it filled 0.001 GB, as much as this server allows"),
    ],
)
def test_our_client_says_which_limit_ended_its_session(
    tmp_path: pathlib.Path, setting: tuple[str, ...], told: str
) -> None:
    arguments = ("--capture", "tone", "--duration", "40", "--no-spool")
    with serving(tmp_path / "recordings", *setting) as server:
        with gapless("stream", "--server", server.url, *arguments) as process:
            assert process.end(timeout_s=40) == 1
        assert any(f"the server has ended the session: {told}" in line for line in process.errors)
        server.process.wait_for("recorded ")
        server.process.wait_for(f"session ended: limit ({told})")
