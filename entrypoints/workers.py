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
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any

import click

from domain.errors import GaplessError, PortInUse, SettingInvalid
from domain.session.placement import ABSENT, Counts, Share
from entrypoints.serving import SHUTDOWN_S, at_signals, make_container, serve_here
from entrypoints.settings import ServerSettings
from entrypoints.subscribers import NO_EVENTS, events_for
from entrypoints.terminal import ServerView, log_to_terminal

RESTART_S, MAX_RESTART_S = 0.5, 8.0
"""A worker that dies is started again after so long, and after longer if it dies at once."""
STEADY_S = 30.0
"""One that has lived so long did not die at once."""
KILL_S = SHUTDOWN_S + 1.5
"""A worker that has not ended by itself by then hangs."""
_PROCESSES = multiprocessing.get_context("spawn")


async def serve_with_workers(
    settings: ServerSettings, *, listening: Callable[[str], None], stop: asyncio.Event
) -> None:
    """Serve until `stop` is set; raises what one process would."""
    # errors in the settings are reported once, here
    container = make_container(settings, NO_EVENTS)
    container.signaling()
    container.store().check()
    with (
        _reserved(settings.host, settings.port) as port,
        tempfile.TemporaryDirectory(prefix="gapless-") as folder,
    ):
        counts = _PROCESSES.RawArray("i", [ABSENT] * settings.workers)
        workers = [
            _Worker(_part(settings, port, number), Share(number, settings.workers), counts, folder)
            for number in range(settings.workers)
        ]
        keeping = [asyncio.create_task(worker.keep()) for worker in workers]
        stopping = asyncio.create_task(stop.wait())
        started = asyncio.gather(*(worker.address for worker in workers))
        try:
            waiting: set[asyncio.Future[Any]] = {started, stopping}
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if started.done():
                listening(started.result()[0])
                await stopping
        finally:
            stopping.cancel()
            for worker in workers:
                worker.stop()
            await asyncio.wait(keeping, timeout=KILL_S)
            for worker in workers:
                worker.kill()
            await asyncio.gather(started, *keeping, return_exceptions=True)


def _part(settings: ServerSettings, port: int, number: int) -> ServerSettings:
    """What a worker may take of all that there is."""
    count = settings.workers
    sessions = settings.max_sessions // count + (number < settings.max_sessions % count)
    memory = max(1, settings.memory_mb // count)
    return dataclasses.replace(
        settings, port=port, workers=1, max_sessions=sessions, memory_mb=memory
    )


class _Worker:
    """One share of the sessions, whatever process has it."""

    def __init__(self, settings: ServerSettings, share: Share, counts: Counts, folder: str) -> None:
        self._settings = settings
        self._share = share
        self._counts = counts
        self._folder = folder
        self._process: multiprocessing.process.BaseProcess | None = None
        self._stopping = asyncio.Event()
        self.address: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        """What the first process listens on, once it does; or why it does not."""

    async def keep(self) -> None:
        """Keep a process running until `stop`."""
        delay = RESTART_S
        while not self._stopping.is_set():
            began = time.monotonic()
            why = await self._run()
            if self._stopping.is_set():
                break
            if not self.address.done():
                self.address.set_exception(GaplessError(f"a worker could not be started: {why}"))
                break
            if time.monotonic() - began > STEADY_S:
                delay = RESTART_S
            with contextlib.suppress(OSError):  # whoever read this is gone
                click.echo(f"worker {self._share.number} has died ({why}); starting it again",
                           err=True)  # fmt: skip
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await self._stopping.wait()
            delay = min(2 * delay, MAX_RESTART_S)
        if not self.address.done():
            self.address.cancel()

    def stop(self) -> None:
        self._stopping.set()
        if self._process is not None and self._process.is_alive():
            self._process.terminate()

    def kill(self) -> None:
        if self._process is not None and self._process.is_alive():
            self._process.kill()

    async def _run(self) -> str:
        """One process from its start to its end; returns why it has ended."""
        loop = asyncio.get_running_loop()
        ours, theirs = _PROCESSES.Pipe()
        process = _PROCESSES.Process(
            target=_work, args=(self._settings, self._share, self._counts, self._folder, theirs)
        )
        # Ctrl-C is for all processes of a terminal; a worker ends when it is told to
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            process.start()
        except OSError as error:
            ours.close()
            return str(error)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
            theirs.close()
        self._process = process
        if self._stopping.is_set():
            process.terminate()
        ended: asyncio.Future[None] = loop.create_future()
        told: list[str] = []
        loop.add_reader(process.sentinel, _settle, ended)
        loop.add_reader(ours.fileno(), self._hear, ours, told)
        try:
            await ended
        finally:
            loop.remove_reader(process.sentinel)
            loop.remove_reader(ours.fileno())
            ours.close()
        process.join()
        self._counts[self._share.number] = ABSENT
        return told[-1] if told else f"exit code {process.exitcode}"

    def _hear(self, pipe: Connection, told: list[str]) -> None:
        """The address, or why there is none."""
        try:
            is_listening, text = pipe.recv()
        except (EOFError, OSError):
            asyncio.get_running_loop().remove_reader(pipe.fileno())
            return
        if not is_listening:
            told.append(text)
        elif not self.address.done():
            self.address.set_result(text)


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


@contextlib.contextmanager
def _reserved(host: str, port: int) -> Iterator[int]:
    """A port that the workers can listen on together, and nobody else who does not say so."""
    try:
        held = _bind(host, port)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise PortInUse(f"{host}:{port} is in use by another program") from error
        raise SettingInvalid("host", f"cannot listen on {host}:{port}: {error}") from error
    with held:
        yield held.getsockname()[1]


def _bind(host: str, port: int) -> socket.socket:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    for family, kind, *_, address in found if port else ():
        with socket.socket(family, kind) as probe:  # without sharing: is it in use?
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            probe.bind(address)
    family, kind, *_, address = found[0]
    held = socket.socket(family, kind)
    try:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind(address)
    except BaseException:
        held.close()
        raise
    return held


# -- in a worker ---------------------------------------------------------------------------------


def _work(
    settings: ServerSettings, share: Share, counts: Counts, folder: str, pipe: Connection
) -> None:
    log_to_terminal()
    try:
        asyncio.run(_serve(settings, share, counts, folder, pipe))
    except GaplessError as error:
        pipe.send((False, str(error)))


async def _serve(
    settings: ServerSettings, share: Share, counts: Counts, folder: str, pipe: Connection
) -> None:
    stop = asyncio.Event()
    at_signals(stop.set)
    loop = asyncio.get_running_loop()

    def orphaned() -> None:
        loop.remove_reader(pipe.fileno())
        stop.set()

    # nothing is ever said to a worker: its pipe can be read when who started it is gone
    loop.add_reader(pipe.fileno(), orphaned)
    with events_for(ServerView()) as events:
        container = make_container(settings, events, share=share, counts=counts, sockets=folder)
        await serve_here(container, listening=lambda address: pipe.send((True, address)), stop=stop)
