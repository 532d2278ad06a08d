"""`gapless render`."""

from __future__ import annotations

import sys

import click

from domain.errors import GaplessError
from entrypoints.container import ToolsContainer
from entrypoints.exit_codes import exit_code_of
from entrypoints.terminal import clock_time, printable


@click.command()
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@click.option(
    "--output", "folder", metavar="DIR", type=click.Path(file_okay=False),
    help="Folder for the WAVs; by default they are written beside the files as NAME-rendered.wav.",
)  # fmt: skip
def render(files: tuple[str, ...], folder: str | None) -> None:
    """Decode Opus recordings (gapless serve --storage opus) to WAVs.

    Decodes the packets, and recovers and conceals losses, exactly as the server does when it
    stores WAVs: samples and ledger are the same. The Opus files are not changed, and no file is
    overwritten. If a file cannot be rendered, an error is shown and the next file is rendered.
    Rendering is some hundred times faster than real time.

    \b
    Examples:
      gapless render ~/recordings/*.opus
      gapless render --output ~/wavs ~/recordings/*.opus
    """
    renderer = ToolsContainer().renderer()
    if folder is not None:
        renderer.prepare(folder)
    exit_code = 0
    for file in files:
        try:
            rendered = renderer.render(file, folder)
        except GaplessError as error:  # go on with the other files
            click.echo(printable(f"gapless: {error}"), err=True)
            exit_code = max(exit_code, exit_code_of(error))
        else:
            click.echo(printable(f"{rendered.location}: {clock_time(rendered.seconds)}"))
    sys.exit(exit_code)
