"""Runs a server as several processes, one for each core, that listen on the same port.

The process that was started does not listen. It runs the worker processes and replaces a
worker that dies. The new worker resumes the recordings of the old one when its clients reconnect.
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
from multiprocessing.process import BaseProcess
from typing import Any

from domain.errors import GaplessError, PortInUse, SettingInvalid
from domain.events import WorkerDied
from domain.ports.events import EventPublisher
from domain.session.placement import ABSENT, NodeId, SessionCounts
from entrypoints.serving import SHUTDOWN_S, at_signals, make_container, serve_here
from entrypoints.settings import ServerSettings
from entrypoints.subscribers import events_for
from entrypoints.terminal import ServerView, log_to_terminal

RESTART_S, MAX_RESTART_S = 0.5, 8.0
"""The delay before a worker that died is replaced; it doubles while workers die early."""
STEADY_S = 30.0
"""A worker that ran for at least this long did not die early."""
KILL_S = SHUTDOWN_S + 1.5
"""A worker that has not ended this long after it was told to is killed."""
_PROCESSES = multiprocessing.get_context("spawn")


async def serve_with_workers(
    settings: ServerSettings,
    events: EventPublisher,
    *,
    listening: Callable[[str], None],
    stop: asyncio.Event,
) -> None:
    """Serve until `stop` is set; raises the same errors as a server of one process."""
    # check the settings here, so that an error is reported once and not by every worker
    container = make_container(settings, events)
    container.signaling()
    container.store().check()
    with (
        _reserved(settings.host, settings.port) as port,
        tempfile.TemporaryDirectory(prefix="gapless-") as folder,
    ):
        counts = _PROCESSES.RawArray("i", [ABSENT] * settings.workers)
        workers = [
            _Worker(
                _settings_of_worker(settings, port, number),
                events,
                NodeId(number, settings.workers),
                counts,
                folder,
            )
            for number in range(settings.workers)
        ]
        running = [asyncio.create_task(worker.run()) for worker in workers]
        stopping = asyncio.create_task(stop.wait())
        started = asyncio.gather(*(worker.address for worker in workers))
        try:
            first: set[asyncio.Future[Any]] = {started, stopping}
            await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
            if started.done():
                listening(started.result()[0])
                await stopping
        finally:
            stopping.cancel()
            for worker in workers:
                worker.stop()
            await asyncio.wait(running, timeout=KILL_S)
            for worker in workers:
                worker.kill()
            await asyncio.gather(started, *running, return_exceptions=True)


def _settings_of_worker(settings: ServerSettings, port: int, number: int) -> ServerSettings:
    """Divide the limits of a server among its workers."""
    count = settings.workers
    sessions = settings.max_sessions // count + (number < settings.max_sessions % count)
    memory = max(1, settings.memory_mb // count)
    return dataclasses.replace(
        settings, port=port, workers=1, max_sessions=sessions, memory_mb=memory
    )


class _Worker:
    """One worker, which several processes may run one after another."""

    def __init__(
        self,
        settings: ServerSettings,
        events: EventPublisher,
        node: NodeId,
        counts: SessionCounts,
        folder: str,
    ) -> None:
        self._settings = settings
        self._events = events
        self._node = node
        self._counts = counts
        self._folder = folder
        self._process: BaseProcess | None = None
        self._stopping = asyncio.Event()
        self.address: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        """The URL of the first process once it listens, or the reason why it does not."""

    async def run(self) -> None:
        """Run a process, and start another whenever it dies, until `stop` is called."""
        delay = RESTART_S
        while not self._stopping.is_set():
            began = time.monotonic()
            reason = await self._run_process()
            if self._stopping.is_set():
                break
            if not self.address.done():
                self.address.set_exception(GaplessError(f"a worker could not be started: {reason}"))
                break
            if time.monotonic() - began > STEADY_S:
                delay = RESTART_S
            self._events.publish(WorkerDied(self._node.number, reason))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await self._stopping.wait()
            delay = min(2 * delay, MAX_RESTART_S)
        if not self.address.done():
            self.address.cancel()

    def stop(self) -> None:
        """Tell the process to complete its recordings and end; do not start another."""
        self._stopping.set()
        if self._process is not None and self._process.is_alive():
            self._process.terminate()

    def kill(self) -> None:
        """End the process at once."""
        if self._process is not None and self._process.is_alive():
            self._process.kill()

    async def _run_process(self) -> str:
        """Run one process from its start to its end; return why it ended."""
        loop = asyncio.get_running_loop()
        reports, reporting = _PROCESSES.Pipe()
        process = _PROCESSES.Process(
            target=_work, args=(self._settings, self._node, self._counts, self._folder, reporting)
        )
        # Ctrl-C reaches all processes of a terminal, but a worker ends only when it is told to.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            process.start()
        except OSError as error:
            reports.close()
            return str(error)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
            reporting.close()
        self._process = process
        if self._stopping.is_set():
            process.terminate()
        ended: asyncio.Future[None] = loop.create_future()
        reasons: list[str] = []
        loop.add_reader(process.sentinel, _complete, ended)
        loop.add_reader(reports.fileno(), self._receive, reports, reasons)
        try:
            await ended
        finally:
            loop.remove_reader(process.sentinel)
            loop.remove_reader(reports.fileno())
            reports.close()
        process.join()
        self._counts[self._node.number] = ABSENT
        return reasons[-1] if reasons else f"exit code {process.exitcode}"

    def _receive(self, reports: Connection, reasons: list[str]) -> None:
        """Receive a report of the process: its URL, or the reason why it does not listen."""
        try:
            is_listening, text = reports.recv()
        except (EOFError, OSError):
            asyncio.get_running_loop().remove_reader(reports.fileno())
            return
        if not is_listening:
            reasons.append(text)
        elif not self.address.done():
            self.address.set_result(text)


def _complete(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


@contextlib.contextmanager
def _reserved(host: str, port: int) -> Iterator[int]:
    """Reserve a port on which the workers can listen together.

    Another program can listen on it only if it asks to share the port, too. Raises `PortInUse`
    or `SettingInvalid`.
    """
    try:
        reserved = _bind(host, port)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise PortInUse(f"{host}:{port} is in use by another program") from error
        raise SettingInvalid("host", f"cannot listen on {host}:{port}: {error}") from error
    with reserved:
        yield reserved.getsockname()[1]


def _bind(host: str, port: int) -> socket.socket:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    for family, kind, *_, address in found if port else ():
        with socket.socket(
            family, kind
        ) as probe:  # binding without SO_REUSEPORT fails if the port is in use
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            probe.bind(address)
    family, kind, *_, address = found[0]
    bound = socket.socket(family, kind)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.bind(address)
    except BaseException:
        bound.close()
        raise
    return bound


# -- in a worker's process -----------------------------------------------------------------------


def _work(
    settings: ServerSettings, node: NodeId, counts: SessionCounts, folder: str, reports: Connection
) -> None:
    log_to_terminal()
    try:
        asyncio.run(_serve(settings, node, counts, folder, reports))
    except GaplessError as error:
        reports.send((False, str(error)))


async def _serve(
    settings: ServerSettings, node: NodeId, counts: SessionCounts, folder: str, reports: Connection
) -> None:
    stop = asyncio.Event()
    at_signals(stop.set)
    loop = asyncio.get_running_loop()

    def stop_without_parent() -> None:
        loop.remove_reader(reports.fileno())
        stop.set()

    # The parent sends nothing through the pipe: it becomes readable when the parent has ended.
    loop.add_reader(reports.fileno(), stop_without_parent)
    with events_for(ServerView()) as events:
        container = make_container(settings, events, node=node, counts=counts, sockets=folder)
        await serve_here(
            container, listening=lambda address: reports.send((True, address)), stop=stop
        )
