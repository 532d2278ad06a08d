"""`gapless completion`."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

PROGRAM = "gapless"
VARIABLE = "_GAPLESS_COMPLETE"
"""Click answers the shell when this variable is set."""


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script that lets a shell complete commands and options.

    \b
    Examples:
      gapless completion bash >> ~/.bashrc
      gapless completion zsh >> ~/.zshrc
      gapless completion fish > ~/.config/fish/completions/gapless.fish
    """
    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(context.find_root().command, {}, PROGRAM, VARIABLE).source())
