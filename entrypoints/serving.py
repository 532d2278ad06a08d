"""One process that serves: what `gapless serve` does, alone or as one of several workers."""

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
"""Packets on their way to the disk are thousands of young objects, and none of them is garbage."""
SWITCH_S = 0.0005
"""Python's own 5 ms, each time it asks for the interpreter's lock, would leave the thread that
writes seconds behind a busy event loop."""
SHUTDOWN_S = 4.5
"""Recordings are complete within 5 s of SIGTERM."""


def make_container(
    settings: ServerSettings,
    events: EventPublisher,
    *,
    node: NodeId | None = None,
    counts: SessionCounts | None = None,
    sockets: str | None = None,
) -> ServerContainer:
    """Make the container of a server; with a `node`, that of one of its workers."""
    container = ServerContainer(settings=settings, events=events)
    if node is not None:
        container.node.override(providers.Object(node))
        container.counts.override(providers.Object(counts))
        container.sockets.override(providers.Object(sockets))
    return container


async def serve_here(
    container: ServerContainer, *, listening: Callable[[str], None], stop: asyncio.Event
) -> None:
    """Take offers and record until `stop` is set; `listening` is told the address."""
    store, sessions, signaling = container.store(), container.sessions(), container.signaling()
    placement = container.placement()
    store.check()
    if placement.here is None:
        # first the port: a second server on it must not touch what the first one records; who has
        # started several workers has it already, and nobody else's requests should wait for us
        await signaling.bind()
    try:
        # nobody may ask for a session before it is known which there are
        sessions.recover()
        await placement.open()
        address = await signaling.start()
        # what is there by now stays: the collector need not look through it again and again
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
        store.close()
        container.catalogue().close()


def at_signals(call: Callable[[], None]) -> None:
    """Call at SIGINT and at SIGTERM, instead of what Python does."""
    for signal_number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(signal_number, call)
