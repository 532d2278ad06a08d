"""A server with recordings and sessions of all sorts, to look at."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import pathlib
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from unittest import mock

import aiohttp
import numpy as np

from domain.ports.storage import RecordingWriter
from domain.recording.effects import EndReason
from domain.recording.ledger import LedgerEvent, SampleKind
from tests.rigs.clients import Publishing, Remote
from tests.rigs.recordings import close, info, open_folder
from tests.rigs.relay import Plan, Relay, burst_loss, clean, random_loss
from tests.rigs.sound import FRAME, RATE, encode, speech

PLAIN = ("Ana", "Ben", "Chiara", "Dev", "Elif", "Farah", "Goran", "Hana", "Ines", "Jonas")
LONG = "Professor Doctor Wilhelmina Oberstaufenbach-Krähenwinkel of the Institute of Slow Rivers"
UNBROKEN = "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft"
RIGHT_TO_LEFT = ("مريم الحسيني", "דוד בן־גוריון", "Ana (أنا)")
ROOM, PANEL = "friday", "panel"
TOGETHER = 3
MAX_RECORDING_S = 100.0


@dataclass(frozen=True)
class Guest:
    """Who is on: what the name is, and what the network does."""

    name: str
    room: str = ROOM
    plan: Plan = clean
    gain: float = 1.0
    """Of the speech; 0 is silence."""


ORDINARY = (
    Guest("Ana"),
    Guest("Ben", plan=random_loss(0.02)),
    Guest("Chiara", plan=burst_loss(0.3), gain=0.6),
    Guest("Dev", room="", gain=0.0),
)
STRANGE = (
    Guest(RIGHT_TO_LEFT[0]),
    Guest(RIGHT_TO_LEFT[1], room="غرفة الجمعة"),
    Guest(RIGHT_TO_LEFT[2], plan=random_loss(0.1)),
    Guest(LONG, room=LONG),
    Guest(UNBROKEN, room=UNBROKEN),
)


FATES: tuple[tuple[tuple[float, SampleKind, float], ...], ...] = (
    (),
    ((0.4, SampleKind.RECOVERED, 0.5), (0.7, SampleKind.RESTORED, 5.0)),
    ((0.3, SampleKind.CONCEALED, 0.1), (0.5, SampleKind.SILENCE, 4.0)),
    ((0.2, SampleKind.RESTORED, 3.0), (0.6, SampleKind.RESTORED, 1.0)),
    (),
)
"""What recordings are made of: where in them, of which kind, and for how many seconds."""


# -- recordings --------------------------------------------------------------------------------


async def write_recordings(
    folder: pathlib.Path, names: Sequence[str], *, count: int, rooms: Sequence[str] = (ROOM, "")
) -> None:
    """Write complete recordings of speech, each with another fate.

    The first `TOGETHER` are of one sitting, in the room `PANEL`.
    """
    rig = open_folder(folder)
    for number in range(1, count + 1):
        is_together = number <= TOGETHER
        name, room = names[number % len(names)], rooms[number % len(rooms)]
        about = info(number, client=name, room=PANEL if is_together else room)
        apart = datetime.timedelta(hours=0 if is_together else 5, seconds=7)
        began = about.started_at + number * apart
        about = replace(
            about,
            started_at=began,
            name=re.sub(r"^\d+T\d+Z", f"{began:%Y%m%dT%H%M%S}000Z", about.name),
        )
        # a whole recording is appended at once, which no microphone does
        with mock.patch("adapters.storage.folder.writer.QUEUE_S", MAX_RECORDING_S):
            writer = rig.store.create(about)
        length = _write(writer, number)
        ended_at = began + datetime.timedelta(seconds=length / RATE)
        await writer.finish(EndReason.CLOSED, ended_at)
    close(rig)


def _write(writer: RecordingWriter, number: int) -> int:
    """Write speech with one of five fates; return the length."""
    seconds = 20 + number * 37 % 50
    sound = speech(seconds)
    at = 0
    for share, kind, lasts_s in FATES[number % len(FATES)]:
        start = round(share * seconds * RATE)
        end = start + round(lasts_s * RATE)
        writer.append([sound[at:start]], SampleKind.RECEIVED)
        if kind is SampleKind.SILENCE:
            writer.append_silence(end - start, kind)
            writer.note(LedgerEvent("outage", start, {"length": end - start}))
        else:
            writer.append([sound[start:end]], kind)
        at = end
    writer.append([sound[at:]], SampleKind.RECEIVED)
    return len(sound)


# -- sessions ----------------------------------------------------------------------------------


class _Speaking(Publishing):
    """A guest who speaks without end."""

    def __init__(self, server: Remote, guest: Guest) -> None:
        super().__init__(server)
        self.guest = guest
        said = (speech(10).astype(np.float64) * guest.gain).astype(np.int16)
        self.packets = encode(said)
        self.relay = Relay(guest.plan)

    async def start(self) -> None:
        status, body = await self.server.post(
            "/offer", sdp=re.sub(r"a=candidate:.*\r\n", "", self.connection.offer_sdp),
            type="offer", name=self.guest.name, room=self.guest.room,
        )  # fmt: skip
        assert status == 200, body
        self.id, self.resume = body["id"], body["resume"]
        answer = await self.relay.intercept(body["sdp"])

        async def send(_candidate: object) -> None:
            """The server learns where the relay is."""

        await self.connection.connect(answer, ice_servers=(), send_candidate=send)

    async def speak(self) -> None:
        """Send in real time."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        while True:
            self.send(1)
            await asyncio.sleep(max(0.0, began + self.sent * FRAME / RATE - loop.time()))

    async def close(self) -> None:
        await super().close()
        self.relay.close()


@asynccontextmanager
async def on_air(
    url: str, guests: Sequence[Guest], *, token: str = ""
) -> AsyncIterator[dict[str, str]]:
    """Let guests speak to a server until the block is left; their sessions and their secrets."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with aiohttp.ClientSession(headers=headers) as http, AsyncExitStack() as opened:
        speaking = [_Speaking(Remote(url, http), guest) for guest in guests]
        for one in speaking:
            await one.start()
            opened.push_async_callback(one.close)
            task = asyncio.create_task(one.speak())
            opened.push_async_callback(_ended, task)
        yield {one.id: one.resume for one in speaking}


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
