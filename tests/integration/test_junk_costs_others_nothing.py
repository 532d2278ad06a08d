"""Junk from a thousand addresses at the port of live sessions costs these nothing."""

from __future__ import annotations

import pathlib

import aiohttp
import pytest

from adapters.transport.sockets.stun_requests import username_of
from tests.rigs.clients import Remote
from tests.rigs.flooding import cpu_s, dropped, flooding
from tests.rigs.processes import serving
from tests.rigs.rebinding import Streaming, connected, ended, expected, outcomes, streaming


def test_a_user_name_is_not_looked_for_without_end() -> None:
    name = b"\x00\x06\x00\x09name:peer\x00\x00\x00"
    few, many = (b"\x80\x22\x00\x01v\x00\x00\x00" * count for count in (10, 100))
    assert username_of(bytes(20) + few + name) == b"name"
    assert username_of(bytes(20) + many + name) == b""


@pytest.mark.parametrize(
    ("count", "rate", "seconds"),
    [
        (10, 20_000, 3.0),
        pytest.param(50, 50_000, 10.0, marks=[pytest.mark.soak, pytest.mark.timeout(120)]),
    ],
)
async def test_nothing_is_lost_that_the_kernel_delivered(
    tmp_path: pathlib.Path, count: int, rate: int, seconds: float
) -> None:
    with serving(tmp_path, "--max-sessions", str(count)) as server:
        process = server.process.process.pid
        async with aiohttp.ClientSession() as http:
            clients = [Streaming(Remote(server.url, http)) for _ in range(count)]
            await connected(clients)
            address, live = clients[0].server_address, [client.ssrc for client in clients]
            before = dropped(address[1])
            used_s = -cpu_s(process)
            with flooding(address, live, rate=rate, seconds=seconds) as flood:
                while not flood.is_over:
                    async for _ in streaming(clients, 1.0):
                        pass
                sent = flood.sent()
            used_s += cpu_s(process)
            lasted_s = clients[0].sent * clients[0].frame / 48_000
            await ended(clients, server)
            lost = dropped(address[1]) - before
        print(
            f"{sent} datagrams of junk in {seconds:g} s: {lost} dropped by the kernel, "
            f"{used_s / lasted_s:.0%} of a core"
        )
        assert sent > 0.5 * rate * seconds  # the machine may be busy
        found, wanted = outcomes(tmp_path), expected(clients)
        if not lost:
            assert found == wanted
        assert found.keys() == wanted.keys()
        missing = sum(
            wanted[session].length - outcome.kinds["received"] for session, outcome in found.items()
        )
        assert missing <= lost * clients[0].frame
        assert {outcome.reason for outcome in found.values()} == {"deleted"}
    assert server.process.errors == []
