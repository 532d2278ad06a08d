"""The server knows which address a request comes from, also behind proxies and other nodes."""

from __future__ import annotations

import aiohttp
import pytest

from adapters.http.callers import Callers
from domain.errors import SettingInvalid
from tests.fakes.http import FakeSessions, http_server


async def address_of(trusted: tuple[str, ...], *forwarded: str) -> str:
    sessions = FakeSessions()
    server = http_server(sessions, trusted_proxies=trusted)
    url = await server.start()
    headers = [("X-Forwarded-For", value) for value in forwarded]
    try:
        async with aiohttp.ClientSession() as http:
            body = {"sdp": "v=0", "type": "offer"}
            async with http.post(f"{url}/offer", json=body, headers=headers) as response:
                assert response.status == 200
    finally:
        await server.stop()
    return sessions.callers[0].address


@pytest.mark.parametrize(
    ("trusted", "forwarded", "address"),
    [
        ((), (), "127.0.0.1"),
        ((), ("203.0.113.7",), "127.0.0.1"),
        (("127.0.0.1",), ("203.0.113.7",), "203.0.113.7"),
        (("127.0.0.0/8",), ("203.0.113.7",), "203.0.113.7"),
        (("::1",), ("203.0.113.7",), "127.0.0.1"),
        (("127.0.0.1",), ("198.51.100.1, 203.0.113.7",), "203.0.113.7"),
        (("127.0.0.1", "203.0.113.7"), ("198.51.100.1, 203.0.113.7",), "198.51.100.1"),
        (("127.0.0.1",), ("198.51.100.1", "203.0.113.7"), "203.0.113.7"),
        (("127.0.0.1",), ("203.0.113.7, made up",), ""),
        (("127.0.0.1",), ("2001:DB8::7",), "2001:db8::7"),
        (("127.0.0.1",), ("::ffff:203.0.113.7",), "203.0.113.7"),
        (("127.0.0.1",), ("1.2.3.4," * 100 + "203.0.113.7",), "127.0.0.1"),
        (("127.0.0.1",), (), "127.0.0.1"),
    ],
)
async def test_a_request_comes_from_an_address(
    trusted: tuple[str, ...], forwarded: tuple[str, ...], address: str
) -> None:
    assert await address_of(trusted, *forwarded) == address


def test_a_proxy_has_to_be_an_address_or_a_network() -> None:
    with pytest.raises(SettingInvalid, match="trusted_proxies"):
        Callers(["proxy.example"])
