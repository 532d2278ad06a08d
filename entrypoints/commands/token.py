"""`gapless token`: the signed tokens of a server."""

from __future__ import annotations

import datetime
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

import click

from entrypoints.asking import JSON_HELP, SERVER_SETTINGS, ApiClient, ask, understood
from entrypoints.client_settings import ClientSettings
from entrypoints.durations import Duration
from entrypoints.options import settings_options
from entrypoints.terminal import local_time, printable, table

_HEAD = ("ID", "SUB", "ROLE", "NAME", "ROOM", "EXPIRES", "STATE")


@click.group()
def token() -> None:
    """Issue, list and revoke tokens of a server.

    A token has one role: publish (to record), watch (to see sessions and recordings) or admin.
    One that publishes may be limited to a name, a room or one session. The server that is asked
    wants the token of an administrator, unless it wants none at all.

    \b
    Examples:
      gapless token new --role watch --sub transcription
      gapless token new --name Ana --room friday --expires 12h
      gapless token list
      gapless token revoke 1a2b3c4d5e6f7a8b
    """


@token.command("new")
@click.option(
    "--role",
    type=click.Choice(["publish", "watch", "admin"]),
    default="publish",
    show_default=True,
    help="What its bearer may do.",
)
@click.option("--sub", metavar="TEXT", help="What logs call its bearer; by default the name.")
@click.option("--name", metavar="TEXT", help="The only name that its sessions may have.")
@click.option("--room", metavar="TEXT", help="The only room that its sessions may be in.")
@click.option("--once", is_flag=True, help="It opens one session only.")
@click.option(
    "--expires",
    type=Duration(),
    metavar="TIME",
    help="How long it is valid: 90s, 30m, 12h, 2d, 1w. By default until it is revoked.",
)
@click.option("--json", "as_json", is_flag=True, help=JSON_HELP)
@settings_options(ClientSettings, only=SERVER_SETTINGS)
def new_command(
    settings: ClientSettings,
    *,
    role: str,
    sub: str | None,
    name: str | None,
    room: str | None,
    once: bool,
    expires: float | None,
    as_json: bool,
) -> None:
    """Issue a token, and print it. It is kept nowhere, so it cannot be shown again.

    \b
    Examples:
      gapless token new --role watch --sub transcription > token.txt
      gapless token new --name Ana --expires 12h --json
    """
    wanted = {
        "role": role, "sub": sub, "name": name, "room": room, "once": once, "expires_s": expires,
    }  # fmt: skip
    body = {field: value for field, value in wanted.items() if value is not None}
    issued = ask(settings, lambda api: api.post("/api/tokens", body))
    if as_json:
        click.echo(json.dumps(issued, indent=2))
        return
    with understood("a token"):
        text, end = issued["token"], issued["expires"]
        until = f"expires {local_time(end)}" if end else "does not expire"
        about = f"{issued['role']} token {issued['id']}, {until}"
    click.echo(printable(text))
    click.echo(printable(about), err=True)


@token.command("list")
@click.option("--json", "as_json", is_flag=True, help=JSON_HELP)
@settings_options(ClientSettings, only=SERVER_SETTINGS)
def list_command(settings: ClientSettings, *, as_json: bool) -> None:
    """List the tokens that were issued or revoked, the newest first; never their text.

    \b
    Examples:
      gapless token list
      gapless token list --json | jq -r '.tokens[].id'
    """
    found = ask(settings, _all_tokens)
    if as_json:
        click.echo(json.dumps({"tokens": found, "next": None}, indent=2))
    elif not found:
        click.echo("no tokens were issued")
    else:
        with understood("a list of tokens"):
            rows = [_HEAD, *map(_row, found)]
        for line in table(rows):
            click.echo(line)


@token.command("revoke")
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@settings_options(ClientSettings, only=SERVER_SETTINGS)
def revoke_command(settings: ClientSettings, *, ids: tuple[str, ...]) -> None:
    """Revoke tokens by their ids: at once, and for good.

    Sessions that they have opened go on. An id that the server has not issued is noted, too: a
    token of another issuer that has it is refused from now on.

    \b
    Examples:
      gapless token revoke 1a2b3c4d5e6f7a8b
    """

    async def revoke(api: ApiClient) -> None:
        found = await _all_tokens(api)
        with understood("a list of tokens"):
            known = {item["id"] for item in found}
        for token_id in ids:
            await api.delete(f"/api/tokens/{quote(token_id, safe='')}")
            note = "" if token_id in known else "; the server has not issued it itself"
            click.echo(printable(f"revoked {token_id}{note}"))

    ask(settings, revoke)


async def _all_tokens(api: ApiClient) -> list[dict[str, Any]]:
    return [item async for page in _pages(api) for item in page]


async def _pages(api: ApiClient) -> AsyncIterator[Sequence[dict[str, Any]]]:
    before = None
    while True:
        page = await api.get("/api/tokens", before=before)
        with understood("a list of tokens"):
            tokens, before = page["tokens"], page["next"]
        yield tokens
        if before is None:
            return


def _row(item: Mapping[str, Any]) -> tuple[str, ...]:
    limits = (item["sub"], item["role"], item["name"], item["room"])
    expires = local_time(item["expires"]) if item["expires"] else "-"
    return (item["id"], *(text or "-" for text in limits), expires, _state(item))


def _state(item: Mapping[str, Any]) -> str:
    if item["revoked"]:
        return "revoked"
    if item["used"]:
        return "used"
    if item["expires"] and datetime.datetime.fromisoformat(item["expires"]) <= _now():
        return "expired"
    return "once" if item["once"] else "valid"


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
