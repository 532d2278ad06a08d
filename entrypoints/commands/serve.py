"""`gapless serve`."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import resource
import signal

import click

from domain.settings import ServerSettings
from entrypoints.container import ServerContainer
from entrypoints.options import settings_options
from entrypoints.terminal import ServerView, show_recovery

TICK_S = 0.25
SHUTDOWN_S = 4.5
"""Recordings are complete within 5 s of SIGTERM."""


@click.command()
@settings_options(ServerSettings)
def serve(settings: ServerSettings) -> None:
    """Receive streams and record them.

    Listens for clients (gapless stream, WHIP publishers at /whip, or whatever can POST an offer)
    and writes a WAV for each. Ctrl-C or SIGTERM completes all recordings first; what a server
    that was killed has left is gone on with, or completed.

    \b
    Examples:
      gapless serve
      gapless serve --host 0.0.0.0 --token SECRET --recordings ~/recordings
      gapless serve --host 0.0.0.0 --token SECRET --tls-cert cert.pem --tls-key key.pem
      gapless serve --host 0.0.0.0 --token SECRET --udp-ports 50000-50999
      GAPLESS_INACTIVITY_TIMEOUT_S=10 gapless serve --config gapless.toml
    """
    _allow_files()
    asyncio.run(_serve(settings))


def _allow_files() -> None:
    """As many descriptors as this process may have: a session takes about ten."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


async def _serve(settings: ServerSettings) -> None:
    container = ServerContainer(settings=settings, observer=ServerView())
    store, ingest, signaling = container.store(), container.ingest(), container.signaling()
    stop = asyncio.Event()
    for signal_number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(signal_number, stop.set)
    store.check()
    # first the port: a second server on it must not touch what the first one records
    address = await signaling.bind()
    try:
        # and nobody may ask for a session before it is known which there are
        show_recovery(ingest.recover())
        await signaling.start()
        # what is there by now stays: the collector need not look through it again and again
        gc.collect()
        gc.freeze()
        click.echo(f"gapless is listening on {address} (Ctrl-C to stop)")
        while not stop.is_set():
            ingest.tick()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TICK_S):
                    await stop.wait()
        click.echo("completing recordings")
    finally:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SHUTDOWN_S):
                await ingest.shut_down()
                await signaling.stop()
        store.close()
