"""Runs a server in this process, alone or as one of several workers."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import sys
from collections.abc import Callable

from dependency_injector import providers

from domain.ports.events import EventPublisher
from domain.session.placement import NodeId, SessionCounts
from entrypoints.container import ServerContainer
from entrypoints.settings import ServerSettings

TICK_S = 0.25
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
    *,
    node: NodeId | None = None,
    counts: SessionCounts | None = None,
    sockets: str | None = None,
) -> ServerContainer:
    """Make the container of a server, or of one of its workers if `node` is given."""
    container = ServerContainer(settings=settings, events=events)
    if node is not None:
        container.node.override(providers.Object(node))
        container.counts.override(providers.Object(counts))
        container.sockets.override(providers.Object(sockets))
    return container


async def serve_here(
    container: ServerContainer, *, listening: Callable[[str], None], stop: asyncio.Event
) -> None:
    """Accept offers and record until `stop` is set; `listening` is called with the server's URL."""
    store, sessions, signaling = container.store(), container.sessions(), container.signaling()
    placement = container.placement()
    store.check()
    if placement.here is None:
        # Bind the port before recovery: a second server on the same port must fail before it
        # touches the recordings of the first. The parent of several workers has reserved the port
        # already; a worker binds later, so that no request waits for its recovery.
        await signaling.bind()
    try:
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
            placement.report(sessions.places_taken)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TICK_S):
                    await stop.wait()
    finally:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SHUTDOWN_S):
                await sessions.shut_down()
                await signaling.stop()
                await placement.close()
        try:
            store.close()
        finally:
            container.catalogue().close()


def at_signals(call: Callable[[], None]) -> None:
    """Call `call` at SIGINT and SIGTERM, instead of Python's own handling."""
    for signal_number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(signal_number, call)
