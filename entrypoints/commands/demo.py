"""`gapless demo`: records speech from a client process in a server process on this machine."""

from __future__ import annotations

import importlib.resources
import os
import pathlib
import subprocess
import sys
from collections.abc import Sequence

import click
import numpy as np
import soundfile

from domain.errors import GaplessError
from domain.sound.comparison import Mono, compare
from entrypoints.config import ENVIRONMENT_PREFIX

_STOP_S = 10.0
_LISTENING = "listening on "
_MIN_CORRELATION = 0.90
_MAX_LEVEL_DB = 1.0
_MAX_LENGTH_S = 0.02


class _DemoFailed(GaplessError):
    """The demo did not end as it should."""


@click.command()
@click.option(
    "--recordings", metavar="DIR", default="demo-recordings", show_default=True,
    help="Folder for the recording.",
)  # fmt: skip
def demo(recordings: str) -> None:
    """Record ten seconds of speech on this machine, and compare.

    Starts a server on loopback and streams speech to it through the whole WebRTC stack (Opus, ICE,
    DTLS-SRTP). Then compares the recording with the speech that was sent.
    """
    with importlib.resources.as_file(
        importlib.resources.files("entrypoints") / "assets" / "speech.flac"
    ) as speech:
        recording = _record(speech, pathlib.Path(recordings))
        _report(speech, recording)


def _record(speech: pathlib.Path, folder: pathlib.Path) -> pathlib.Path:
    """Run a server and a client as processes; return the new recording."""
    server = _start("serve", "--port", "0", "--recordings", str(folder), stdout=subprocess.PIPE)
    try:
        address = _address_of(server)
        click.echo(f"server: listening on {address}")
        before = set(folder.glob("*.wav"))
        client = _start(
            "stream", "--server", address, "--capture", "file", "--input", str(speech),
            "--name", "demo",
        )  # fmt: skip
        if client.wait() != 0:
            raise _DemoFailed("the client failed")
    finally:
        server.terminate()
        output, _ = server.communicate(timeout=_STOP_S)
    for line in output.splitlines():
        click.echo(f"server: {line}")
    recorded = set(folder.glob("*.wav")) - before
    if not recorded:
        raise _DemoFailed(f"no recording appeared in {folder}")
    return max(
        recorded
    )  # the latest: the server may also have recovered one of an earlier demo that was killed


def _start(*arguments: str, stdout: int | None = None) -> subprocess.Popen[str]:
    # ignore the settings in this environment: they are meant for real servers
    environ = {
        key: value for key, value in os.environ.items() if not key.startswith(ENVIRONMENT_PREFIX)
    }
    return subprocess.Popen(  # noqa: S603 (our own program)
        [sys.executable, "-m", "entrypoints", *arguments],
        env=environ | {"PYTHONUNBUFFERED": "1"},
        stdout=stdout,
        text=True,
    )


def _address_of(server: subprocess.Popen[str]) -> str:
    assert server.stdout is not None
    for line in server.stdout:  # lines about recovered recordings may come first
        if _LISTENING in line:
            return line.partition(_LISTENING)[2].split()[0]
    raise _DemoFailed("the server did not start")


def _report(speech: pathlib.Path, recording: pathlib.Path) -> None:
    sent, rate = _read(speech)
    received, received_rate = _read(recording)
    if not received.any():
        raise _DemoFailed(f"{recording} is silent")
    if received_rate != rate:
        raise _DemoFailed(f"recorded at {received_rate} Hz, sent at {rate} Hz")
    info = soundfile.info(str(recording))
    result = compare(sent, received, sample_rate_hz=rate)
    difference_s = (len(received) - len(sent)) / rate
    rows = [
        ("recording", str(recording.absolute())),
        ("format", f"WAV, {info.subtype_info}, {info.samplerate} Hz, {info.channels} channel(s)"),
        ("length", f"{len(received) / rate:.3f} s ({difference_s * 1000:+.1f} ms against sent)"),
        ("correlation", f"{result.correlation:.3f} after alignment (1 is the same shape)"),
        ("level", f"{result.level_difference_db:+.2f} dB against sent"),
        ("gaps", f"longest {result.longest_gap / rate * 1000:.0f} ms"),
    ]
    click.echo()
    _table(rows)
    good = (
        abs(difference_s) <= _MAX_LENGTH_S
        and result.correlation >= _MIN_CORRELATION
        and abs(result.level_difference_db) <= _MAX_LEVEL_DB
        and result.longest_gap == 0
    )
    if not good:
        raise _DemoFailed("the recording differs from what was sent")
    click.echo("\nWhat was sent is what was recorded.")


def _table(rows: Sequence[tuple[str, str]]) -> None:
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        click.echo(f"{name:<{width}}  {value}")


def _read(path: pathlib.Path) -> tuple[Mono, int]:
    samples, rate = soundfile.read(str(path), dtype="float64", always_2d=True)
    return np.asarray(samples.mean(axis=1)), rate
