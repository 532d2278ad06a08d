"""The `gapless` command."""

from __future__ import annotations

from typing import Any

import click

from domain.errors import GaplessError
from entrypoints.commands.completion import completion
from entrypoints.commands.demo import demo
from entrypoints.commands.devices import devices
from entrypoints.commands.doctor import doctor
from entrypoints.commands.invite import invite
from entrypoints.commands.listen import listen
from entrypoints.commands.recordings import recordings
from entrypoints.commands.recover import recover
from entrypoints.commands.render import render
from entrypoints.commands.serve import serve
from entrypoints.commands.sessions import sessions
from entrypoints.commands.spool import spool
from entrypoints.commands.stream import stream
from entrypoints.commands.token import token
from entrypoints.commands.verify import verify_command
from entrypoints.exit_codes import exit_code_of
from entrypoints.terminal import log_to_terminal, printable
from entrypoints.version import VERSION


class _Failure(click.ClickException):
    """Ends the command with an error's message and its exit code, without a traceback."""

    def __init__(self, error: GaplessError) -> None:
        super().__init__(str(error))
        self.exit_code = exit_code_of(error)  # type: ignore[misc]

    def show(self, file: Any = None) -> None:
        click.echo(printable(f"gapless: {self.message}"), err=True)


class _Commands(click.Group):
    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except GaplessError as error:
            raise _Failure(error) from error


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION, prog_name="gapless")
def main() -> None:
    """Gapless records remote microphones without losing a sample.

    A client captures a microphone and streams it over WebRTC; a server writes recordings that
    are exactly as long as the time they cover.

    \b
    On the machine that records:
      gapless serve --host 0.0.0.0 --token-file FILE --recordings ~/recordings
    On the machine with the microphone:
      gapless devices
      gapless stream --server http://RECORDER:8080 --token-file FILE --name kitchen
    To find out what is wrong with either of them:
      gapless doctor --server http://RECORDER:8080 --token-file FILE
    To hear a session while it is recorded:
      gapless listen SESSION --server http://RECORDER:8080 --token-file FILE
    To send what was captured and the server does not have:
      gapless spool send
    To see what is recorded now, and to end it:
      gapless sessions list --watch
    To check how complete recordings are:
      gapless verify ~/recordings/*.wav
    To list and download the recordings of a server:
      gapless recordings list
    To decode recordings of `gapless serve --storage opus` to WAVs:
      gapless render ~/recordings/*.opus
    To let somebody record from elsewhere, with a link:
      gapless invite --server https://RECORDER:8080 --token-file FILE --name Ana --expires 2d
    To try everything on one machine:
      gapless demo

    Every option is also an environment variable (--port is GAPLESS_PORT) and a line in the TOML
    file named by --config (port = 8080). The command line overrides the environment, which
    overrides the file. A secret can also be the first line of a file (--token-file,
    GAPLESS_TOKEN_FILE). Exit codes: 0 done, 1 the work failed, 2 wrong usage.
    """
    log_to_terminal()


main.add_command(serve)
main.add_command(stream)
main.add_command(listen)
main.add_command(spool)
main.add_command(sessions)
main.add_command(token)
main.add_command(invite)
main.add_command(devices)
main.add_command(doctor)
main.add_command(completion)
main.add_command(demo)
main.add_command(verify_command)
main.add_command(recover)
main.add_command(recordings)
main.add_command(render)
