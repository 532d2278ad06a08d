"""Runs the commands that ask a server by its API."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from adapters.http.api_client import ApiClient as ApiClient
from adapters.http.listening import listen as listen
from entrypoints.client_builders import build_api_client
from entrypoints.client_settings import ClientSettings

SERVER_SETTINGS = ("server", "token", "fingerprint")
"""The options that say which server is asked, for `settings_options`."""

T = TypeVar("T")


def ask(settings: ClientSettings, question: Callable[[ApiClient], Awaitable[T]]) -> T:
    """Run a coroutine with a client of the API; return its result.

    Raises `ServerUnreachable`, `WrongServer` and `ServerRefused`.
    """

    async def run() -> T:
        api = build_api_client(settings)
        try:
            return await question(api)
        finally:
            await api.close()

    return asyncio.run(run())
