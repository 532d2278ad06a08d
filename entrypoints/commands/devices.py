"""`gapless devices`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import click

from domain.errors import CaptureError
from domain.ports.capture import CaptureBackend, InputDevice
from entrypoints.client_settings import ClientSettings
from entrypoints.container import ClientContainer
from entrypoints.options import settings_options
from entrypoints.subscribers import NO_EVENTS
from entrypoints.terminal import printable, table


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print a list of JSON objects.")
@settings_options(ClientSettings, only=["capture"])
def devices(settings: ClientSettings, *, as_json: bool) -> None:
    """List the input devices, and the sample rates that work.

    Pass the number or the name of a device to `gapless stream --device`. Part of the name is
    enough if it fits only one device. The default device is marked with *. A device that another
    program uses may show no rates.

    \b
    Examples:
      gapless devices
      gapless devices --capture pyaudio
      gapless devices --json
    """
    container = ClientContainer(settings=settings, events=NO_EVENTS)
    backend = container.capture()
    found = [(device, _rates(backend, device)) for device in backend.devices()]
    if as_json:
        click.echo(json.dumps([_as_json(*item) for item in found], indent=2))
    elif not found:
        click.echo("no input devices found")
    else:
        for line in table([("", "NUMBER", "NAME", "CHANNELS", "DEFAULT", "RATES"), *_rows(found)]):
            click.echo(line)


def _rates(backend: CaptureBackend, device: InputDevice) -> Sequence[int] | None:
    """Return the rates that work; None if the driver does not say."""
    try:
        return backend.rates(device)
    except CaptureError as error:
        click.echo(printable(f"gapless: {device.name}: {error}"), err=True)
        return None


def _rows(
    found: Iterable[tuple[InputDevice, Sequence[int] | None]],
) -> Iterable[tuple[str, ...]]:
    for device, rates in found:
        yield (
            "*" if device.is_default else "",
            str(device.index),
            device.name,
            str(device.channels),
            f"{device.default_rate_hz} Hz",
            "?" if rates is None else ", ".join(map(str, rates)) or "none",
        )


def _as_json(device: InputDevice, rates: Sequence[int] | None) -> dict[str, Any]:
    return {
        "index": device.index,
        "name": device.name,
        "channels": device.channels,
        "default_rate_hz": device.default_rate_hz,
        "is_default": device.is_default,
        "rates_hz": rates,
        "host_api": device.host_api,
        "port": device.port,
        "serial": device.serial,
    }
