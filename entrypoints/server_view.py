"""Shows what a server does, one line for each event."""

from __future__ import annotations

import logging

from domain.events import Event, EventsDropped
from domain.events.server import (
    AlarmEnded,
    AlarmRaised,
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
from entrypoints.terminal import clock_time, write, write_line

_log = logging.getLogger("gapless")


_TROUBLE = (
    AlarmEnded,
    AlarmRaised,
    ClockFoundWrong,
    EventsDropped,
    RecordingBusy,
    RecordingFailed,
    RecordingsLeft,
    RecoveryFailed,
    RequestRefused,
    RestoringFailed,
    SessionFailed,
    StorageDelayed,
    StorageWritable,
    WorkerDied,
)
"""The events of which a quiet server tells."""


class ServerView:
    """Shows the events of a server, one line each; if it `is_quiet`, only those of trouble."""

    def __init__(self, *, is_quiet: bool = False) -> None:
        self._is_quiet = is_quiet

    def handle(self, event: Event) -> None:
        if self._is_quiet and not isinstance(event, _TROUBLE):
            return
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
                write(f"refused {count} x {request} from {whose}{why}\n")
            case SessionEnded(session_id, reason, detail):
                why = f" ({detail})" if detail else ""
                self._say(session_id, f"session ended: {reason.value}{why}")
            case RecordingRecovered(recording):
                write_line(f"recovered {clock_time(recording.seconds)} in {recording.location}")
            case RecordingRestored(session_id, state, seconds, restored_s):
                text = f"{restored_s:.1f} s of {clock_time(seconds)} restored"
                is_all = state is RestoreState.COMPLETE
                self._say(session_id, text if is_all else f"{text}; the client sent no more")
            case RestoringFailed(session_id, error):
                self._say(session_id, f"not restored: {error}", error=True)
            case RecordingInterrupted(info, length):
                recorded = clock_time(length / info.format.sample_rate_hz)
                write_line(f"waiting for the client of {info.name} ({recorded})")
            case RecordingBusy(location):
                write_line(f"still being written: {location}")
            case RecoveryFailed(error):
                write_line(f"gapless: {error}", error=True)
            case StorageDelayed(problem):
                write_line(f"recordings wait for the disk: {problem}")
            case StorageWritable(outage_s):
                write(f"the disk can be written again, after {outage_s:.1f} s\n")
            case AlarmRaised(alarm) | AlarmEnded(alarm):
                write_line(alarm.line)
            case ServerStarted(url, workers, fingerprint, urls):
                shared = f" with {workers} workers" if workers > 1 else ""
                write(f"gapless is listening on {url}{shared} (Ctrl-C to stop)\n")
                if fingerprint is not None:
                    write(f"the certificate is self-signed; its fingerprint is {fingerprint}\n")
                    for address in urls or (url,):
                        options = f"--server {address} --fingerprint {fingerprint}"
                        write(f"clients: gapless stream {options}\n")
            case WorkerDied(number, reason):
                write(f"worker {number} has died ({reason}); starting it again\n", error=True)
            case RecordingsLeft(reason):
                text = f"{reason}; unfinished recordings are completed at the next start"
                write_line(f"gapless: {text}", error=True)
            case ShutdownStarted():
                write("completing recordings\n")
            case EventsDropped(count):
                write(
                    f"gapless: {count} lines are missing here, because the terminal was too slow\n"
                )

    def _say(self, session_id: str, line: str, *, error: bool = False) -> None:
        write_line(f"{session_id}  {line}", error=error)


def _speed(skew_ppm: float) -> str:
    return f"{abs(skew_ppm) / 1e4:.1f} % too {'fast' if skew_ppm > 0 else 'slow'}"


def _of(track: int) -> str:
    """Return a prefix that names the track; empty for track 1."""
    return "" if track == 1 else f"track {track}: "
