"""`gapless token`: the signed tokens of a server."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

import click

from entrypoints.asking import SERVER_SETTINGS, ApiClient, ask
from entrypoints.client_settings import ClientSettings
from entrypoints.durations import Duration
from entrypoints.options import settings_options
from entrypoints.terminal import printable

JSON_HELP = "Print the JSON of the server's answer."


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
    click.echo(issued["token"])
    until = f"expires {issued['expires']}" if issued["expires"] else "does not expire"
    click.echo(printable(f"{issued['role']} token {issued['id']}, {until}"), err=True)


@token.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print a list of JSON objects.")
@settings_options(ClientSettings, only=SERVER_SETTINGS)
def list_command(settings: ClientSettings, *, as_json: bool) -> None:
    """List the tokens that were issued or revoked, the newest first; never their text.

    \b
    Examples:
      gapless token list
      gapless token list --json
    """
    found = ask(settings, _all_tokens)
    if as_json:
        click.echo(json.dumps(found, indent=2))
    elif not found:
        click.echo("no tokens were issued")
    else:
        _print_table(found)


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
        known = {item["id"] for item in await _all_tokens(api)}
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
        yield page["tokens"]
        before = page["next"]
        if before is None:
            return


def _print_table(tokens: Sequence[Mapping[str, Any]]) -> None:
    rows = [("ID", "SUB", "ROLE", "NAME", "ROOM", "EXPIRES", "STATE")]
    for item in tokens:
        texts = (item["id"], item["sub"], item["role"], item["name"], item["room"], item["expires"])
        rows.append((*(printable(text or "-") for text in texts), _state(item)))  # type: ignore[arg-type]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        click.echo("  ".join(cells).rstrip())


def _state(item: Mapping[str, Any]) -> str:
    if item["revoked"]:
        return "revoked"
    if item["used"]:
        return "used"
    return "once" if item["once"] else "valid"
