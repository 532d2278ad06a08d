"""What the commands that ask a server say if what answers is something else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from click.testing import CliRunner

from entrypoints.cli import main

_ANSWERS = ["{}", "[]", "null", '"yes"', '{"tokens": [1], "next": null}', '{"url": 1, "token": 2}']


@pytest.fixture(params=_ANSWERS)
async def url(request: pytest.FixtureRequest) -> AsyncIterator[str]:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(text=request.param, content_type="application/json")

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


@pytest.mark.parametrize(
    "command",
    [
        ("recordings", "list"),
        ("sessions", "list"),
        ("sessions", "message", "1", "hello"),
        ("token", "list"),
        ("token", "new"),
        ("token", "revoke", "1"),
        ("invite",),
    ],
    ids=" ".join,
)
async def test_an_answer_that_is_none_is_one_line(url: str, command: tuple[str, ...]) -> None:
    result = await asyncio.to_thread(CliRunner().invoke, main, [*command, "--server", url])
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("gapless: the server did not answer with ")
