"""`gapless render`."""

from __future__ import annotations

import pathlib

import click

from domain.errors import InputUnreadable
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
    nothing is replaced. Faster than real time by some hundred times.

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
    for file in files:
        rendered = tools.render()(file, folder, tools.decoders())
        click.echo(f"{rendered.location}: {clock_time(rendered.seconds)}")
