"""What a person sees: a live line on a terminal, plain lines in a pipe."""

from __future__ import annotations

import contextlib
import io
import logging
import shutil
import sys

import click

from domain.ports.observers import StreamProgress
from domain.ports.storage import Recovery
from domain.recording.recording import EndReason
from domain.session.session import SessionState
from domain.sound.formats import AudioFormat
from domain.sound.levels import FLOOR_DBFS

_METER_WIDTH = 24
_REDRAW_S = 0.1  # the pace at which an eye follows a meter
_PLAIN_S = 5.0


def clock_time(seconds: float) -> str:
    """``1:02:03.4``, hours only where there are any."""
    minutes, rest = divmod(round(seconds, 1), 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours}:{minutes:02d}:{rest:04.1f}" if hours else f"{minutes:02d}:{rest:04.1f}"


def meter(rms_dbfs: float, peak_dbfs: float) -> str:
    """A bar for the RMS with a mark at the peak, from -60 to 0 dBFS."""

    def column(level: float) -> int:
        return max(0, min(_METER_WIDTH, round((level + 60) / 60 * _METER_WIDTH)))

    cells = ["█"] * column(rms_dbfs) + ["·"] * (_METER_WIDTH - column(rms_dbfs))
    if peak_dbfs > FLOOR_DBFS:
        cells[max(0, column(peak_dbfs) - 1)] = "▌"
    return "".join(cells)


class StreamView:
    """Shows what a client does."""

    def __init__(self, *, server: str) -> None:
        self._server = server
        self._live = sys.stdout.isatty()
        self.progress_s = _REDRAW_S if self._live else _PLAIN_S
        self._state = ""

    def connecting(self) -> None:
        self._say(f"connecting to {self._server}")

    def connected(self, session_id: str) -> None:
        self._say(f"connected, session {session_id}; streaming (Ctrl-C to stop)")

    def waiting(self, reason: str, retry_in_s: float) -> None:
        self._say(f"{reason}; trying again in {retry_in_s:.1f} s")

    def interrupted(self) -> None:
        self._say("the server is not heard of any more; looking for a way back to it")

    def resumed(self, after_s: float) -> None:
        self._say(f"back after {after_s:.1f} s, in the same recording")

    def device_lost(self, reason: str) -> None:
        self._say(f"{reason}; silent until it is back")

    def device_back(self, after_s: float) -> None:
        self._say(f"the device is back after {after_s:.1f} s")

    def progressed(self, progress: StreamProgress) -> None:
        levels = progress.levels
        trouble = f"  {progress.lost_s:.1f} s lost" if progress.lost_s else ""
        trouble += "  clipping" if levels.clipped else ""
        if self._live:
            self._draw(
                f"{clock_time(progress.seconds)}  {meter(levels.rms_dbfs, levels.peak_dbfs)} "
                f"{levels.peak_dbfs:6.1f} dBFS{trouble}"
            )
        else:
            at = clock_time(progress.seconds)
            self._say(f"{at} streamed, peak {levels.peak_dbfs:.1f} dBFS{trouble}")

    def finishing(self) -> None:
        self._say("sending the rest")

    def close(self) -> None:
        """Leave the cursor on a line of its own."""
        if self._live and self._state:
            _print("")

    def _draw(self, line: str) -> None:
        width = shutil.get_terminal_size().columns - 1
        _print(f"\r\x1b[2K{line[:width]}", nl=False)
        self._state = line

    def _say(self, line: str) -> None:
        if self._live and self._state:
            _print("\r\x1b[2K", nl=False)
            self._state = ""
        _print(line)


class ServerView:
    """Shows what a server does, a line for each event."""

    def session_opened(self, session_id: str, name: str) -> None:
        # the name is a stranger's text: what a terminal could take for commands is left out
        shown = "".join(character for character in name if character.isprintable())
        self._say(f"{session_id}  session opened" + (f" by {shown!r}" if shown else ""))

    def session_changed(self, session_id: str, state: SessionState) -> None:
        if state is SessionState.SILENT:
            self._say(f"{session_id}  connected, but no packets come in")
        elif state is SessionState.RECORDING:
            self._say(f"{session_id}  packets are coming in")

    def session_resumed(self, session_id: str, attempt: int) -> None:
        self._say(f"{session_id}  the client is back, with connection {attempt}")

    def recording_started(self, session_id: str, audio_format: AudioFormat) -> None:
        self._say(f"{session_id}  recording, {audio_format}")

    def recording_finished(self, session_id: str, location: str, seconds: float) -> None:
        self._say(f"{session_id}  recorded {clock_time(seconds)} to {location}")

    def session_ended(self, session_id: str, reason: EndReason) -> None:
        self._say(f"{session_id}  session ended: {reason.value}")

    def failed(self, session_id: str, error: Exception) -> None:
        self._say(f"{session_id}  failed: {error}", err=True)

    def _say(self, line: str, *, err: bool = False) -> None:
        _print(line, err=err)


def _print(text: str, *, nl: bool = True, err: bool = False) -> None:
    # whoever read this is gone: recordings go on all the same
    with contextlib.suppress(OSError):
        click.echo(text, nl=nl, err=err)


def show_recovery(found: Recovery) -> None:
    """What became of recordings that nobody had finished; nothing when there were none."""
    for recording in found.recovered:
        click.echo(f"recovered {clock_time(recording.seconds)} in {recording.location}")
    for interrupted in found.interrupted:
        seconds = interrupted.length / interrupted.info.format.sample_rate_hz
        click.echo(f"waiting for the client of {interrupted.info.name} ({clock_time(seconds)})")
    for location in found.busy:
        click.echo(f"still being written: {location}")
    for error in found.failed:
        click.echo(f"gapless: {error}", err=True)


def log_to_terminal() -> None:
    """Warnings and worse go to stderr, a line each; what a terminal cannot show is shown as "?"."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    logging.basicConfig(level=logging.WARNING, format="gapless: %(levelname)s: %(message)s")
