"""A network that loses packets, for `gapless demo`: a relay between a client and a server.

It forwards requests unchanged, except that it replaces the candidates of both ends by its own, so
that the media goes through it, too.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import aiohttp
from aiohttp import web

_T = TypeVar("_T")
_HOST = "127.0.0.1"
_MAX_BODY = 64 << 20
_OF_ONE_CONNECTION = {"connection", "content-length", "date", "host", "server", "transfer-encoding"}
"""Headers that a new connection gets anew."""
_CANDIDATES = re.compile(r"a=(candidate:.*|end-of-candidates)\r\n")
_HOST_CANDIDATE = re.compile(r"a=candidate:\S+ 1 udp \d+ (\d+\.\d+\.\d+\.\d+) (\d+) typ host")


class LossyNetwork:
    """Loses media packets at random in both directions: sound, requests to send it again, reports.

    The same seed makes the same decisions, one packet after another.
    """

    def __init__(self, server: str, *, loss: float, seed: int, at_end: Callable[[], None]) -> None:
        """`loss` is a share. `at_end` is called when the live recording is complete."""
        self.url = ""
        self.packets = self.lost = 0
        """Media packets that came from the client, and how many of them were lost."""
        self._server = server
        self._loss = loss
        self._dice_there = random.Random(seed)  # noqa: S311 (it protects nothing)
        self._dice_back = random.Random(seed + 1)  # noqa: S311
        self._at_end = at_end
        self._relays: list[_Relay] = []
        self._http: aiohttp.ClientSession
        self._runner: web.AppRunner

    async def start(self) -> None:
        self._http = aiohttp.ClientSession(auto_decompress=False)
        app = web.Application(client_max_size=_MAX_BODY)
        app.router.add_route("*", "/{path:.*}", self._forward)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, _HOST, 0).start()
        self.url = f"http://{_HOST}:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        await self._runner.cleanup()
        await self._http.close()
        for relay in self._relays:
            relay.close()

    def loses_from_client(self) -> bool:
        is_lost = self._dice_there.random() < self._loss
        self.packets += 1
        self.lost += is_lost
        return is_lost

    def loses_from_server(self) -> bool:
        return self._dice_back.random() < self._loss

    async def _forward(self, request: web.Request) -> web.StreamResponse:
        if request.path == "/ice-candidate":
            return web.Response(status=204)  # the relay is the only path
        try:
            body = await request.read()
        except ConnectionError:  # the client has given up: nobody reads the answer
            return web.Response(status=400)
        if request.path == "/offer":
            offer = json.loads(body)
            body = json.dumps(offer | {"sdp": _CANDIDATES.sub("", offer["sdp"])}).encode()
        elif request.method == "PATCH":
            body = _CANDIDATES.sub("", body.decode()).encode()
        async with self._http.request(
            request.method,
            self._server + request.path_qs,
            data=body,
            headers=_passed(request.headers),
        ) as response:
            answered, status = await response.read(), response.status
            headers = _passed(response.headers)
        if request.method == "DELETE" and response.ok:
            self._at_end()
        if request.path == "/offer" and status == 200:
            answer = json.loads(answered)
            answered = json.dumps(answer | {"sdp": await self._relayed(answer["sdp"])}).encode()
        elif request.method == "PATCH" and status == 200:
            answered = (await self._relayed(answered.decode())).encode()
        return web.Response(status=status, body=answered, headers=headers)

    async def _relayed(self, sdp: str) -> str:
        """Return a description with the address of a new relay in place of the server's."""
        found = _HOST_CANDIDATE.search(sdp)
        assert found is not None  # the server is on this machine
        relay = _Relay(self, (found[1], int(found[2])))
        self._relays.append(relay)
        port = await relay.start()
        return (
            f"{_CANDIDATES.sub('', sdp)}a=candidate:1 1 udp 2130706431 {_HOST} {port} typ host\r\n"
            "a=end-of-candidates\r\n"
        )


class _Relay:
    """Carries the packets of one connection."""

    def __init__(self, network: LossyNetwork, server: tuple[str, int]) -> None:
        self._network = network
        self._server = server
        self._client: tuple[str, int] | None = None
        self._to_client: asyncio.DatagramTransport
        self._to_server: asyncio.DatagramTransport

    async def start(self) -> int:
        """Begin to relay; return the port for the client."""
        loop = asyncio.get_running_loop()
        self._to_client, _ = await loop.create_datagram_endpoint(
            lambda: _Side(self._from_client), local_addr=(_HOST, 0)
        )
        self._to_server, _ = await loop.create_datagram_endpoint(
            lambda: _Side(self._from_server), local_addr=(_HOST, 0)
        )
        port: int = self._to_client.get_extra_info("sockname")[1]
        return port

    def close(self) -> None:
        self._to_client.close()
        self._to_server.close()

    def _from_client(self, data: bytes, address: tuple[str, int]) -> None:
        self._client = address
        if not (_is_media(data) and self._network.loses_from_client()):
            self._to_server.sendto(data, self._server)

    def _from_server(self, data: bytes, _address: tuple[str, int]) -> None:
        if self._client is None or (_is_media(data) and self._network.loses_from_server()):
            return
        self._to_client.sendto(data, self._client)


class _Side(asyncio.DatagramProtocol):
    def __init__(self, received: Callable[[bytes, tuple[str, int]], None]) -> None:
        self._received = received

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        self._received(data, (addr[0], addr[1]))


@contextmanager
def lossy_network(
    server: str, *, loss: float, seed: int, at_end: Callable[[], None]
) -> Iterator[LossyNetwork]:
    """Run a network before a server, in a thread of its own, until the block is left."""
    network = LossyNetwork(server, loss=loss, seed=seed, at_end=at_end)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="gapless-network")

    def run(work: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(work, loop).result()

    thread.start()
    try:
        run(network.start())
        try:
            yield network
        finally:
            run(network.stop())
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def _is_media(data: bytes) -> bool:
    """Return whether a datagram is RTP or RTCP, and not STUN or DTLS (RFC 7983)."""
    return len(data) > 1 and 128 <= data[0] <= 191


def _passed(headers: Any) -> dict[str, str]:
    return {
        name: value for name, value in headers.items() if name.lower() not in _OF_ONE_CONNECTION
    }
