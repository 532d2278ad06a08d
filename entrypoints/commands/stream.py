"""`gapless stream`."""

from __future__ import annotations

import asyncio
import signal

import click

from domain.errors import ConnectionFailed
from domain.services.client.publisher import Publisher
from entrypoints.container import ClientContainer
from entrypoints.options import settings_options
from entrypoints.settings import ClientSettings
from entrypoints.subscribers import events_for
from entrypoints.terminal import StreamView


@click.command()
@settings_options(ClientSettings)
def stream(settings: ClientSettings) -> None:
    """Stream a microphone (or a file, or a tone) to a server.

    Streams until Ctrl-C, the end of the file, or --duration. All captured sound is sent before the
    command ends. Waits for a server that is not available yet. If the connection is lost, the
    client reconnects and the same recording continues, with silence for the time of the outage.

    \b
    Examples:
      gapless stream --server http://192.168.1.20:8080 --token SECRET
      gapless stream --device "USB Microphone" --name desk --duration 3600
      gapless stream --capture file --input talk.flac
      gapless stream --capture tone --duration 10
    """
    view = StreamView(server=settings.server)
    try:
        with events_for(view) as events:
            container = ClientContainer(
                settings=settings, events=events, progress_interval_s=view.progress_interval_s
            )
            asyncio.run(_stream(container.publisher()))
    finally:
        view.close()


async def _stream(publisher: Publisher) -> None:
    running = asyncio.ensure_future(publisher.run())
    stopping = False

    def interrupt() -> None:
        nonlocal stopping
        if publisher.streaming and not stopping:
            stopping = True
            publisher.stop()
        else:  # there is nothing to save yet, or this is the second signal
            running.cancel()

    for signal_number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(signal_number, interrupt)
    try:
        await running
    except asyncio.CancelledError:
        when = "the recording was complete" if stopping else "the connection was made"
        raise ConnectionFailed(f"stopped before {when}") from None
