"""`gapless sessions`: what a server records now."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from typing import Any
from urllib.parse import quote

import click

from domain.errors import ServerUnreachable
from entrypoints.asking import JSON_HELP, SERVER_SETTINGS, ApiClient, ask, understood
from entrypoints.client_settings import ClientSettings
from entrypoints.options import settings_options
from entrypoints.session_table import session_table
from entrypoints.terminal import cut, printable

_PATH = "/api/sessions"
_REDRAW_S = 1.0
_INCOMPLETE = "some workers of the server did not answer: their sessions are missing here"
_server = settings_options(ClientSettings, only=SERVER_SETTINGS)


@click.group()
def sessions() -> None:
    """List and end the sessions of a server, and send their speakers messages.

    The server is asked by its API, from any machine, with a token that has the role `watch`, or
    `admin` to end sessions and to send messages.

    \b
    Examples:
      gapless sessions list --watch
      gapless sessions message 3f9a1c0d12345678 "Closer to the microphone, please"
      gapless sessions end 3f9a1c0d12345678
    """


@sessions.command("list")
@click.option("--watch", is_flag=True, help="Show it again every second, until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help=JSON_HELP)
@_server
def list_command(settings: ClientSettings, watch: bool, as_json: bool) -> None:
    """List the sessions, oldest first.

    A line has the length of the recording, the peak of the latest second, the packets that were
    lost for good, and what the session waits for.

    \b
    Examples:
      gapless sessions list --server http://192.168.1.20:8080 --token-file FILE
      gapless sessions list --json | jq -r '.sessions[].id'
    """
    if watch:
        if as_json or not sys.stdout.isatty():
            raise click.UsageError("--watch draws on a terminal; ask again and again with --json")
        try:
            ask(settings, _watch)
        except KeyboardInterrupt:
            return
    found = ask(settings, _list)
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        click.echo("\n".join(_lines(found)))
        if not found["is_complete"]:
            click.echo(f"gapless: {_INCOMPLETE}", err=True)


@sessions.command()
@click.argument("session_ids", metavar="ID...", nargs=-1, required=True)
@_server
def end(settings: ClientSettings, session_ids: tuple[str, ...]) -> None:
    """End sessions; their recordings are complete when the command returns.

    \b
    Example:
      gapless sessions end 3f9a1c0d12345678
    """

    async def end_all(api: ApiClient) -> None:
        for session_id in session_ids:
            await api.delete(_path(session_id))
            click.echo(printable(f"ended {session_id}"))

    ask(settings, end_all)


@sessions.command()
@click.argument("session_id", metavar="ID")
@click.argument("text")
@click.option("--json", "as_json", is_flag=True, help=JSON_HELP)
@_server
def message(settings: ClientSettings, session_id: str, text: str, as_json: bool) -> None:
    """Show the speaker of a session a message, of one line.

    `gapless stream` prints it. A client that is away gets it when it is back.

    \b
    Example:
      gapless sessions message 3f9a1c0d12345678 "Five minutes left"
    """
    sent = ask(settings, lambda api: api.post(f"{_path(session_id)}/messages", {"text": text}))
    if as_json:
        click.echo(json.dumps(sent, indent=2))
        return
    with understood("how many clients listen"):
        is_heard = sent["listeners"] > 0
    click.echo("sent" if is_heard else "sent; no client of the session listens for messages now")


async def _watch(api: ApiClient) -> None:
    click.echo("\x1b[2J", nl=False)
    while True:
        try:
            found = await _list(api)
            lines = _lines(found)
            if not found["is_complete"]:
                lines.append(_INCOMPLETE)
        except ServerUnreachable as error:
            lines = [printable(f"gapless: {error}")]
        size = shutil.get_terminal_size()
        shown = [cut(line, size.columns) for line in lines[: size.lines - 1]]
        click.echo("\x1b[H" + "".join(f"{line}\x1b[K\n" for line in shown) + "\x1b[J", nl=False)
        await asyncio.sleep(_REDRAW_S)


async def _list(api: ApiClient) -> Any:
    found = await api.get(_PATH)
    with understood("a list of sessions"):
        session_table(found["sessions"])
        found["is_complete"]
        return found


def _lines(found: Any) -> list[str]:
    return session_table(found["sessions"]) if found["sessions"] else ["no sessions"]


def _path(session_id: str) -> str:
    return f"{_PATH}/{quote(session_id, safe='')}"
