"""`gapless recover`."""

from __future__ import annotations

import sys

import click

from entrypoints.container import ToolsContainer
from entrypoints.server_view import ServerView


@click.command()
@click.argument("folder", metavar="DIR")
def recover(folder: str) -> None:
    """Complete the recordings that a killed server has left in DIR.

    Every NAME.wav.part becomes a valid NAME.wav, and every NAME.opus.part becomes a valid
    NAME.opus, each with its ledger. Nothing is overwritten. Only unfinished output of `gapless
    render` is deleted. Recordings that a running server is writing are left alone. Running the
    command again changes nothing. `gapless serve` also recovers recordings when it starts.

    \b
    Example:
      gapless recover ~/recordings
    """
    found = ToolsContainer().recovery().recover(folder)
    view = ServerView()
    for event in found.events():
        view.handle(event)
    if not (found.recovered or found.failed or found.busy):
        click.echo("nothing to recover")
    if found.failed:
        sys.exit(1)
