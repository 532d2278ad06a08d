"""`gapless recover`."""

from __future__ import annotations

import pathlib
import sys

import click

from entrypoints.container import ToolsContainer
from entrypoints.terminal import show_recovery


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=pathlib.Path))
def recover(folder: pathlib.Path) -> None:
    """Complete the recordings that a server which died has left in DIR.

    Every NAME.wav.part becomes a NAME.wav that plays everywhere, and every NAME.opus.part a
    NAME.opus, each with its ledger. Nothing is overwritten, and nothing deleted but what `gapless
    render` did not come to the end of; what a running server is writing is left alone; doing it
    again changes nothing. `gapless serve` does the same when it starts.

    \b
    Example:
      gapless recover ~/recordings
    """
    found = ToolsContainer().recover()(folder)
    show_recovery(found)
    if not (found.recovered or found.failed or found.busy):
        click.echo("nothing to recover")
    if found.failed:
        sys.exit(1)
