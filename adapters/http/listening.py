"""The client's side of the live tap: reads what a server sends of a session."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncGenerator, Mapping
from typing import Any
from urllib.parse import quote

import aiohttp

from adapters.http.api_client import ApiClient
from adapters.http.frames import read_frame
from domain.errors import ServerUnreachable, WrongServer
from domain.ports.tap import Missed, TapEnded, TapItem, TapStart
from domain.recording.effects import EndReason
from domain.recording.ledger import SampleKind
from domain.sound.formats import AudioFormat


async def listen(
    api: ApiClient, session_id: str, *, track: int, from_start: bool
) -> AsyncGenerator[TapStart | TapItem, None]:
    """Yield where the sound begins, then the sound as it is recorded, and at last its end.

    Raises what requests raise, and `ServerUnreachable` if the server goes away before the end.
    """
    path = f"/api/sessions/{quote(session_id, safe='')}/pcm"
    begin = "start" if from_start else "now"
    async with api.websocket(path, **{"track": track, "from": begin}) as socket:
        kinds: Mapping[int, SampleKind] = {}
        async for message in socket:
            if message.type is aiohttp.WSMsgType.BINARY:
                yield read_frame(message.data, kinds)
            elif message.type is aiohttp.WSMsgType.TEXT:
                told = _read_json(message.data)
                if told.get("type") == "hello":
                    kinds = _kinds_in(told)
                if (item := _item_of(told)) is not None:
                    yield item
                    if isinstance(item, TapEnded):
                        return
    raise ServerUnreachable("the server has gone away before the end of the session")


def _read_json(text: str) -> Any:
    with contextlib.suppress(ValueError, RecursionError):
        told = json.loads(text)
        if isinstance(told, dict):
            return told
    raise WrongServer("the server has sent something else than an event")


def _item_of(told: Mapping[str, Any]) -> TapStart | TapItem | None:
    """Read an event; None for one that says nothing new, or that later servers may send."""
    try:
        match told.get("type"):
            case "hello":
                audio_format = AudioFormat(int(told["sample_rate_hz"]), int(told["channels"]))
                return TapStart(
                    session_id=str(told["session"]),
                    recording=str(told["recording"]),
                    track=int(told["track"]),
                    sample_rate_hz=audio_format.sample_rate_hz,
                    channels=audio_format.channels,
                    position=int(told["position"]),
                )
            case "missed":
                return Missed(int(told["position"]), int(told["samples"]))
            case "end":
                return TapEnded(EndReason(told["reason"]))
    except (KeyError, TypeError, ValueError) as error:
        raise WrongServer(f"the server has sent an event that lacks something: {error}") from error
    return None


def _kinds_in(hello: Mapping[str, Any]) -> Mapping[int, SampleKind]:
    """Return the kinds of samples by the numbers that the server gives them."""
    given = hello.get("kinds")
    numbers = given if isinstance(given, dict) else {}
    return {numbers[kind.value]: kind for kind in SampleKind if kind.value in numbers}
