"""With several workers, whichever is asked tells what happens on all of them."""

from __future__ import annotations

import os
import pathlib
import signal
from contextlib import AsyncExitStack

import aiohttp
import pytest

from tests.rigs.clients import Publishing, Remote
from tests.rigs.processes import Server, gapless, workers_of
from tests.rigs.watching import Following, following


def epoch_of(client: Following) -> str:
    """Return the worker that serves a client, which is the first in its ids."""
    return client.latest_id.partition("-")[0]


@pytest.mark.timeout(120)
async def test_a_client_of_any_worker_hears_of_all_and_resumes_at_another(
    tmp_path: pathlib.Path,
) -> None:
    command = ("serve", "--port", "0", "--workers", "2", "--recordings", str(tmp_path))
    with gapless(*command) as process:
        server = Server(process, tmp_path)
        connector = aiohttp.TCPConnector(force_close=True)  # any worker may accept a connection
        async with aiohttp.ClientSession(connector=connector) as http, AsyncExitStack() as closing:
            remote, clients = Remote(server.url, http), list[Following]()
            published = Publishing(remote)
            closing.push_async_callback(published.close)
            for _ in range(12):
                client = await closing.enter_async_context(following(http, server.url))
                clients.append(client)
            await published.start()
            for client in clients:
                await client.wait_for("session.opened", session=published.id)
            assert len(clients[0].latest_id.split(".")) == 2
            last = clients[0].latest_id

            # it goes on behind that event at any worker
            published.send(5)
            for _ in range(6):
                late = await closing.enter_async_context(following(http, server.url, last=last))
                kind, data = await late.next()
                assert (kind, data["session"]) == ("session.changed", published.id)

            # what it sends is shown, and soon it is missed that it sends no more
            query = {"levels": "true", "session": published.id}
            meter = await closing.enter_async_context(following(http, server.url, **query))
            published.send(50)
            (session,) = (await meter.wait_for("levels"))["sessions"]
            assert session["session"] == published.id
            alarm = (await meter.wait_for("alarm.raised"))["alarm"]
            assert (alarm["kind"], alarm["session"]) == ("nothing_arriving", published.id)
            for _ in range(6):
                async with http.get(f"{server.url}/api/alarms") as answer:
                    assert alarm in (await answer.json())["on"]

            killed, _ = workers_of(process.process.pid)
            os.kill(killed, signal.SIGKILL)
            process.wait_for("worker 0 has died")
            left = 0
            for client in clients:
                try:
                    await client.wait_for("missed", count=None)
                    left += 1
                except (aiohttp.ClientError, StopAsyncIteration):
                    pass  # its worker was killed
            assert left < len(clients)
            resumed = await closing.enter_async_context(following(http, server.url, last=last))
            await resumed.wait_for("missed", count=None)
        assert process.stop() == 0
