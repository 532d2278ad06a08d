"""A listener of the API's live tap, which keeps what it gets."""

from __future__ import annotations

import json
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import numpy as np
import numpy.typing as npt

HEADER = struct.Struct("<QIBBH")
WITHOUT_SAMPLES = 1


@dataclass
class Heard:
    """What a listener has got."""

    hello: dict[str, Any]
    events: list[dict[str, Any]] = field(default_factory=list)
    sound: list[npt.NDArray[np.int16]] = field(default_factory=list)
    kinds: list[tuple[int, int, str]] = field(default_factory=list)
    """Position, length and kind of each message with sound."""
    close_code: int | None = None

    @property
    def samples(self) -> npt.NDArray[np.int16]:
        return np.concatenate(self.sound) if self.sound else np.zeros((0, 1), "<i2")

    def add(self, message: bytes) -> None:
        """Add a message with sound, and check its header."""
        position, length, kind, channels, flags = HEADER.unpack_from(message)
        name = {number: name for name, number in self.hello["kinds"].items()}[kind]
        if flags & WITHOUT_SAMPLES:
            assert len(message) == HEADER.size
            samples = np.zeros((length, channels), "<i2")
        else:
            samples = np.frombuffer(message, "<i2", offset=HEADER.size).reshape(-1, channels)
            assert len(samples) == length
        self.sound.append(samples)
        self.kinds.append((position, length, name))


@asynccontextmanager
async def listening(
    http: aiohttp.ClientSession, url: str, session: str, query: str = "", **options: Any
) -> AsyncIterator[tuple[aiohttp.ClientWebSocketResponse, Heard]]:
    """Listen to a session; give the socket, and what has been heard: at first its hello."""
    path = f"{url}/api/sessions/{session}/pcm{query}"
    async with http.ws_connect(path, max_msg_size=1 << 20, **options) as socket:
        yield socket, Heard(json.loads(await socket.receive_str()))


async def listen_to_end(socket: aiohttp.ClientWebSocketResponse, heard: Heard) -> Heard:
    """Read until the server closes."""
    async for message in socket:
        take(message, heard)
    heard.close_code = socket.close_code
    return heard


def take(message: aiohttp.WSMessage, heard: Heard) -> None:
    if message.type is aiohttp.WSMsgType.BINARY:
        heard.add(message.data)
    else:
        assert message.type is aiohttp.WSMsgType.TEXT, message
        heard.events.append(json.loads(message.data))
