"""`gapless render`."""

from __future__ import annotations

import pathlib
import sys

import click

from domain.errors import GaplessError, InputUnreadable
from entrypoints.container import ToolsContainer
from entrypoints.terminal import clock_time


@click.command()
@click.argument(
    "files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=pathlib.Path)
)
@click.option(
    "--output", "folder", metavar="DIR",
    type=click.Path(path_type=pathlib.Path, file_okay=False),
    help="Folder for the WAVs; without it they lie beside the files, as NAME-rendered.wav.",
)  # fmt: skip
def render(files: tuple[pathlib.Path, ...], folder: pathlib.Path | None) -> None:
    """Make WAVs from Opus recordings (gapless serve --storage opus).

    Decodes the packets, and rebuilds and conceals what was lost, as the server does when it
    stores WAVs: the samples and their ledger are the same. The Opus files stay as they are, and
    nothing is replaced. What cannot be rendered is told, and the others are. Faster than real time
    by some hundred times.

    \b
    Examples:
      gapless render ~/recordings/*.opus
      gapless render --output ~/wavs ~/recordings/*.opus
    """
    if folder is not None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputUnreadable(f"cannot write to {folder}: {error.strerror}") from error
    tools = ToolsContainer()
    exit_code = 0
    for file in files:
        try:
            rendered = tools.render()(file, folder, tools.decoders())
        except GaplessError as error:  # it is this file's, and others can be rendered
            click.echo(f"gapless: {error}", err=True)
            exit_code = max(exit_code, error.exit_code)
        else:
            click.echo(f"{rendered.location}: {clock_time(rendered.seconds)}")
    sys.exit(exit_code)
