"""Runs a server as several processes, one for each core, that accept connections on one port.

The process that was started listens, but accepts nothing. It runs the worker processes, and
replaces a worker that dies or does not respond. The new worker resumes the recordings of the old
one when its clients reconnect.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import multiprocessing
import multiprocessing.resource_tracker
import os
import pathlib
import secrets
import signal
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

from domain.errors import GaplessError
from domain.events.server import (
    RecordingsLeft,
    WorkerDied,
)
from domain.ports.events import EventPublisher
from domain.session.placement import ABSENT, NodeId
from entrypoints.builders import WorkerSetup, check_udp_ports, listen_for_workers
from entrypoints.server_view import ServerView
from entrypoints.serving import SHUTDOWN_S, at_signals, make_container, serve_here
from entrypoints.settings import ServerSettings
from entrypoints.subscribers import EventHub, audited, events_for
from entrypoints.terminal import log_to_terminal

RESTART_S, MAX_RESTART_S = 0.5, 8.0
"""The delay before a worker that died is replaced; it doubles while workers die early."""
STEADY_S = 30.0
"""A worker that ran for at least this long did not die early."""
KILL_S = SHUTDOWN_S + 1.5
"""A worker that has not ended this long after it was told to is killed."""
FROZEN_S = 10.0
"""A worker whose event loop has been at a standstill for this long is killed and replaced.

Requests avoid it long before that. A worker of a busy machine may be late by seconds.
"""
BURST, BURST_SHARE = 30, 4
"""Connections of one address that each worker takes, if that is no more than one of so many of its
places: whoever comes together may all come to the same worker."""
WATCH_S = 0.5
"""How often the heartbeats of the workers are checked."""
_PROCESSES = multiprocessing.get_context("spawn")
_OF_A_TERMINAL = {signal.SIGINT, signal.SIGHUP}
"""Signals that a terminal sends to all of its processes. A worker ends when its parent tells it."""


async def serve_with_workers(
    settings: ServerSettings,
    events: EventPublisher,
    *,
    listening: Callable[[str], None],
    stop: asyncio.Event,
    alive: Callable[[], None] = lambda: None,
) -> None:
    """Serve until `stop` is set; raises the same errors as a server of one process.

    `listening` is called when all workers listen, and `alive` every `WATCH_S` from then on: this
    process replaces workers that are frozen, and somebody else has to replace this process.
    """
    # check the settings here, so that an error is reported once and not by every worker
    container = make_container(settings, events)
    container.signaling()
    container.store().check()
    with contextlib.ExitStack() as opened:
        listeners = [opened.enter_context(item) for item in listen_for_workers(settings)]
        folder = opened.enter_context(tempfile.TemporaryDirectory(prefix="gapless-"))
        of_workers = [_settings_of_worker(settings, number) for number in range(settings.workers)]
        for of_worker in of_workers:
            # or one worker would fail, while the others touch the recordings
            check_udp_ports(of_worker)
        # started here: while it starts, it would unblock the signals that workers have blocked
        multiprocessing.resource_tracker.ensure_running()
        key = secrets.token_bytes(16)
        counts = _PROCESSES.RawArray("i", [ABSENT] * settings.workers)
        heartbeats = _PROCESSES.RawArray("d", settings.workers)
        workers = [
            _Worker(
                of_worker,
                events,
                WorkerSetup(
                    NodeId(number, settings.workers, key), counts, heartbeats, folder, listeners
                ),
            )
            for number, of_worker in enumerate(of_workers)
        ]
        running = [asyncio.create_task(worker.run()) for worker in workers]
        stopping = asyncio.create_task(stop.wait())
        started = asyncio.gather(*(worker.address for worker in workers))
        try:
            first: set[asyncio.Future[Any]] = {started, stopping}
            await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
            if started.done():
                listening(started.result()[0])
                while not stop.is_set():
                    alive()
                    await asyncio.wait([stopping], timeout=WATCH_S)
        finally:
            stopping.cancel()
            # refuse new connections once the workers accept none, instead of letting them wait
            for listener in listeners:
                listener.close()
            for worker in workers:
                worker.stop()
            await asyncio.wait(running, timeout=KILL_S)
            for worker in workers:
                if worker.kill():
                    late = RecordingsLeft(
                        f"worker {worker.number} has not ended within {KILL_S:g} s"
                    )
                    events.publish(late)
            await asyncio.gather(started, *running, return_exceptions=True)


def _settings_of_worker(settings: ServerSettings, number: int) -> ServerSettings:
    """Divide the limits of a server among its workers."""
    count = settings.workers
    sessions = settings.max_sessions // count + (number < settings.max_sessions % count)
    memory = max(1, settings.memory_mb // count)
    port = settings.media_port + number if settings.media_port else 0
    connections = max(1, settings.max_connections // count)
    of_address = settings.max_connections_per_address
    burst = min(BURST, of_address, connections // BURST_SHARE)
    return dataclasses.replace(
        settings,
        workers=1,
        max_sessions=sessions,
        max_day_gb=max(0.001, settings.max_day_gb / count),
        max_connections=connections,
        max_connections_per_address=max(1, of_address // count, burst),
        memory_mb=memory,
        udp_port=port,
    )


class _Worker:
    """One worker, which several processes may run one after another."""

    def __init__(
        self, settings: ServerSettings, events: EventPublisher, setup: WorkerSetup
    ) -> None:
        self._settings = settings
        self._events = events
        self._setup = setup
        self._process: BaseProcess | None = None
        self._stopping = asyncio.Event()
        self.address: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        """The URL of the first process once it listens, or the reason why it does not."""

    @property
    def number(self) -> int:
        """The number of the worker, from 0."""
        return self._setup.node.number

    async def run(self) -> None:
        """Run a process, and start another whenever it has died, until `stop` is called."""
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
            self._events.publish(WorkerDied(self.number, reason))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await self._stopping.wait()
            delay = min(2 * delay, MAX_RESTART_S)
        if not self.address.done():
            self.address.cancel()

    def stop(self) -> None:
        """Tell the process to complete its recordings and end; do not start another."""
        self._stopping.set()
        if (process := self._process) is not None and process.is_alive():
            process.terminate()
            if process.pid is not None:
                # one that is stopped would get the signal only when it is continued
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGCONT)

    def kill(self) -> bool:
        """End the process at once; return whether it was still running."""
        if self._process is None or not self._process.is_alive():
            return False
        self._process.kill()
        return True

    async def _run_process(self) -> str:
        """Run one process from its start to its end; return why it ended."""
        loop = asyncio.get_running_loop()
        reports, reporting = _PROCESSES.Pipe()
        process = _PROCESSES.Process(target=_work, args=(self._settings, self._setup, reporting))
        signal.pthread_sigmask(signal.SIG_BLOCK, _OF_A_TERMINAL)
        try:
            process.start()
        except OSError as error:
            reports.close()
            return str(error)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _OF_A_TERMINAL)
            reporting.close()
        self._process = process
        if self._stopping.is_set():
            process.terminate()
        ended: asyncio.Future[None] = loop.create_future()
        reasons: list[str] = []
        loop.add_reader(process.sentinel, _complete, ended)
        loop.add_reader(reports.fileno(), self._receive, reports, reasons)
        watching = asyncio.create_task(self._kill_when_frozen(process, reasons))
        try:
            await ended
        finally:
            watching.cancel()
            loop.remove_reader(process.sentinel)
            loop.remove_reader(reports.fileno())
            reports.close()
        process.join()
        self._setup.counts[self.number] = ABSENT
        self._setup.heartbeats[self.number] = 0.0
        return reasons[-1] if reasons else _how_ended(process.exitcode or 0)

    async def _kill_when_frozen(self, process: BaseProcess, reasons: list[str]) -> None:
        """Kill a process whose heartbeat has not changed for `FROZEN_S`, and add the reason.

        The heartbeats begin when the process accepts requests. Before that it may be busy with
        recovery, so that only a process which the system has stopped counts as frozen. Checks are
        counted, so that a standstill of this process, or of the whole machine, is no reason to
        kill the workers.
        """
        latest, unchanged = 0.0, 0
        while unchanged < FROZEN_S / WATCH_S:
            await asyncio.sleep(WATCH_S)
            heartbeat = self._setup.heartbeats[self.number]
            is_unchanged = heartbeat == latest if heartbeat > 0.0 else _is_stopped(process)
            unchanged, latest = unchanged + 1 if is_unchanged else 0, heartbeat
            if self._stopping.is_set():
                return  # it completes its recordings, and has a deadline for that
        reasons.append(f"it has not responded for {FROZEN_S:g} s")
        process.kill()

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


def _is_stopped(process: BaseProcess) -> bool:
    """Return whether the system has stopped a process (SIGSTOP), as /proc tells."""
    try:
        text = pathlib.Path(f"/proc/{process.pid}/stat").read_text(
            encoding="ascii", errors="replace"
        )
    except OSError:
        return False
    return text.rpartition(")")[2].split()[:1] == ["T"]  # proc_pid_stat(5)


def _how_ended(exit_code: int) -> str:
    """Return how a process ended, by its exit code as multiprocessing reports it."""
    if exit_code >= 0:
        return f"exit code {exit_code}"
    with contextlib.suppress(ValueError):
        return f"killed by {signal.Signals(-exit_code).name}"
    return f"killed by signal {-exit_code}"


def _complete(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


# -- in a worker's process -----------------------------------------------------------------------


def _work(settings: ServerSettings, setup: WorkerSetup, reports: Connection) -> None:
    log_to_terminal()
    try:
        asyncio.run(_serve(settings, setup, reports))
    except GaplessError as error:
        reports.send((False, str(error)))


async def _serve(settings: ServerSettings, setup: WorkerSetup, reports: Connection) -> None:
    stop = asyncio.Event()
    at_signals(stop.set)
    loop = asyncio.get_running_loop()

    def stop_without_parent() -> None:
        loop.remove_reader(reports.fileno())
        stop.set()

    # The parent sends nothing through the pipe: it becomes readable when the parent has ended.
    loop.add_reader(reports.fileno(), stop_without_parent)
    with events_for(
        ServerView(is_quiet=settings.quiet), hub := EventHub(), *audited(settings)
    ) as events:
        container = make_container(settings, events, worker=setup, hub=hub)
        await serve_here(
            container, listening=lambda address: reports.send((True, address)), stop=stop
        )
