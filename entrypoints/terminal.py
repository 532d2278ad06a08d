"""Shows events to a person: a live line on a terminal, plain lines in a pipe."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import queue
import select
import shutil
import sys
import threading
import time
from typing import Any

from domain.events import (
    Event,
    EventsDropped,
)
from domain.events.client import (
    CaptureStarted,
    LiveRecordingEnded,
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
from domain.events.server import (
    ClockFoundWrong,
    PartCompleted,
    RecordingBusy,
    RecordingCompleted,
    RecordingFailed,
    RecordingInterrupted,
    RecordingRecovered,
    RecordingRestored,
    RecordingsLeft,
    RecoveryFailed,
    RequestRefused,
    RestoringFailed,
    ServerStarted,
    SessionEnded,
    SessionFailed,
    SessionOpened,
    SessionResumed,
    SessionStateChanged,
    ShutdownStarted,
    StorageDelayed,
    StorageWritable,
    TrackFormatChanged,
    TrackStarted,
    WorkerDied,
)
from domain.recording.ledger import RestoreState
from domain.session.session import SessionState
from domain.sound.levels import FLOOR_DBFS, Levels
from entrypoints.log_limit import LogLimit

_METER_WIDTH = 24
_REDRAW_S = 0.1  # fast enough for the eye to follow the meter
_PLAIN_S = 5.0
_LOG_CAPACITY = 1000
_FLUSH_S = 1.0
_log = logging.getLogger("gapless")


def printable(text: str) -> str:
    """Return a line without what controls a terminal: names and reasons come from anybody's files.

    What is left out is shown as Python would write it: `\\x1b`, `\\u202e`.
    """
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in text
    )


def clock_time(seconds: float) -> str:
    """Format a duration as ``1:02:03.4``, or as ``02:03.4`` below an hour."""
    minutes, rest = divmod(round(seconds, 1), 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours}:{minutes:02d}:{rest:04.1f}" if hours else f"{minutes:02d}:{rest:04.1f}"


def full_time(seconds: float) -> str:
    """Format a duration as ``00:02:03.4``."""
    minutes, rest = divmod(round(seconds, 1), 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours:02d}:{minutes:02d}:{rest:04.1f}"


def meter(rms_dbfs: float, peak_dbfs: float) -> str:
    """Draw the RMS as a bar with a mark at the peak, from -60 to 0 dBFS."""

    def column(level: float) -> int:
        return max(0, min(_METER_WIDTH, round((level + 60) / 60 * _METER_WIDTH)))

    cells = ["█"] * column(rms_dbfs) + ["·"] * (_METER_WIDTH - column(rms_dbfs))
    if peak_dbfs > FLOOR_DBFS:
        cells[max(0, column(peak_dbfs) - 1)] = "▌"
    return "".join(cells)


class StreamView:
    """Shows the events of a client."""

    def __init__(self, *, server: str) -> None:
        self._server = server
        self._live = sys.stdout is not None and sys.stdout.isatty()
        self.progress_interval_s = _REDRAW_S if self._live else _PLAIN_S
        self._is_drawn = False

    def handle(self, event: Event) -> None:
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
            _write("\n")
            self._is_drawn = False

    def _show_summary(self, ended: StreamEnded) -> None:
        self.close()
        safe = "" if ended.safe_s is None else f", {clock_time(ended.safe_s)} safe on the server"
        self._say(f"done: {clock_time(ended.seconds)} streamed{safe}")
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
        _write(f"\r\x1b[2K{line[:width]}")
        self._is_drawn = True

    def _say(self, line: str) -> None:
        _write(("\r\x1b[2K" if self._is_drawn else "") + printable(line) + "\n")
        self._is_drawn = False


class ServerView:
    """Shows the events of a server, one line each."""

    def handle(self, event: Event) -> None:
        match event:
            case SessionOpened(session_id, name, _):
                # the client chose the name: it must not send control characters to the terminal
                shown = "".join(character for character in name if character.isprintable())
                self._say(session_id, "session opened" + (f" by {shown!r}" if shown else ""))
            case SessionStateChanged(session_id, SessionState.SILENT):
                self._say(session_id, "connected, but no packets come in")
            case SessionStateChanged(session_id, SessionState.RECORDING):
                self._say(session_id, "packets are coming in")
            case SessionResumed(session_id, connection):
                self._say(session_id, f"the client is back, with connection {connection}")
            case TrackStarted(session_id, track, audio_format):
                self._say(session_id, f"{_of(track)}recording, {audio_format}")
            case TrackFormatChanged(session_id, track, audio_format):
                self._say(session_id, f"{_of(track)}recording, {audio_format}, in a new part")
            case ClockFoundWrong(session_id, track, skew_ppm):
                text = f"the sender's clock is wrong: {_speed(skew_ppm)}"
                self._say(session_id, _of(track) + text)
            case PartCompleted(session_id, track, part, is_last=False):
                self._say(session_id, f"{_of(track)}part {part.number} complete: {part.location}")
            case RecordingCompleted(session_id, track, recording):
                text = f"recorded {clock_time(recording.seconds)} to {recording.location}"
                parts = f" in {len(recording.parts)} parts" if len(recording.parts) > 1 else ""
                self._say(session_id, _of(track) + text + parts)
            case RecordingFailed(session_id, track, error):
                self._say(session_id, f"{_of(track)}failed: {error}", error=True)
            case SessionFailed(session_id, error):
                self._say(session_id, f"failed: {error!r}", error=True)
                _log.error("session %s failed", session_id, exc_info=error)
            case RequestRefused(caller, request, 429, reason, count):
                # somebody guesses, or is too busy; other refusals are in the audit log only
                whose = caller.address or "many addresses"
                why = f": {reason}" if reason else ""
                _write(f"refused {count} x {request} from {whose}{why}\n")
            case SessionEnded(session_id, reason, detail):
                why = f" ({detail})" if detail else ""
                self._say(session_id, f"session ended: {reason.value}{why}")
            case RecordingRecovered(recording):
                _write_line(f"recovered {clock_time(recording.seconds)} in {recording.location}")
            case RecordingRestored(session_id, state, seconds, restored_s):
                text = f"{restored_s:.1f} s of {clock_time(seconds)} restored"
                is_all = state is RestoreState.COMPLETE
                self._say(session_id, text if is_all else f"{text}; the client sent no more")
            case RestoringFailed(session_id, error):
                self._say(session_id, f"not restored: {error}", error=True)
            case RecordingInterrupted(info, length):
                recorded = clock_time(length / info.format.sample_rate_hz)
                _write_line(f"waiting for the client of {info.name} ({recorded})")
            case RecordingBusy(location):
                _write_line(f"still being written: {location}")
            case RecoveryFailed(error):
                _write_line(f"gapless: {error}", error=True)
            case StorageDelayed(problem):
                _write_line(f"recordings wait for the disk: {problem}")
            case StorageWritable(outage_s):
                _write(f"the disk can be written again, after {outage_s:.1f} s\n")
            case ServerStarted(url, workers):
                shared = f" with {workers} workers" if workers > 1 else ""
                _write(f"gapless is listening on {url}{shared} (Ctrl-C to stop)\n")
            case WorkerDied(number, reason):
                _write(f"worker {number} has died ({reason}); starting it again\n", error=True)
            case RecordingsLeft(reason):
                text = f"{reason}; unfinished recordings are completed at the next start"
                _write_line(f"gapless: {text}", error=True)
            case ShutdownStarted():
                _write("completing recordings\n")
            case EventsDropped(count):
                _write(
                    f"gapless: {count} lines are missing here, because the terminal was too slow\n"
                )

    def _say(self, session_id: str, line: str, *, error: bool = False) -> None:
        _write_line(f"{session_id}  {line}", error=error)


def _speed(skew_ppm: float) -> str:
    return f"{abs(skew_ppm) / 1e4:.1f} % too {'fast' if skew_ppm > 0 else 'slow'}"


def _of(track: int) -> str:
    """Return a prefix that names the track; empty for track 1."""
    return "" if track == 1 else f"track {track}: "


def _write_line(text: str, *, error: bool = False) -> None:
    _write(printable(text) + "\n", error=error)


def _write(text: str, *, error: bool = False) -> None:
    """Write to the terminal or pipe, even if nobody reads from it.

    The text goes to the descriptor instead of the stream. A write that hangs would hold the
    stream's lock, and the interpreter waits for that lock when the process ends.
    """
    stream = sys.stderr if error else sys.stdout
    if stream is None:  # closed before this process began
        return
    with contextlib.suppress(OSError, ValueError):
        try:
            descriptor = stream.fileno()
        except io.UnsupportedOperation:  # not a file, as in tests
            stream.write(text)
            return
        stream.flush()
        data = text.encode(stream.encoding or "utf-8", errors="replace")
        while data:
            try:
                data = data[os.write(descriptor, data) :]
            except BlockingIOError:  # another program made the terminal non-blocking
                select.select([], [descriptor], [])


class _PrintableFormatter(logging.Formatter):
    """Lets nobody write lines of a log, or control its terminal, by what a message quotes."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (logging's name)
        return printable(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802
        return "\n".join(map(printable, super().formatException(ei).split("\n")))


class _TerminalLog(logging.Handler):
    """Writes records to standard error in a thread of its own.

    A reader of standard error that hangs then delays nothing else. Records are dropped while more
    than `_LOG_CAPACITY` wait, and lines that repeat are counted.
    """

    def __init__(self) -> None:
        super().__init__()
        self._lines: queue.Queue[str] = queue.Queue(_LOG_CAPACITY)
        self._thread: threading.Thread | None = None
        self._limit = LogLimit()
        # not the handler's lock, which is held at the end of the process while `flush` waits
        self._limiting = threading.Lock()

    def emit(self, record: logging.LogRecord) -> None:
        self._tell_counted()
        with self._limiting:
            is_told = self._limit.admit(record)
        if is_told:
            self._put(self.format(record))
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="gapless-log", daemon=True)
            self._thread.start()

    def flush(self) -> None:
        """Wait until everything is written, for at most `_FLUSH_S`."""
        self._tell_counted(at_once=True)
        deadline = time.monotonic() + _FLUSH_S
        while self._lines.unfinished_tasks and time.monotonic() < deadline:
            time.sleep(_FLUSH_S / 100)

    def _run(self) -> None:
        while True:
            with self._limiting:
                wait_s = self._limit.wait_s
            try:
                line = self._lines.get(timeout=wait_s)
            except queue.Empty:
                self._tell_counted()
                continue
            _write(line + "\n", error=True)
            self._lines.task_done()

    def _tell_counted(self, *, at_once: bool = False) -> None:
        with self._limiting:
            counted = self._limit.end(at_once=at_once)
        for line in counted:
            self._put(f"gapless: {line}")

    def _put(self, line: str) -> None:
        with contextlib.suppress(queue.Full):
            self._lines.put_nowait(line)


def log_to_terminal() -> None:
    """Log warnings and errors to stderr; show characters that it cannot encode as "?"."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    handler = _TerminalLog()
    handler.setFormatter(_PrintableFormatter("gapless: %(levelname)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
