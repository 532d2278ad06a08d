"""`gapless stream`."""

from __future__ import annotations

import asyncio

import click

from domain.errors import ConnectionFailed, GaplessError, SoundKept
from domain.services.client.publisher import Publisher
from entrypoints.client_settings import ClientSettings
from entrypoints.container import ClientContainer
from entrypoints.options import settings_options
from entrypoints.serving import at_signals
from entrypoints.stream_view import StreamView
from entrypoints.subscribers import events_for
from entrypoints.terminal import full_time


@click.command()
@settings_options(ClientSettings)
def stream(settings: ClientSettings) -> None:
    """Stream a microphone (or a file, or a tone) to a server.

    Streams until Ctrl-C, SIGTERM or SIGHUP, the end of the file, or --duration. All captured sound
    is sent before the command ends. Waits for a server that is not available yet. If the connection
    is lost, the client reconnects and the same recording continues.

    What is captured is also kept on this machine (--spool), from the first sample on, until the
    server has it. The server gets from there what the connection has lost. What it has not got when
    the command ends is sent by the next `gapless stream`, or by `gapless spool send`.

    \b
    Examples:
      gapless stream --server http://192.168.1.20:8080 --token-file FILE
      gapless stream --server https://192.168.1.20:8080 --token-file FILE --fingerprint AA:BB:...
      gapless stream --device "USB Microphone" --name desk --duration 3600
      gapless stream --capture file --input talk.flac
      gapless stream --capture tone --duration 10
    """
    view = StreamView(server=settings.server, is_quiet=settings.quiet)
    try:
        with events_for(view) as events:
            container = ClientContainer(
                settings=settings, events=events, progress_interval_s=view.progress_interval_s
            )
            publisher = container.publisher()
            try:
                asyncio.run(_stream(publisher))
            except GaplessError as error:
                if publisher.kept_s is None:
                    raise
                raise SoundKept(
                    f"{error}; {full_time(publisher.kept_s)} of captured sound are kept in "
                    f"{container.spool_folder()}, and `gapless spool send` sends them"
                ) from error
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

    def hang_up() -> None:
        if not stopping:  # shells and the kernel may both send SIGHUP when a terminal closes
            interrupt()

    at_signals(interrupt, at_hang_up=hang_up)
    try:
        await running
    except asyncio.CancelledError:
        if publisher.is_delivered:
            return  # what earlier runs have left is sent by the next one
        when = "the recording was complete" if stopping else "the connection was made"
        raise ConnectionFailed(f"stopped before {when}") from None
