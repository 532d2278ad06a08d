"""A listener that is gone before its ping is answered is no fault of the server."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

from aiohttp import WSMessage, WSMsgType

from adapters.http.api.tap import _Listener
from domain.ports.tap import TapStart


class GoneSocket:
    """A WebSocket whose peer has sent a ping, and reads nothing any more."""

    async def send_str(self, text: str) -> None:
        pass

    async def receive(self) -> WSMessage:
        return WSMessage(WSMsgType.PING, b"", None)

    async def pong(self, data: bytes) -> None:
        raise ConnectionResetError("cannot write to closing transport")


class SilentTap:
    start = TapStart(
        session_id="session",
        recording="recording",
        track=1,
        sample_rate_hz=48_000,
        channels=1,
        position=0,
    )

    def read(self) -> list[Any]:
        return []


async def test_a_listener_that_asks_and_goes_is_no_fault() -> None:
    faults: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, fault: faults.append(fault))
    socket: Any = GoneSocket()
    tap: Any = SilentTap()
    async with asyncio.timeout(5):
        await _Listener(socket, tap).run()
    gc.collect()
    await asyncio.sleep(0)
    assert faults == []
