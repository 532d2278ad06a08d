"""Shows what a client does: a live line on a terminal, plain lines in a pipe."""

from __future__ import annotations

import shutil
import sys

from domain.events import Event, EventsDropped
from domain.events.client import (
    CaptureStarted,
    LiveRecordingEnded,
    MessageReceived,
    MicrophoneLost,
    MicrophoneNotReopened,
    MicrophoneReturned,
    OwedSpoolDelivered,
    OwedSpoolKept,
    RetryScheduled,
    SoundCaptured,
    SoundSent,
    SourceEnded,
    SpoolDelivered,
    SpoolEnded,
    StreamConnected,
    StreamEnded,
    StreamInterrupted,
    StreamResumed,
)
from domain.recording.ledger import RestoreState
from domain.sound.levels import FLOOR_DBFS, Levels
from entrypoints.terminal import clock_time, full_time, printable, write

_METER_WIDTH = 24
_REDRAW_S = 0.1  # fast enough for the eye to follow the meter
_PLAIN_S = 5.0


def meter(rms_dbfs: float, peak_dbfs: float) -> str:
    """Draw the RMS as a bar with a mark at the peak, from -60 to 0 dBFS."""

    def column(level: float) -> int:
        return max(0, min(_METER_WIDTH, round((level + 60) / 60 * _METER_WIDTH)))

    cells = ["█"] * column(rms_dbfs) + ["·"] * (_METER_WIDTH - column(rms_dbfs))
    if peak_dbfs > FLOOR_DBFS:
        cells[max(0, column(peak_dbfs) - 1)] = "▌"
    return "".join(cells)


_TROUBLE = (
    EventsDropped,
    LiveRecordingEnded,
    MessageReceived,
    MicrophoneLost,
    MicrophoneNotReopened,
    MicrophoneReturned,
    OwedSpoolKept,
    RetryScheduled,
    SpoolEnded,
    StreamInterrupted,
    StreamResumed,
)
"""The events of which a quiet client tells; a message is for whoever speaks."""


class StreamView:
    """Shows the events of a client; if it `is_quiet`, only those of trouble, and no live line."""

    def __init__(self, *, server: str, is_quiet: bool = False) -> None:
        self._is_quiet = is_quiet
        self._server = server
        self._live = sys.stdout is not None and sys.stdout.isatty()
        self.progress_interval_s = _REDRAW_S if self._live else _PLAIN_S
        self._is_drawn = False

    def handle(self, event: Event) -> None:
        if self._is_quiet and not isinstance(event, _TROUBLE):
            if isinstance(event, StreamEnded):
                self._say_lost(event)
            return
        match event:
            case CaptureStarted():
                self._say(f"connecting to {self._server}")
            case StreamConnected(session_id):
                self._say(f"connected, session {session_id}; streaming (Ctrl-C to stop)")
            case RetryScheduled(reason, delay_s):
                self._say(f"{reason}; trying again in {delay_s:.1f} s")
            case StreamInterrupted():
                self._say("the server does not respond; trying to reconnect")
            case StreamResumed(outage_s):
                self._say(f"back after {outage_s:.1f} s, in the same recording")
            case MessageReceived(text):
                self._say(f"message: {text}")
            case MicrophoneLost(reason):
                self._say(f"{reason}; silent until it is back")
            case MicrophoneNotReopened(reason):
                self._say(f"the device is not opened yet: {reason}")
            case MicrophoneReturned(outage_s):
                self._say(f"the device is back after {outage_s:.1f} s")
            case SoundSent(seconds, levels, lost_s):
                self._show_progress(seconds, "streamed", levels, lost_s)
            case SoundCaptured(seconds, levels, lost_s):
                self._show_progress(seconds, "captured, not sent yet", levels, lost_s)
            case SpoolEnded(reason):
                self._say(f"captured sound is not kept on this machine any more: {reason}")
            case LiveRecordingEnded(reason):
                self._say(f"{reason}; capturing goes on, and the sound is kept and sent later")
            case SourceEnded():
                self._say("sending the rest")
            case StreamEnded():
                self._show_summary(event)
            case SpoolDelivered():
                self._show_delivery(event)
            case OwedSpoolDelivered(captured_s=captured_s):
                self._say(f"{full_time(captured_s)} of an earlier stream are on the server now")
            case OwedSpoolKept(reason=reason):
                self._say(f"sound of an earlier stream is not on the server yet: {reason}")
            case EventsDropped(count):
                self._say(f"{count} lines are missing here: the terminal was too slow")

    def close(self) -> None:
        """End the live line."""
        if self._is_drawn:
            write("\n")
            self._is_drawn = False

    def _show_summary(self, ended: StreamEnded) -> None:
        self.close()
        safe = "" if ended.safe_s is None else f", {clock_time(ended.safe_s)} safe on the server"
        self._say(f"done: {clock_time(ended.seconds)} streamed{safe}")
        self._say_lost(ended)

    def _say_lost(self, ended: StreamEnded) -> None:
        if ended.lost_s:
            self._say(f"{ended.lost_s:.1f} s were lost at the device and are silent")

    def _show_delivery(self, delivered: SpoolDelivered) -> None:
        captured = f"{full_time(delivered.captured_s)} captured"
        if delivered.state is RestoreState.OFF:
            self._say(f"{captured}; the server keeps what it has received, and wants no more")
        elif not delivered.is_all:
            self._say(f"{captured} and kept before the spool ended, all of that on the server")
        elif delivered.sha256 is None:
            self._say(f"{captured}, all of it on the server")
        else:
            same = f"sha256 {delivered.sha256}, the same on both ends"
            self._say(f"{captured}, all of it on the server, {same}")

    def _show_progress(self, seconds: float, how: str, levels: Levels, lost_s: float) -> None:
        trouble = f"  {lost_s:.1f} s lost" if lost_s else ""
        trouble += "  clipping" if levels.clipped else ""
        at = clock_time(seconds)
        if self._live:
            bar = meter(levels.rms_dbfs, levels.peak_dbfs)
            unusual = "" if how == "streamed" else f"  {how}"
            self._draw(f"{at}  {bar} {levels.peak_dbfs:6.1f} dBFS{trouble}{unusual}")
        else:
            self._say(f"{at} {how}, peak {levels.peak_dbfs:.1f} dBFS{trouble}")

    def _draw(self, line: str) -> None:
        width = shutil.get_terminal_size().columns - 1
        write(f"\r\x1b[2K{line[:width]}")
        self._is_drawn = True

    def _say(self, line: str) -> None:
        write(("\r\x1b[2K" if self._is_drawn else "") + printable(line) + "\n")
        self._is_drawn = False
