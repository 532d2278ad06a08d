"""`gapless demo`: records speech from a client process in a server process on this machine."""

from __future__ import annotations

import hashlib
import importlib.resources
import os
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import click
import numpy as np
import soundfile

from domain.errors import GaplessError
from domain.recording.ledger import SampleKind
from domain.recording.verification import Limits, Verdict, verify
from domain.sound.comparison import Mono, compare
from entrypoints.config import ENVIRONMENT_PREFIX
from entrypoints.container import ToolsContainer
from entrypoints.lossy_network import lossy_network

_STOP_S = 10.0
_LISTENING = "listening on "
_MIN_CORRELATION = 0.90
_MAX_LEVEL_DB = 1.0
_MAX_LENGTH_S = 0.02
_SEED = 1


class _DemoFailed(GaplessError):
    """The demo did not end as it should."""


@click.command()
@click.option(
    "--recordings", metavar="DIR", default="demo-recordings", show_default=True,
    help="Folder for the recording.",
)  # fmt: skip
@click.option(
    "--loss", type=click.IntRange(0, 80), default=0, metavar="PERCENT",
    help="Lose this share of the packets, and restore the recording from what was captured.",
)  # fmt: skip
def demo(recordings: str, loss: int) -> None:
    """Record ten seconds of speech on this machine, and compare.

    Starts a server on loopback and streams speech to it through the whole WebRTC stack (Opus, ICE,
    DTLS-SRTP). Then compares the recording with the speech that was sent.

    With --loss, media packets are lost in both directions, those that are sent again, too. The
    client keeps what it captures, and the server fetches it. The recording is then what was
    captured, bit for bit.

    \b
    Examples:
      gapless demo
      gapless demo --loss 20
    """
    folder = pathlib.Path(recordings)
    with importlib.resources.as_file(
        importlib.resources.files("entrypoints") / "assets" / "speech.flac"
    ) as speech:
        if loss:
            _show_restoring(speech, folder, loss)
        else:
            _report(speech, _record(speech, folder))


def _record(speech: pathlib.Path, folder: pathlib.Path) -> pathlib.Path:
    """Run a server and a client as processes; return the new recording."""
    before = _recordings_in(folder)
    with _serving(folder) as address:
        _stream(speech, address, "--no-spool")
    return _new_recording(folder, before)


@contextmanager
def _serving(folder: pathlib.Path) -> Iterator[str]:
    """Run a server until the block is left; provide its address."""
    server = _start("serve", "--port", "0", "--recordings", str(folder), stdout=subprocess.PIPE)
    try:
        address = _address_of(server)
        click.echo(f"server: listening on {address}")
        yield address
    finally:
        server.terminate()
        output, _ = server.communicate(timeout=_STOP_S)
    for line in output.splitlines():
        click.echo(f"server: {line}")


def _stream(speech: pathlib.Path, address: str, *options: str) -> None:
    client = _start(
        "stream", "--server", address, "--capture", "file", "--input", str(speech),
        "--name", "demo", *options,
    )  # fmt: skip
    if client.wait() != 0:
        raise _DemoFailed("the client failed")


def _recordings_in(folder: pathlib.Path) -> set[pathlib.Path]:
    return set(folder.glob("*.wav"))


def _new_recording(folder: pathlib.Path, before: set[pathlib.Path]) -> pathlib.Path:
    recorded = _recordings_in(folder) - before
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


# -- over a network that loses packets -------------------------------------------------------


def _show_restoring(speech: pathlib.Path, folder: pathlib.Path, loss_percent: int) -> None:
    """Record speech over a network that loses packets; compare before and after restoring."""
    before, live = _recordings_in(folder), []

    def judge_live_recording() -> None:
        live.append(_judge(_new_recording(folder, before)))

    with (
        tempfile.TemporaryDirectory(prefix="gapless-demo-") as spool,
        _serving(folder) as address,
        lossy_network(
            address, loss=loss_percent / 100, seed=_SEED, at_end=judge_live_recording
        ) as network,
    ):
        _stream(speech, network.url, "--spool", spool, "--restore", "all")
    recording = _new_recording(folder, before)
    captured = hashlib.sha256(soundfile.read(str(speech), dtype="int16")[0].tobytes()).hexdigest()
    recorded = hashlib.sha256(soundfile.read(str(recording), dtype="int16")[0].tobytes())
    restored = _judge(recording, source=speech)
    source = restored.source
    if not live or source is None:
        raise _DemoFailed("the recording did not end")
    click.echo()
    _table(
        [
            ("recording", str(recording.absolute())),
            ("packets", f"{network.packets} sent, {network.lost} of them lost"),
            ("", "     live   restored"),
            *_kinds(live[0], restored),
            ("captured", f"sha256 {captured}"),
            ("recorded", f"sha256 {recorded.hexdigest()}"),
            ("equal", f"{source.equal} of {restored.length} samples"),
        ]
    )
    if not restored.ok or source.equal != restored.length or recorded.hexdigest() != captured:
        raise _DemoFailed("; ".join(["the recording is not what was captured", *restored.problems]))
    click.echo("\nWhat was captured is what was recorded, bit for bit.")


def _judge(recording: pathlib.Path, source: pathlib.Path | None = None) -> Verdict:
    inspector = ToolsContainer().inspector()
    facts = inspector.inspect(str(recording), None if source is None else str(source))
    return verify(facts, Limits())


def _kinds(live: Verdict, restored: Verdict) -> Iterator[tuple[str, str]]:
    """Return a row for each kind of samples that is in one of the two."""
    for kind in SampleKind:
        counts = live.samples[kind], restored.samples[kind]
        if any(counts):
            shares = live.samples[kind] / live.length, restored.samples[kind] / restored.length
            yield kind.value, f"{shares[0]:>9.3%}  {shares[1]:>9.3%}"
