"""Media through coturn: relaying, credentials, and TURN servers that do not answer."""

from __future__ import annotations

import asyncio
import os
import pathlib
import socket
import time

import pytest

from domain.session.ice import IceServer
from tests.rigs.clients import Publishing, local_server, resources_held, returns_to
from tests.rigs.outages import Client, only_recording
from tests.rigs.turn import PASSWORD, SECRET, USER, missing, turn_server

pytestmark = pytest.mark.skipif((why := missing()) is not None, reason=str(why))

RELAY = {"ice_policy": "relay"}
LOOKUP_THREADS = min(32, (os.cpu_count() or 1) + 4)
"""The most threads that asyncio's pool has, whatever the number of sessions."""


@pytest.mark.parametrize("transport", ["udp", "tcp"])
@pytest.mark.parametrize(
    ("client_policy", "server_policy"), [("relay", "all"), ("all", "relay"), ("relay", "relay")]
)
async def test_either_side_may_be_reached_through_a_relay_only(
    tmp_path: pathlib.Path, transport: str, client_policy: str, server_policy: str
) -> None:
    with turn_server(tmp_path / "turn", shared_secret=True) as turn:
        servers = (IceServer(f"{turn.url}?transport={transport}"),)
        async with local_server(
            ice_servers=servers, turn_secret=SECRET, ice_policy=server_policy
        ) as server:
            # the client has no servers of its own: it takes those of the answer
            client = Client(server.url, ice_policy=client_policy)
            await client.until("connected")
            await asyncio.sleep(1)
            summary = await client.stop()
            stored = only_recording(server)
            assert len(stored.samples) / 48_000 == pytest.approx(summary.seconds, abs=0.04)
            assert {span["kind"] for span in stored.ledger["spans"]} == {"received"}


async def test_relayed_sessions_release_everything(tmp_path: pathlib.Path) -> None:
    with turn_server(tmp_path / "turn") as turn:
        servers = (IceServer(turn.url, USER, PASSWORD), IceServer(turn.stun_url))
        async with local_server(ice_servers=servers) as server:
            before = await resources_held()
            for _ in range(3):
                client = Client(server.url, ice_servers=servers, **RELAY)
                await client.until("connected")
                await client.stop()
            await returns_to(before, more_threads=LOOKUP_THREADS)


async def test_wrong_credentials_are_reported(tmp_path: pathlib.Path) -> None:
    with turn_server(tmp_path / "turn") as turn:
        wrong = (IceServer(turn.url, USER, "wrong"),)
        async with local_server(ice_servers=wrong, **RELAY) as server:
            publishing = Publishing(server)
            offer = publishing.connection.offer_sdp
            status, body = await server.post("/offer", sdp=offer, type="offer")
            assert status == 502
            assert body == {"error": f"{turn.url} refuses the credentials (401 Unauthorized)"}
            await publishing.close()
        async with local_server() as server:
            client = Client(server.url, ice_servers=wrong, **RELAY)
            while not any("waiting" in state for state in client.seen.states):
                await asyncio.sleep(0.05)
            (told,) = [state for state in client.seen.states if "waiting" in state]
            assert f"{turn.url} refuses the credentials (401" in told
            client.running.cancel()
            await asyncio.wait({client.running})


async def test_wrong_credentials_do_not_matter_where_there_is_another_path(
    tmp_path: pathlib.Path,
) -> None:
    with turn_server(tmp_path / "turn") as turn:
        wrong = (IceServer(turn.url, USER, "wrong"),)
        async with local_server(ice_servers=wrong) as server:
            client = Client(server.url, ice_servers=wrong)
            await client.until("connected")
            await client.stop()


@pytest.mark.parametrize("kind", ["silent", "refusing", "nowhere"])
async def test_an_unreachable_turn_server_delays_nothing_by_more_than_a_second(kind: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        address = {
            "silent": f"127.0.0.1:{port}",
            "refusing": f"127.0.0.1:{port}?transport=tcp",
            "nowhere": "turn.invalid",
        }[kind]
        dead = (IceServer(f"turn:{address}", "u", "p"), IceServer(f"stun:{address.split('?')[0]}"))
        async with local_server(ice_servers=dead) as server:
            before = await resources_held()
            began = time.monotonic()
            client = Client(server.url, ice_servers=dead)
            await client.until("connected")
            # a second for the server's answer; the client sends its host candidates at once
            assert time.monotonic() - began < 1.7
            await client.stop()
            await returns_to(before, more_threads=LOOKUP_THREADS)
