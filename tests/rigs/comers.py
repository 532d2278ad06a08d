"""Clients that come and go, in a process of their own: what they keep is not the server's."""

from __future__ import annotations

import argparse
import asyncio
import re
import sys

import aiohttp

from tests.rigs.clients import Publishing, Remote

KINDS = ("never connected", "closed", "reconnected", "failed in DTLS", "refused")
_OVER_S = 10.0


async def come_and_go(url: str, kind: str, count: int) -> None:
    """Make `count` sessions one after another, which end in one of the `KINDS`."""
    # over one connection: asyncio leaves each in a cycle
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1)) as http:
        server = Remote(url, http)
        offer = await an_offer(server)
        for number in range(count):
            await _one(server, kind, renamed(offer, number))


async def _one(server: Remote, kind: str, offer: str) -> None:
    if kind == "never connected":
        status, _ = await server.post("/offer", sdp=offer, type="offer")
        assert status == 200
    elif kind == "refused":
        status, _ = await server.post(
            "/offer", sdp=offer.replace("m=audio", "m=text"), type="offer"
        )
        assert status == 400
    elif kind == "failed in DTLS":
        await _fail(Publishing(server))
    else:
        client = Publishing(server)
        await client.start()
        client.send(5)
        if kind == "reconnected":
            await client.come_back()
            client.send(5)
        await client.close()


async def _fail(client: Publishing) -> None:
    """Connect with another certificate than the one in the offer."""
    offer = re.sub("(a=fingerprint:sha-256 )..:..:..", r"\1AA:BB:CC", client.connection.offer_sdp)
    status, body = await client.server.post("/offer", sdp=offer, type="offer")
    assert status == 200
    client.id = body["id"]
    connecting = asyncio.create_task(client.connect(body["sdp"]))
    async with asyncio.timeout(_OVER_S):
        while (await client.server.post("/ice-candidate", id=client.id, candidate=""))[0] != 404:
            await asyncio.sleep(0.01)
    connecting.cancel()
    await asyncio.wait({connecting})
    await client.close()


async def an_offer(server: Remote) -> str:
    """Return an offer of a client that does not exist any more."""
    connection = server.open_connection()
    await connection.close()
    return connection.offer_sdp


def renamed(offer: str, number: int) -> str:
    """Return an offer of another client: its ICE user name differs."""
    return re.sub("a=ice-ufrag:.*", f"a=ice-ufrag:{number:08d}\r", offer)


async def gone(url: str, kind: str, count: int) -> None:
    """Let `count` clients come and go in another process, and wait for its end."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.rigs.comers", url, kind, str(count)
    )
    assert await process.wait() == 0


def _main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("count", type=int)
    given = parser.parse_args()
    asyncio.run(come_and_go(given.url, given.kind, given.count))


if __name__ == "__main__":
    _main()
