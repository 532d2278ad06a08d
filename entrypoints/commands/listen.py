"""`gapless listen`."""

from __future__ import annotations

import asyncio

import click

from domain.ports.tap import Missed, TapStart
from domain.services.client.listening import play
from domain.sound.formats import AudioFormat
from entrypoints.asking import SERVER_SETTINGS, ApiClient, ask
from entrypoints.asking import listen as listen_to
from entrypoints.client_builders import build_output
from entrypoints.client_settings import ClientSettings
from entrypoints.options import settings_options
from entrypoints.serving import at_signals
from entrypoints.terminal import clock_time, printable


@click.command()
@click.argument("session")
@click.option(
    "--track", type=click.IntRange(1, 999), default=1, show_default=True, metavar="NUMBER",
    help="Which track of the session.",
)  # fmt: skip
@click.option(
    "--from", "begin", type=click.Choice(["now", "start"]), default="now", show_default=True,
    help="Begin now, or with the oldest sound in the server's memory: some seconds ago, if "
    "somebody was listening then.",
)  # fmt: skip
@click.option(
    "--output", metavar="FILE",
    help="Write a WAV file in place of playing; - writes the samples to stdout (16 bits, little "
    "endian).",
)  # fmt: skip
@settings_options(ClientSettings, only=SERVER_SETTINGS)
def listen(
    settings: ClientSettings, session: str, track: int, begin: str, output: str | None
) -> None:
    """Hear a session while it is recorded, until it ends or Ctrl-C is pressed.

    The sound is that of the recording, about a second later than it was captured. A file is as long
    as the time it covers: gaps are silence. If this machine is too slow, it misses sound and says
    how much; the recording does not.

    \b
    Examples:
      gapless listen 1a2b3c4d5e6f7081 --server http://192.168.1.20:8080 --token-file FILE
      gapless listen 1a2b3c4d5e6f7081 --from start --output meeting.wav
      gapless listen 1a2b3c4d5e6f7081 --output - | aplay -t raw -f S16_LE -r 48000
    """
    begun: list[TapStart] = []

    def notice(item: TapStart | Missed) -> None:
        if isinstance(item, TapStart):
            begun.append(item)
            audio_format = AudioFormat(item.sample_rate_hz, item.channels)
            since = clock_time(item.position / item.sample_rate_hz)
            text = f"listening to {item.session_id} from {since} on: {audio_format}"
        else:
            rate_hz = begun[0].sample_rate_hz
            since = clock_time(item.position / rate_hz)
            text = f"missed {item.length / rate_hz:.1f} s from {since} on: too slow"
        click.echo(printable(text), err=True)

    async def hear(api: ApiClient) -> None:
        sound = listen_to(api, session, track=track, from_start=begin == "start")
        playing = asyncio.ensure_future(play(sound, build_output(output), notice=notice))
        was_stopped = False

        def stop() -> None:
            nonlocal was_stopped
            was_stopped = True
            playing.cancel()

        at_signals(stop)
        try:
            reason = await playing
        except asyncio.CancelledError:
            if not was_stopped:
                raise
        else:
            if reason is not None:
                click.echo(f"the session has ended ({reason.value})", err=True)
        finally:
            await sound.aclose()

    ask(settings, hear)
