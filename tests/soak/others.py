"""Attacks with datagrams, and with files among the recordings."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pathlib
import socket

from aioice import stun

from tests.rigs.flooding import flooding
from tests.rigs.junk import Live, junk
from tests.soak.target import Outcome, Target

JUNK_RATE = 5_000
"""Datagrams a second."""


async def junk_datagrams(target: Target) -> Outcome:
    """Junk of all kinds from a thousand addresses."""
    address = target.host, target.udp_port

    def flood() -> int:
        with flooding(address, Live(), rate=JUNK_RATE, seconds=target.lasts_s) as process:
            return process.sent()

    return Outcome(datagrams=await asyncio.to_thread(flood))


async def forged_checks(target: Target) -> Outcome:
    """ICE checks for guessed user names, and for those of the attacker's own offers."""
    outcome, deadline = Outcome(), target.deadline()
    async with target.http(token=target.token) as remote:
        offer = remote.open_connection().offer_sdp
        with contextlib.suppress(Exception):
            await remote.post("/offer", sdp=offer, type="offer", name="attacker")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)
        sender.bind(target.address())
        while target.goes_on(deadline):
            for _ in range(50):
                message = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
                message.attributes["USERNAME"] = f"{target.chance.getrandbits(24):x}:x"
                message.attributes["PRIORITY"] = 1
                message.add_message_integrity(target.chance.randbytes(22))
                with contextlib.suppress(OSError):
                    sender.sendto(bytes(message), (target.host, target.udp_port))
                outcome["datagrams"] += 1
            await asyncio.sleep(0.02)
    return outcome


async def datagrams_of_12_bytes(target: Target) -> Outcome:
    """Datagrams of 12 bytes and less: as many as cost their sender least."""
    outcome, deadline = Outcome(), target.deadline()
    datagrams = [data[:12] for data in junk(Live(), target.chance, of=(), variants=50)]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)
        sender.bind(target.address())
        while target.goes_on(deadline):
            for data in target.chance.sample(datagrams, 60):
                with contextlib.suppress(OSError):
                    sender.sendto(data, (target.host, target.udp_port))
                outcome["datagrams"] += 1
            await asyncio.sleep(0.01)
    return outcome


async def hostile_files(target: Target) -> Outcome:
    """Files that somebody drops among the recordings while the server runs."""
    outcome, folder = Outcome(), pathlib.Path(target.folder)
    name = f"20200101T000000000Z-attacker-{target.chance.getrandbits(64):016x}"
    made = [folder / (name + suffix) for suffix in (".wav", ".json", ".journal", ".opus", ".swap")]
    texts = [
        json.dumps({"version": 1, "name": "../../escaped", "id": "\x1b[2J", "spans": [{}]}),
        '{"version": 1, "length_samples": 1e999}', "[" * 100_000, "\x00" * 1000, "NaN",
    ]  # fmt: skip
    for path in made:
        kind = target.chance.randrange(3)
        with contextlib.suppress(OSError):
            if kind == 0:
                os.mkfifo(path)
            elif kind == 1:
                path.symlink_to(target.chance.choice(["/dev/zero", "/etc/passwd", path.name]))
            else:
                path.write_text(target.chance.choice(texts))
            outcome["files"] += 1
    await asyncio.sleep(target.lasts_s)
    for path in made:
        path.unlink(missing_ok=True)
    return outcome
