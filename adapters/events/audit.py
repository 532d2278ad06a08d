"""The audit log: who came, who was refused, and who ended what, as one JSON object a line."""

from __future__ import annotations

import contextlib
import datetime
import json
import logging
import os
import stat
import time
from collections.abc import Callable
from typing import Any

from domain.errors import SettingInvalid
from domain.events import Event, EventsDropped
from domain.events.server import (
    ConnectionAdded,
    RecordingDeleted,
    RequestRefused,
    ServerStarted,
    SessionDeleted,
    SessionEnded,
    SessionOpened,
    ShutdownStarted,
    WorkerDied,
)
from domain.session.caller import Caller
from domain.session.tally import Tally

MAX_LINES = 1000
"""Lines of one event within a minute; further ones are counted."""
_log = logging.getLogger("gapless")


class AuditLog:
    """Appends a line to a file for each event that somebody outside has caused.

    Several processes may share the file: each line is one write at its end. The file may be moved
    away at any time; the next line begins a new one. It may also be truncated.

    It runs in the thread that the dispatcher has for it. A line that cannot be written is lost,
    and the next one that can be written tells how many were.
    """

    def __init__(self, path: str, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Open the file; raises `SettingInvalid` if that is impossible."""
        self._path = path
        self._monotonic = monotonic
        self._tally: Tally[str] = Tally(told=MAX_LINES, kinds=100)
        self._lost = 0
        self._is_torn = False
        self._descriptor = -1
        try:
            self._open()
        except OSError as error:
            reason = error.strerror or str(error)
            raise SettingInvalid("audit_log", f"cannot write {path}: {reason}") from error

    def handle(self, event: Event) -> None:
        entry = _entry(event)
        if entry is None:
            return
        now = self._monotonic()
        for kind, count in self._tally.end(now=now):
            self._append({"event": kind, "count": count})
        if self._tally.note(entry["event"], instead="more", now=now):
            self._append(entry)

    def close(self) -> None:
        os.close(self._descriptor)

    def _append(self, entry: dict[str, Any]) -> None:
        """Write one line, and before it, how many were lost if some were."""
        time = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        entries = [{"time": time.replace("+00:00", "Z"), "pid": os.getpid()} | entry]
        if self._lost:
            entries.insert(0, entries[0] | {"event": "lines lost", "count": self._lost})
        # JSON escapes control characters, and everything beyond ASCII
        lines = "".join(json.dumps(item) + "\n" for item in entries).encode()
        try:
            self._reopen_if_moved()
            self._write(b"\n" + lines if self._is_torn else lines)
        except OSError as error:
            self._lost += 1
            _log.warning("the audit log %s cannot be written: %s", self._path, error.strerror)
        else:
            self._lost = 0

    def _write(self, lines: bytes) -> None:
        """Write lines at the end of the file. Raises `OSError` if not all of them fit."""
        written = os.write(self._descriptor, lines)
        self._is_torn = written < len(lines)
        if self._is_torn:
            raise OSError(0, "the disk is full")

    def _reopen_if_moved(self) -> None:
        ours = os.fstat(self._descriptor)
        try:
            found = os.stat(self._path, follow_symlinks=False)  # noqa: PTH116 (there is no Path)
            is_ours = (found.st_dev, found.st_ino) == (ours.st_dev, ours.st_ino)
        except FileNotFoundError:
            is_ours = False
        if not is_ours:
            self._open()

    def _open(self) -> None:
        """Open the file, and close the one before. Raises `OSError`."""
        # neither wait for a reader of a FIFO, nor write to what a link in its place leads to
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
        descriptor = os.open(self._path, flags | os.O_CLOEXEC, 0o600)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise OSError(0, "it is not a regular file")
        if self._descriptor >= 0:
            with contextlib.suppress(OSError):
                os.close(self._descriptor)
        self._descriptor, self._is_torn = descriptor, False


def _entry(event: Event) -> dict[str, Any] | None:
    """Return what the log says of an event; None for an event that it leaves out."""
    match event:
        case SessionOpened(session_id, name, caller, room):
            in_room = {"room": room} if room else {}
            return _by(caller, "session opened", session=session_id, name=name, **in_room)
        case ConnectionAdded(session_id, caller):
            return _by(caller, "connection added", session=session_id)
        case SessionDeleted(session_id, caller):
            return _by(caller, "session deleted", session=session_id)
        case SessionEnded(session_id, reason):
            return {"event": "session ended", "session": session_id, "reason": reason.value}
        case RecordingDeleted(recording_id, name, caller):
            return _by(caller, "recording deleted", recording=recording_id, name=name)
        case RequestRefused(caller, request, status, reason, count):
            more: dict[str, Any] = {"reason": reason} if reason else {}
            return _by(caller, "refused", request=request, status=status, count=count, **more)
        case ServerStarted(url, workers):
            return {"event": "server started", "url": url, "workers": workers}
        case ShutdownStarted():
            return {"event": "server stopping"}
        case WorkerDied(number, reason):
            return {"event": "worker died", "worker": number, "reason": reason}
        case EventsDropped(count):
            return {"event": "events dropped", "count": count}
    return None


def _by(caller: Caller, event: str, **more: Any) -> dict[str, Any]:
    return {"event": event, "address": caller.address, "token": caller.token, **more}
