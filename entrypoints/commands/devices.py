"""`gapless devices`."""

from __future__ import annotations

import click

from entrypoints.client_settings import ClientSettings
from entrypoints.container import ClientContainer
from entrypoints.options import settings_options
from entrypoints.subscribers import NO_EVENTS


@click.command()
@settings_options(ClientSettings, only=["capture"])
def devices(settings: ClientSettings) -> None:
    """List the input devices.

    Pass the number or the name of a device to `gapless stream --device`. Part of the name is
    enough if it fits only one device. The default device is marked with *.

    \b
    Examples:
      gapless devices
      gapless devices --capture pyaudio
    """
    container = ClientContainer(settings=settings, events=NO_EVENTS)
    found = container.capture().devices()
    if not found:
        click.echo("no input devices found")
    for device in found:
        mark = "*" if device.is_default else " "
        click.echo(
            f"{mark} {device.index:3d}  {device.name}  "
            f"({device.channels} channels, {device.default_rate_hz} Hz)"
        )
