"""`gapless spool`: what was captured, and the server does not have yet."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import click

from domain.errors import SettingInvalid, SpoolFailed
from domain.events.client import (
    OwedSpoolKept,
)
from domain.ports.events import EventPublisher
from domain.ports.spool import Spool, SpoolEntry
from entrypoints.client_settings import ClientSettings
from entrypoints.config import resolve
from entrypoints.container import ClientContainer
from entrypoints.spool_view import SpoolView, size_text
from entrypoints.subscribers import NO_EVENTS, events_for
from entrypoints.terminal import full_time, printable, table

F = TypeVar("F", bound=Callable[..., Any])


def _folder_options(command: F) -> F:
    folder = click.option(
        "--spool",
        metavar="DIR",
        help="Folder of the spools; by default in the user's state folder.",
    )
    config = click.option("--config", metavar="FILE", help="TOML file with settings.")
    return config(folder(command))


@click.group(invoke_without_command=True)
@_folder_options
@click.pass_context
def spool(context: click.Context, spool: str | None, config: str | None) -> None:
    """Show and send the captured sound that a server does not have yet.

    `gapless stream` keeps what it captures on this machine until the server has it. What is left
    when it ends, or is killed, is sent by the next `gapless stream` to the same server, or by
    `gapless spool send`. Without a command, the spools are listed.

    \b
    Examples:
      gapless spool
      gapless spool send
      gapless spool send --spool /media/stick/spool --server http://192.168.1.20:8080
      gapless spool export 20260320T120000Z-1a2b3c4d talk.wav
    """
    given = {"spool": spool, "config": config}
    if context.invoked_subcommand is None:
        context.invoke(list_command, **given)
    else:
        context.default_map = {context.invoked_subcommand: given}


@spool.command("list")
@_folder_options
@click.option("--json", "as_json", is_flag=True, help="Print a list of JSON objects.")
def list_command(
    spool: str | None = None, config: str | None = None, *, as_json: bool = False
) -> None:
    """List the spools, oldest first.

    A spool is owed to its server, or in use by a process that captures or sends it.

    \b
    Examples:
      gapless spool list
      gapless spool list --spool /media/stick/spool --json
    """
    container = _container(_settings(config, spool=spool))
    entries = asyncio.run(container.all_spools().entries())
    if as_json:
        click.echo(json.dumps([_as_json(entry) for entry in entries], indent=2))
    elif not entries:
        click.echo("nothing is owed to any server")
    else:
        _print_table(entries)


@spool.command()
@_folder_options
@click.option("--server", metavar="URL", help="Server that gets the sound; by default its own.")
@click.option("--token", metavar="TEXT", help="Token to send to the server.")
@click.option("--token-file", metavar="FILE", help="File whose first line is --token.")
@click.option(
    "--fingerprint", metavar="TEXT", help="SHA-256 fingerprint of the certificate of --server."
)
@click.argument("ids", metavar="[ID]...", nargs=-1)
def send(
    ids: tuple[str, ...],
    spool: str | None,
    server: str | None,
    token: str | None,
    token_file: str | None,
    fingerprint: str | None,
    config: str | None,
) -> None:
    """Send what servers do not have yet: all spools, or those with an ID.

    The recordings get what they lack, and each spool is deleted when its server has confirmed
    that. A spool whose session the server does not know becomes a recording of its own; that needs
    the server's token. A command that was stopped goes on where it was.

    \b
    Examples:
      gapless spool send
      gapless spool send 20260320T120000Z-1a2b3c4d
      gapless spool send --spool /media/stick/spool --server http://192.168.1.20:8080
    """
    settings = _settings(
        config, spool=spool, token=token, token_file=token_file, server=server,
        fingerprint=fingerprint,
    )  # fmt: skip
    view = SpoolView()
    try:
        with events_for(view) as events:
            sending = _send(settings, ids, events, to=server, is_own=spool is None)
            is_complete = asyncio.run(sending)
    finally:
        view.close()
    if not is_complete:
        sys.exit(1)


@spool.command()
@_folder_options
@click.argument("spool_id", metavar="ID")
@click.argument("file", metavar="[FILE.wav]", required=False)
def export(spool_id: str, file: str | None, spool: str | None, config: str | None) -> None:
    """Write a spool to a WAV file, as it was captured; ID.wav by default.

    What the device itself has lost is silence. The spool stays.

    \b
    Example:
      gapless spool export 20260320T120000Z-1a2b3c4d talk.wav
    """
    asyncio.run(_export(_settings(config, spool=spool), spool_id, file))


def _settings(config: str | None, **given: str | None) -> ClientSettings:
    return resolve(ClientSettings, command_line=given, environ=os.environ, config_file=config)


def _container(settings: ClientSettings, events: EventPublisher = NO_EVENTS) -> ClientContainer:
    return ClientContainer(settings=settings, events=events)


async def _send(
    settings: ClientSettings,
    ids: Collection[str],
    events: EventPublisher,
    *,
    to: str | None,
    is_own: bool,
) -> bool:
    """Send spools, each `to` a server or to its own; return whether all are delivered.

    The spools of a folder that is not the user's own (`is_own`) may name any server: the token goes
    to those only that the user has named. A fingerprint is that of the server in the settings.
    """
    is_complete = True
    async with _chosen(settings, ids) as spools:
        if not spools:
            click.echo("nothing is owed to any server")
        for server, group in _by_server(spools, to).items():
            try:
                is_named = is_own or to is not None or server == settings.server
                token = settings.token if is_named else None
                pinned = settings.fingerprint if server == settings.server else None
                container = _container(
                    replace(settings, server=server, token=token, fingerprint=pinned), events
                )
            except SettingInvalid:  # the file may come from anywhere
                for item in group:
                    reason = "it does not say to which server it belongs (--server)"
                    events.publish(OwedSpoolKept(item.description.id, reason))
                is_complete = False
            else:
                is_complete &= await container.owed_spools().deliver(group)
    return is_complete


def _by_server(spools: Iterable[Spool], to: str | None) -> dict[str, list[Spool]]:
    groups: dict[str, list[Spool]] = {}
    for item in spools:
        noted = item.description.server if item.session is None else item.session.server
        groups.setdefault(noted if to is None else to, []).append(item)
    return groups


async def _export(settings: ClientSettings, spool_id: str, file: str | None) -> None:
    async with _chosen(settings, [spool_id]) as spools:
        (found,) = spools
        target = file or f"{found.description.id}.wav"
        await found.export(target)
        rate_hz = found.description.format.sample_rate_hz
        click.echo(printable(f"{target}: {full_time(found.length / rate_hz)}"))


@contextlib.asynccontextmanager
async def _chosen(settings: ClientSettings, ids: Collection[str]) -> AsyncIterator[Sequence[Spool]]:
    """Use the spools with these ids, or all of them if there is none; release them afterwards."""
    folder = _container(settings).all_spools()
    spools = await folder.owed()
    try:
        known = {item.description.id for item in spools}
        for wanted in ids:
            if wanted not in known:
                used = {entry.description.id for entry in await folder.entries()}
                problem = "is in use" if wanted in used else "is not there; see `gapless spool`"
                raise SpoolFailed(f"the spool {wanted} {problem}")
        for item in spools:
            if ids and item.description.id not in ids:
                await item.release()
        yield [item for item in spools if not ids or item.description.id in ids]
    finally:
        for item in spools:
            await item.release()


def _as_json(entry: SpoolEntry) -> dict[str, Any]:
    description = entry.description
    return {
        "id": description.id,
        "name": description.name,
        "started_at": description.started_at.isoformat(),
        "seconds": entry.length / description.format.sample_rate_hz,
        **description.format.as_json(),
        "server": entry.server,
        "state": _state(entry),
        "bytes": entry.size_bytes,
    }


def _state(entry: SpoolEntry) -> str:
    return "in use" if entry.is_in_use else "owed"


def _print_table(entries: Sequence[SpoolEntry]) -> None:
    rows = [("ID", "NAME", "LENGTH", "FORMAT", "SERVER", "STATE", "SIZE")]
    for entry in entries:
        description = entry.description
        seconds = entry.length / description.format.sample_rate_hz
        rows.append(
            (
                description.id, description.name, full_time(seconds), str(description.format),
                entry.server, _state(entry), size_text(entry.size_bytes),
            )
        )  # fmt: skip
    for line in table(rows, right={2, 6}):
        click.echo(line)
