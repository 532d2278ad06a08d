"""`gapless invite`: a link with which somebody can record."""

from __future__ import annotations

import io
import json
import sys
from urllib.parse import urlsplit

import click
import segno

from domain.session.addresses import is_loopback
from entrypoints.asking import JSON_HELP, SERVER_SETTINGS, ask, understood
from entrypoints.client_settings import ClientSettings
from entrypoints.durations import Duration
from entrypoints.options import settings_options
from entrypoints.terminal import local_time, printable


@click.command()
@click.option("--name", metavar="TEXT", help="Name of the guest, and of the recordings.")
@click.option("--room", metavar="TEXT", help="Room of the guest.")
@click.option("--once", is_flag=True, help="The link opens one session only.")
@click.option(
    "--expires",
    type=Duration(),
    metavar="TIME",
    help="How long the link is valid: 90s, 30m, 12h, 2d, 1w.  [default: 1w]",
)
@click.option("--json", "as_json", is_flag=True, help=JSON_HELP)
@settings_options(ClientSettings, only=SERVER_SETTINGS)
def invite(
    settings: ClientSettings,
    *,
    name: str | None,
    room: str | None,
    once: bool,
    expires: float | None,
    as_json: bool,
) -> None:
    """Make a link with which somebody can record on a server, and nothing else.

    The token is in the link's fragment, which browsers send to nobody: it is in no log. On a
    terminal a QR code is printed, too. The link leads to the address of --server, so that has to
    be one that the guest can reach. `gapless token revoke` makes the link useless.

    \b
    Examples:
      gapless invite --server https://recorder.example.org --name Ana --room friday --expires 2d
    """
    wanted = {"name": name, "room": room, "once": once, "expires_s": expires}
    body = {field: value for field, value in wanted.items() if value is not None}
    made = ask(settings, lambda api: api.post("/api/invitations", body))
    if as_json:
        click.echo(json.dumps(made, indent=2))
        return
    with understood("a link"):
        url = printable(made["url"])
        about = f"token {made['id']}, expires {local_time(made['expires'])}"
    if sys.stdout.isatty() and (code := _qr_code(url)):
        click.echo(code)
    click.echo(url)
    click.echo(printable(about), err=True)
    if is_loopback(urlsplit(url).hostname or ""):
        warning = "this link works on this machine only: name the server's address with --server"
        click.echo(warning, err=True)


def _qr_code(text: str) -> str:
    """Draw a QR code; return nothing if the text is too long for one."""
    drawn = io.StringIO()
    # a token fills the code; a terminal damages nothing of it, so the lowest level will do
    try:
        segno.make_qr(text, error="l").terminal(out=drawn, border=2, compact=True)
    except segno.DataOverflowError:
        return ""
    return drawn.getvalue().rstrip("\n")
