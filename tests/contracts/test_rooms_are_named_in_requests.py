"""Clients name a room in `/offer` and `/whip`."""

from __future__ import annotations

from typing import Any

import aiohttp
import pytest

from adapters.http.client import HttpSignaling
from domain.errors import ServerRefused
from tests.fakes.http import FakeSessions, http_server

OFFER: dict[str, Any] = {"sdp": "v=0", "type": "offer"}


async def _post(path: str, body: Any, **params: str) -> tuple[int, list[str]]:
    sessions = FakeSessions()
    server = http_server(sessions)
    url = await server.start()
    kind = "application/json" if isinstance(body, dict) else "application/sdp"
    sent: dict[str, Any] = {"json": body} if isinstance(body, dict) else {"data": body}
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{url}{path}", params=params, headers={"Content-Type": kind}, **sent) as answer,
    ):
        status = answer.status
    await server.stop()
    return status, sessions.rooms


@pytest.mark.parametrize(("room", "found"), [("Küche", "Küche"), ("", ""), (None, "")])
async def test_an_offer_names_its_room(room: str | None, found: str) -> None:
    assert await _post("/offer", OFFER | {"room": room}) == (200, [found])
    assert await _post("/offer", OFFER) == (200, [""])


async def test_a_whip_publisher_names_its_room_in_the_query() -> None:
    assert await _post("/whip", "v=0", room="Küche") == (201, ["Küche"])
    assert await _post("/whip", "v=0") == (201, [""])


@pytest.mark.parametrize("room", [1, True, ["a"], "a\nb", "\x00", "x" * 101])
async def test_a_room_that_cannot_be_one_is_refused(room: Any) -> None:
    assert await _post("/offer", OFFER | {"room": room}) == (400, [])
    if isinstance(room, str):
        assert await _post("/whip", "v=0", room=room) == (400, [])


async def test_the_client_names_its_room() -> None:
    sessions = FakeSessions()
    server = http_server(sessions)
    signaling = HttpSignaling(server=await server.start(), token=None)
    await signaling.offer("v=0", name="", room="friday")
    await signaling.offer("v=0", name="")
    with pytest.raises(ServerRefused, match="room has to be text"):
        await signaling.offer("v=0", name="", room="a\n")
    assert sessions.rooms == ["friday", ""]
    await signaling.close()
    await server.stop()
