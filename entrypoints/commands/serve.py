"""`gapless serve`."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import sys

import click

from domain.events.server import (
    ServerStarted,
    ShutdownStarted,
)
from domain.ports.events import EventPublisher
from entrypoints import file_limit
from entrypoints.builders import needs_passphrase
from entrypoints.certificates import urls_in_network, with_certificate
from entrypoints.options import settings_options
from entrypoints.server_view import ServerView
from entrypoints.service_manager import ServiceManager
from entrypoints.serving import at_signals, make_container, serve_here
from entrypoints.settings import ServerSettings
from entrypoints.subscribers import EventHub, audited, events_for
from entrypoints.workers import serve_with_workers


@click.command()
@settings_options(ServerSettings)
def serve(settings: ServerSettings) -> None:
    """Receive streams and record them.

    Listens for clients: `gapless stream`, WHIP publishers at /whip, or any program that can POST
    an offer. Writes a WAV for each track, or with --storage opus a file of undecoded packets.
    Ctrl-C, SIGTERM or SIGHUP completes all recordings and ends the server. Recordings of a server
    that was killed are resumed when their clients reconnect; otherwise they are completed.

    \b
    Examples:
      gapless serve
      gapless serve --host 0.0.0.0 --token-file FILE --recordings ~/recordings
      gapless serve --host 0.0.0.0 --token-file FILE --tls self-signed
      gapless serve --host 0.0.0.0 --token-file FILE --tls-cert cert.pem --tls-key key.pem
      gapless serve --host 0.0.0.0 --token-file FILE --udp-port 9000
      gapless serve --workers 4
      GAPLESS_INACTIVITY_TIMEOUT_S=10 gapless serve --config gapless.toml
    """
    file_limit.raise_limit()
    file_limit.warn_if_short(settings)
    settings, fingerprint = with_certificate(_with_passphrase(settings))
    with (
        contextlib.closing(ServiceManager.of_environment()) as manager,
        events_for(
            ServerView(is_quiet=settings.quiet), hub := EventHub(), *audited(settings)
        ) as events,
    ):
        asyncio.run(_serve(settings, events, hub, manager, fingerprint))


def _with_passphrase(settings: ServerSettings) -> ServerSettings:
    """Ask for the passphrase of the key on the terminal, if it is needed and there is one.

    Done before the event loop runs, whose signal handlers would make Ctrl-C wait for the answer.
    """
    if not needs_passphrase(settings) or not sys.stdin.isatty():
        return settings  # the server says what is wrong
    text = f"Passphrase of {settings.tls_key}"
    return dataclasses.replace(
        settings, tls_passphrase=click.prompt(text, hide_input=True, err=True)
    )


async def _serve(
    settings: ServerSettings,
    events: EventPublisher,
    hub: EventHub,
    manager: ServiceManager,
    fingerprint: str | None,
) -> None:
    stop = asyncio.Event()

    def end() -> None:
        if not stop.is_set():
            stop.set()
            events.publish(ShutdownStarted())
            manager.stopping()

    def listening(url: str) -> None:
        urls = () if fingerprint is None else urls_in_network(settings, url)
        events.publish(ServerStarted(url, settings.workers, fingerprint, urls))
        manager.ready(f"listening on {url}")

    at_signals(end)
    if settings.workers == 1:
        container = make_container(settings, events, hub=hub)
        await serve_here(container, listening=listening, stop=stop, alive=manager.alive)
    else:
        await serve_with_workers(
            settings, events, listening=listening, stop=stop, alive=manager.alive
        )
