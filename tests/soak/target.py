"""What an attacker knows of a server, and how it reaches it."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import aiohttp

from tests.rigs.clients import Remote
from tests.rigs.tls import trusting_anybody

Outcome = collections.Counter[str]
"""How often each answer came: a status, or how the connection ended."""
Attack = Callable[["Target"], Awaitable[Outcome]]

SEEN = 1.0
"""Seconds that an answer may take before the attacker goes on without it."""


@dataclass
class Target:
    """A server under attack. All sockets come from loopback addresses that are the attacker's."""

    url: str
    token: str
    """Of a client: some attackers have one."""
    folder: str
    """The server's recordings, into which somebody may drop files."""
    udp_port: int
    chance: random.Random
    lasts_s: float = 5.0
    """How long each attack goes on."""
    requests: int = field(default=0)

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        return urlsplit(self.url).port or 0

    @property
    def is_tls(self) -> bool:
        return self.url.startswith("https:")

    def address(self) -> tuple[str, int]:
        """An address of the attacker's: it has a network of 250."""
        return f"127.66.0.{self.chance.randrange(1, 251)}", 0

    def deadline(self) -> float:
        return asyncio.get_running_loop().time() + self.lasts_s

    def goes_on(self, deadline: float) -> bool:
        return asyncio.get_running_loop().time() < deadline

    async def connect(
        self, *, tls: bool | None = None
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect, with TLS if the server wants it, or if `tls` says so."""
        with_tls = self.is_tls if tls is None else tls
        async with asyncio.timeout(SEEN * 5):
            return await asyncio.open_connection(
                self.host, self.port, local_addr=self.address(),
                ssl=trusting_anybody() if with_tls else None,
            )  # fmt: skip

    async def tell(self, request: bytes) -> str:
        """Send a request as it is; return the status, or how the connection ended."""
        try:
            reader, writer = await self.connect()
        except (OSError, TimeoutError):
            return "not connected"
        try:
            async with asyncio.timeout(SEEN * 5):
                writer.write(request)
                with contextlib.suppress(ConnectionError):
                    await writer.drain()
                return status_of(await reader.read(64))
        except TimeoutError:
            return "no answer"
        except OSError:
            return "closed"
        finally:
            writer.transport.abort()

    @asynccontextmanager
    async def http(self, *, token: str | None = None) -> AsyncIterator[Remote]:
        """Requests as a client sends them, from one of the attacker's addresses."""
        connector = aiohttp.TCPConnector(
            local_addr=self.address(),
            ssl=trusting_anybody() if self.is_tls else True,
            force_close=True,
        )
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        timeout = aiohttp.ClientTimeout(total=SEEN * 10)
        async with aiohttp.ClientSession(
            connector=connector, headers=headers, timeout=timeout
        ) as http:
            yield Remote(self.url, http)


def status_of(answer: bytes) -> str:
    words = answer.split(b" ", 2)
    return words[1].decode() if len(words) > 2 else "closed"


async def sent(request: Awaitable[aiohttp.ClientResponse]) -> str:
    """Wait for a response; return its status, or how the connection ended."""
    try:
        response = await request
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        return type(error).__name__
    response.release()
    return str(response.status)
