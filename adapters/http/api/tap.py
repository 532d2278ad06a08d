"""``/api/sessions/{id}/pcm``: a recording's sound as it is made, over a WebSocket."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Sequence
from typing import Any

from aiohttp import WSCloseCode, WSMsgType, hdrs, web

from adapters.http.frames import NUMBERS, write_frames
from adapters.http.operations import Content, Operation, Parameter
from adapters.http.routes import Route, key_in_path
from adapters.http.websockets import (
    MAX_MESSAGE_BYTES,
    is_websocket,
    protocols_offered,
)
from domain.errors import QueryInvalid
from domain.ports.tap import Heard, Missed, SoundTap, SoundTaps, TapEnded, TapItem
from domain.session.roles import Role

PROTOCOL = "gapless.pcm"
"""The subprotocol that is chosen. Whoever offers any has to offer this one, too."""
PACE_S = 0.1
"""How much sound is gathered before it is sent. It costs a listener nothing: a recorder waits for
lost packets ten times as long."""
PING_S = 20.0
"""How long nothing is sent before the peer is asked whether it is there."""
CLOSE_S = 30.0
"""How long the peer may take to read what was sent before the end."""
SILENT_S = 60.0
"""How long the peer may take to answer; a peer that computes meanwhile is slow, not gone."""
_TEXT = (
    "The sound, over a WebSocket. The first message is text: a JSON object with `type` (hello), "
    "`session`, `recording` (its id), `track`, `sample_rate_hz`, `channels`, `position` (of the "
    "first sample) and `kinds`, the numbers of the kinds of samples by their names. Binary "
    "messages are sound: a header of 16 bytes (little endian: u64 position, u32 length in samples "
    "per channel, u8 kind, u8 channels, u16 flags) and the samples, 16 bits each, little endian, "
    "the channels of each position together. With flag 1 there are no samples: they are all zero, "
    "as in a gap, however long it is. Other text messages are JSON objects with a `type`: missed "
    "(`position`, `samples`): the listener was slow, and these samples are not sent; format "
    "(`position`, `channels`): what follows has so many channels; end (`reason`): the recording "
    "has ended, and the server closes. Positions follow each other without gaps. Ignore types and "
    "flags that you do not know. The client sends nothing but pongs. A browser cannot send the "
    "token in a header: it offers the subprotocols `gapless.pcm` and `bearer.TOKEN`."
)


class TapHandlers:
    """Sends each listener what is recorded, as fast as that listener reads."""

    def __init__(self, taps: SoundTaps) -> None:
        self._taps = taps

    def routes(self) -> Sequence[Route]:
        operation = Operation(
            name="tapSession",
            tag="sessions",
            summary="Sound of a session as it is recorded, over a WebSocket",
            answers={101: Content(text=_TEXT)},
            parameters=[
                Parameter(
                    name="track",
                    text="Number of the track.",
                    schema={"type": "integer", "minimum": 1, "default": 1},
                ),
                Parameter(
                    name="from",
                    text="Whether to begin now, or with the oldest sound that is in memory. Sound "
                    "is kept there while somebody listens, and as long again after that "
                    "(`tap_buffer_s`): nothing is lost if you come back soon.",
                    schema={"type": "string", "enum": ["now", "start"], "default": "now"},
                ),
            ],
            problems=[400, 404, 426],
        )
        return [
            Route(
                "GET",
                "/api/sessions/{id}/pcm",
                self._listen,
                role=Role.WATCH,
                session_key=key_in_path,
                is_streamed=True,
                operation=operation,
            )
        ]

    async def _listen(self, request: web.Request) -> web.StreamResponse:
        track, from_start = _query(request)
        offered = protocols_offered(request)
        if is_websocket(request) and offered and PROTOCOL not in offered:
            raise QueryInvalid(f"one of the subprotocols that are offered has to be {PROTOCOL}")
        session_id = request.match_info["id"]
        with contextlib.closing(self._taps.open(session_id, track, from_start=from_start)) as tap:
            if not is_websocket(request):
                raise web.HTTPUpgradeRequired(
                    text="ask for a WebSocket", headers={hdrs.UPGRADE: "websocket"}
                )
            socket = web.WebSocketResponse(
                protocols=(PROTOCOL,),
                autoping=False,
                compress=False,
                max_msg_size=MAX_MESSAGE_BYTES,
                timeout=CLOSE_S,
            )
            await socket.prepare(request)
            await _Listener(socket, tap).run()
            return socket


class _Listener:
    """One WebSocket, and what is sent over it."""

    def __init__(self, socket: web.WebSocketResponse, tap: SoundTap) -> None:
        self._socket = socket
        self._tap = tap
        self._channels = tap.start.channels
        self._news = asyncio.Event()
        self._pinged_at: float | None = None
        """When the ping was sent that was not answered yet; a time of the event loop."""
        tap.on_news = self._news.set

    async def run(self) -> None:
        """Send until the recording ends, or the client leaves or is gone."""
        reading = asyncio.create_task(self._read(), name="read from a listener")
        reading.add_done_callback(lambda _: self._news.set())
        try:
            await self._send(reading)
        except ConnectionError:  # the client has gone
            pass
        finally:
            reading.cancel()
            await asyncio.wait({reading})

    async def _send(self, reading: asyncio.Task[None]) -> None:
        await self._socket.send_str(json.dumps(_hello(self._tap)))
        while not reading.done():
            self._news.clear()
            found = self._tap.read()
            for item in found:
                await self._send_item(item)
                if isinstance(item, TapEnded):
                    await self._socket.close()
                    return
            if found:
                await asyncio.sleep(0)  # others may have waited for what was decoded
            elif not await self._wait():
                await self._socket.close(code=WSCloseCode.GOING_AWAY, message=b"no answer")
                return

    async def _wait(self) -> bool:
        """Wait for sound; return whether the peer is still there."""
        try:
            async with asyncio.timeout(PING_S):
                await self._news.wait()
        except TimeoutError:
            now = asyncio.get_running_loop().time()
            if self._pinged_at is None:
                self._pinged_at = now
                await self._socket.ping()
            return now - self._pinged_at < SILENT_S
        await asyncio.sleep(PACE_S)
        return True

    async def _send_item(self, item: TapItem) -> None:
        match item:
            case Heard():
                if item.channels != self._channels:
                    self._channels = item.channels
                    await self._tell("format", position=item.position, channels=item.channels)
                for message in write_frames(item):
                    await self._socket.send_bytes(message)
            case Missed(position, length):
                await self._tell("missed", position=position, samples=length)
            case TapEnded(reason):
                await self._tell("end", reason=reason.value)

    async def _tell(self, kind: str, **values: object) -> None:
        await self._socket.send_str(json.dumps({"type": kind, **values}))

    async def _read(self) -> None:
        """Read until the client closes, or says something; it has nothing to say."""
        while True:
            message = await self._socket.receive()
            self._pinged_at = None
            if message.type is WSMsgType.PING:
                try:
                    await self._socket.pong(message.data)
                except ConnectionError:  # it has gone, and waits for no answer
                    return
            elif message.type is not WSMsgType.PONG:
                break
        if message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
            await self._socket.close(
                code=WSCloseCode.POLICY_VIOLATION, message=b"a listener has nothing to say"
            )


def _query(request: web.Request) -> tuple[int, bool]:
    """Read which track is meant, and whether from the start. Raises `QueryInvalid`."""
    text = request.query.get("track", "1")
    if not (text.isascii() and text.isdigit() and 1 <= len(text) <= 3 and int(text)):
        raise QueryInvalid("track has to be the number of a track, from 1 on")
    begin = request.query.get("from", "now")
    if begin not in ("now", "start"):
        raise QueryInvalid("from has to be now or start")
    return int(text), begin == "start"


def _hello(tap: SoundTap) -> dict[str, Any]:
    start = tap.start
    return {
        "type": "hello",
        "session": start.session_id,
        "recording": start.recording,
        "track": start.track,
        "sample_rate_hz": start.sample_rate_hz,
        "channels": start.channels,
        "position": start.position,
        "kinds": {kind.value: number for kind, number in NUMBERS.items()},
    }
