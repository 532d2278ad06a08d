"""A server as several processes: one for each core, all of them listening on one port.

The process that was started listens to nobody. It keeps a worker for each share of the sessions,
and starts another one in the place of one that dies: that one takes up its recordings, and its
clients come back to it.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import errno
import multiprocessing
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection

import click

from domain.errors import GaplessError, PortInUse, SettingInvalid
from domain.ownership import Share
from domain.settings import ServerSettings
from entrypoints.serving import at_signals, make_container, serve_here

RESTART_S = 0.5
"""A worker that dies is started again after so long."""


async def serve_with_workers(
    settings: ServerSettings, *, listening: Callable[[str], None], stop: asyncio.Event
) -> None:
    """Serve until `stop` is set; raises what one process would."""
    container = make_container(settings)  # what is wrong with the settings is said once
    container.signaling()
    container.store().check()
    with (
        _reserved(settings.host, settings.port) as port,
        tempfile.TemporaryDirectory(prefix="gapless-") as folder,
    ):
        each = -(-settings.max_sessions // settings.workers)
        own = dataclasses.replace(settings, port=port, max_sessions=each)
        shares = [Share(number, settings.workers) for number in range(settings.workers)]
        workers = [_Worker(own, share, folder) for share in shares]
        keeping = [asyncio.create_task(worker.keep()) for worker in workers]
        stopping = asyncio.create_task(stop.wait())
        started = asyncio.create_task(_all_addresses(workers))
        try:
            await asyncio.wait({started, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if started.done():
                listening(started.result()[0])
                await stopping
        finally:
            started.cancel()
            stopping.cancel()
            for worker in workers:
                worker.stop()
            await asyncio.gather(*keeping)


async def _all_addresses(workers: Sequence[_Worker]) -> list[str]:
    return [await worker.address for worker in workers]


class _Worker:
    """One share of the sessions, whatever process has it."""

    def __init__(self, settings: ServerSettings, share: Share, folder: str) -> None:
        self._settings = settings
        self._share = share
        self._folder = folder
        self._process: multiprocessing.process.BaseProcess | None = None
        self._stopping = asyncio.Event()
        self.address: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        """What the first process listens on, once it does."""

    async def keep(self) -> None:
        """Keep a process running until `stop`."""
        while not self._stopping.is_set():
            code = await self._run()
            if self._stopping.is_set():
                return
            if not self.address.done():
                self.address.set_exception(GaplessError("a worker could not be started"))
                return
            click.echo(
                f"worker {self._share.number} has died ({code}); starting it again", err=True
            )
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RESTART_S):
                    await self._stopping.wait()

    def stop(self) -> None:
        self._stopping.set()
        if self._process is not None and self._process.is_alive():
            self._process.terminate()

    async def _run(self) -> int | None:
        """One process from its start to its end; returns its exit code."""
        loop = asyncio.get_running_loop()
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        self._process = process = context.Process(
            target=_work, args=(self._settings, self._share, self._folder, theirs)
        )
        process.start()
        theirs.close()
        ended: asyncio.Future[None] = loop.create_future()
        loop.add_reader(process.sentinel, _settle, ended)
        loop.add_reader(ours.fileno(), self._hear, ours)
        try:
            await ended
        finally:
            loop.remove_reader(process.sentinel)
            loop.remove_reader(ours.fileno())
            ours.close()
        process.join()
        return process.exitcode

    def _hear(self, pipe: Connection) -> None:
        try:
            address = pipe.recv()
        except EOFError:
            asyncio.get_running_loop().remove_reader(pipe.fileno())
            return
        if not self.address.done():
            self.address.set_result(address)


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


@contextlib.contextmanager
def _reserved(host: str, port: int) -> Iterator[int]:
    """A port that the workers can listen on together, and nobody else who does not say so."""
    try:
        family, kind, *_, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        if port:
            with socket.socket(family, kind) as probe:  # without sharing: is it in use?
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
        held = socket.socket(family, kind)
    except OSError as error:
        raise _in_use(host, port, error) from error
    with held:
        try:
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            held.bind(address)
        except OSError as error:
            raise _in_use(host, port, error) from error
        yield held.getsockname()[1]


def _in_use(host: str, port: int, error: OSError) -> GaplessError:
    if error.errno == errno.EADDRINUSE:
        return PortInUse(f"{host}:{port} is in use by another program")
    return SettingInvalid("host", f"cannot listen on {host}:{port}: {error.strerror}")


# -- in a worker ---------------------------------------------------------------------------------


def _work(settings: ServerSettings, share: Share, folder: str, pipe: Connection) -> None:
    try:
        asyncio.run(_serve(settings, share, folder, pipe))
    except GaplessError as error:
        print(f"gapless: {error}", file=sys.stderr)
        sys.exit(1)


async def _serve(settings: ServerSettings, share: Share, folder: str, pipe: Connection) -> None:
    stop = asyncio.Event()
    at_signals(stop.set)
    loop = asyncio.get_running_loop()

    def orphaned() -> None:
        loop.remove_reader(pipe.fileno())
        stop.set()

    # nothing is ever said to a worker: its pipe can be read when who started it is gone
    loop.add_reader(pipe.fileno(), orphaned)
    container = make_container(settings, share=share, sockets=folder)
    await serve_here(container, listening=pipe.send, stop=stop)
    loop.remove_reader(pipe.fileno())
