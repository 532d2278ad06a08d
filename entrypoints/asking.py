"""Runs the commands that ask a server by its API."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

from adapters.http.api_client import ApiClient as ApiClient
from adapters.http.listening import listen as listen
from domain.errors import WrongServer
from entrypoints.client_builders import build_api_client
from entrypoints.client_settings import ClientSettings

SERVER_SETTINGS = ("server", "token", "fingerprint")
"""The options that say which server is asked, for `settings_options`."""

JSON_HELP = "Print what the API answers."

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


@contextlib.contextmanager
def understood(what: str) -> Iterator[None]:
    """Take an answer apart that has to be `what`. Raises `WrongServer` if it is something else."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise WrongServer(f"the server did not answer with {what}") from error
