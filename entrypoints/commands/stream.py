"""`gapless stream`."""

from __future__ import annotations

import asyncio
import signal

import click

from domain.errors import ConnectionFailed
from domain.services.publish import Publisher, StreamSummary
from domain.settings import ClientSettings
from entrypoints.container import ClientContainer
from entrypoints.options import settings_options
from entrypoints.terminal import StreamView, clock_time


@click.command()
@settings_options(ClientSettings)
def stream(settings: ClientSettings) -> None:
    """Stream a microphone (or a file, or a tone) to a server.

    Streams until Ctrl-C, the end of the file, or --duration. What was captured is sent before
    it ends.

    \b
    Examples:
      gapless stream --server http://192.168.1.20:8080 --token SECRET
      gapless stream --device "USB Microphone" --name desk --duration 3600
      gapless stream --capture file --input talk.flac
      gapless stream --capture tone --duration 10
    """
    summary = asyncio.run(_stream(settings))
    click.echo(f"done: {clock_time(summary.seconds)} streamed")
    if summary.overrun_s:
        click.echo(
            f"{summary.overrun_s:.1f} s could not be taken from the device in time and are silent"
        )


async def _stream(settings: ClientSettings) -> StreamSummary:
    view = StreamView(server=settings.server)
    container = ClientContainer(settings=settings, observer=view)
    source = await container.capture().open(container.capture_request())
    publisher: Publisher = container.publisher(
        source=source, resampler=container.resampler(source.format)
    )
    running = asyncio.ensure_future(publisher.run())

    def interrupt() -> None:
        if publisher.streaming:
            publisher.stop()
        else:
            running.cancel()

    for signal_number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(signal_number, interrupt)
    try:
        return await running
    except asyncio.CancelledError:
        raise ConnectionFailed("stopped before the connection was made") from None
    finally:
        view.close()
