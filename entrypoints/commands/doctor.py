"""`gapless doctor`."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator

import click

from domain.services.client.diagnosis import Finding, Level
from entrypoints.client_settings import ClientSettings
from entrypoints.container import ClientContainer
from entrypoints.doctor import SECONDS, ServerExamination, examine_device
from entrypoints.exit_codes import FAILED
from entrypoints.options import settings_options
from entrypoints.subscribers import NO_EVENTS
from entrypoints.terminal import printable

_SETTINGS = (
    "server", "token", "fingerprint", "capture", "device", "input", "rate", "depth", "channels",
    "ice_servers", "ice_policy",
)  # fmt: skip


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
@click.option(
    "--seconds", type=click.FloatRange(1, 60), default=SECONDS, metavar="SECONDS",
    show_default=True, help="How long to listen, and to stream.",
)  # fmt: skip
@settings_options(ClientSettings, only=_SETTINGS)
def doctor(settings: ClientSettings, *, as_json: bool, seconds: float) -> None:
    """Check the microphone, and the way to the server.

    Captures for some seconds: speak, and be silent for a moment. Then streams a tone to the server
    for as long, compares the recording with it, and removes the recording, if the token may.
    Each line says whether something is wrong, and what to do about it. The exit code is 1 if there
    is a problem.

    \b
    Examples:
      gapless doctor
      gapless doctor --server https://192.168.1.20:8080 --token-file FILE --device "USB Microphone"
      gapless doctor --json
    """
    found = asyncio.run(_examine(settings, seconds, shows=not as_json))
    if as_json:
        problems = any(one.level is Level.PROBLEM for one in found)
        click.echo(
            json.dumps({"ok": not problems, "findings": [one.as_json() for one in found]}, indent=2)
        )
    if any(one.level is Level.PROBLEM for one in found):
        sys.exit(FAILED)


async def _examine(settings: ClientSettings, seconds: float, *, shows: bool) -> list[Finding]:
    """Make all checks, and show each finding at once if `shows`."""
    container = ClientContainer(settings=settings, events=NO_EVENTS)
    found: list[Finding] = []

    async def collect(findings: AsyncIterator[Finding], doing: str) -> None:
        if shows and sys.stderr.isatty():
            click.echo(f"{doing} for {seconds:g} s …", err=True)
        async for finding in findings:
            found.append(finding)
            if shows:
                _show(finding)

    device = examine_device(
        container.capture(), container.capture_request(), container.clock(), seconds=seconds
    )
    await collect(device, "listening to the microphone")
    api, signaling = container.api(), container.signaling()
    examination = ServerExamination(
        settings,
        api=api,
        signaling=signaling,
        transport=container.transport(),
        encoder=container.mono_encoder(),
        packetizer=container.packetizer(),
        clock=container.clock(),
        seconds=seconds,
    )
    try:
        await collect(examination.run(), "streaming to the server")
    finally:
        await signaling.close()
        await api.close()
    return found


def _show(finding: Finding) -> None:
    click.echo(printable(f"{finding.level.value:<8} {finding.check:<10} {finding.what}"))
    if finding.advice:
        click.echo(printable(f"{'':19} {finding.advice}"))
