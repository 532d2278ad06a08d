"""Runs a server in this process, alone or as one of several workers."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
import sys
from collections.abc import Callable

from dependency_injector import providers

from domain.events.server import (
    RecordingsLeft,
)
from domain.ports.events import EventPublisher
from domain.services.server.watching import WatchService
from entrypoints.builders import WorkerSetup
from entrypoints.container import ServerContainer
from entrypoints.settings import ServerSettings
from entrypoints.subscribers import EventHub

TICK_S = 0.25
_log = logging.getLogger("gapless")
GC_THRESHOLDS = 5_000, 20, 100
"""Packets that wait for the disk are thousands of young objects, none of which is garbage."""
SWITCH_S = 0.0005
"""Interval after which a thread that waits for the GIL gets it. With Python's default of 5 ms, the
writing thread would fall seconds behind a busy event loop."""
SHUTDOWN_S = 4.5
"""Time limit of the shutdown, so that recordings are complete within 5 s of SIGTERM."""


def make_container(
    settings: ServerSettings,
    events: EventPublisher,
    worker: WorkerSetup | None = None,
    hub: EventHub | None = None,
) -> ServerContainer:
    """Make the container of a server, or of one of its workers if `worker` is given.

    `hub` has to be one of the subscribers of `events`.
    """
    container = ServerContainer(settings=settings, events=events)
    if hub is not None:
        container.hub.override(providers.Object(hub))
    if worker is not None:
        container.node.override(providers.Object(worker.node))
        container.worker.override(providers.Object(worker))
    return container


async def serve_here(
    container: ServerContainer,
    *,
    listening: Callable[[str], None],
    stop: asyncio.Event,
    alive: Callable[[], None] = lambda: None,
) -> None:
    """Accept offers and record until `stop` is set.

    `listening` is called with the server's URL, and `alive` every `TICK_S` from then on.
    """
    store, sessions, signaling = container.store(), container.sessions(), container.signaling()
    placement, transport = container.placement(), container.transport()
    watching, hub = container.watching(), container.hub()
    store.check()
    # Take the ports before recovery: a second server on one of them must fail before it touches the
    # recordings of the first.
    if placement.here is None:
        # The parent of several workers listens already; a worker accepts connections later, so that
        # no request waits for its recovery.
        await signaling.bind()
    try:
        await transport.open()
    except BaseException:
        await signaling.stop()
        await transport.close()
        raise
    try:
        hub.open()
        # recover before answering requests: they may be for sessions that are recovered here
        sessions.recover()
        await placement.open()
        address = await signaling.start()
        # these objects live as long as the process: exempt them from garbage collection
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)
        sys.setswitchinterval(SWITCH_S)
        listening(address)
        while not stop.is_set():
            sessions.tick()
            _watch(watching)
            placement.report(sessions.places_taken)
            alive()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TICK_S):
                    await stop.wait()
    finally:
        try:
            async with asyncio.timeout(SHUTDOWN_S):
                await sessions.shut_down()
                hub.close()
                await signaling.stop()
                await placement.close()
                await transport.close()
        except TimeoutError:
            late = RecordingsLeft(f"completing recordings took longer than {SHUTDOWN_S:g} s")
            container.events().publish(late)
        container.tokens().close()
        try:
            store.close()
        finally:
            container.peaks().close()
            container.catalogue().close()


def _watch(watching: WatchService) -> None:
    """Look for alarms; a fault of that must not end the recordings."""
    try:
        watching.tick()
    except Exception:
        _log.exception("the sessions could not be watched")


def at_signals(call: Callable[[], None], *, at_hang_up: Callable[[], None] | None = None) -> None:
    """Call `call` at SIGINT and SIGTERM, and at SIGHUP `at_hang_up` or else `call`.

    SIGHUP says that the terminal is gone. It stays ignored if it was at the start, as by nohup.
    """
    loop = asyncio.get_running_loop()
    for signal_number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signal_number, call)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        loop.add_signal_handler(signal.SIGHUP, at_hang_up or call)
