"""Writes to a terminal or pipe, for a person to read: lines, durations, and the log."""

from __future__ import annotations

import contextlib
import datetime
import io
import logging
import os
import queue
import select
import sys
import threading
import time
import unicodedata
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from entrypoints.log_limit import LogLimit

_LOG_CAPACITY = 1000
_FLUSH_S = 1.0


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


def table(rows: Sequence[Sequence[str]], *, right: Collection[int] = ()) -> Iterator[str]:
    """Return the lines of a table; the first row has the headings. No cell controls a terminal.

    `right` are the columns that end in line, such as those of numbers.
    """
    shown = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(text_width, column)) for column in zip(*shown, strict=True)]
    for row in shown:
        yield "  ".join(
            _filled(cell, widths[column], to_right=column in right)
            for column, cell in enumerate(row)
        ).rstrip()


def _filled(text: str, width: int, *, to_right: bool) -> str:
    space = " " * (width - text_width(text))
    return space + text if to_right else text + space


def text_width(text: str) -> int:
    """Return how many columns a terminal needs for a text."""
    return sum(map(_columns, text))


def _columns(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def cut(text: str, width: int) -> str:
    """Return a text that needs at most `width` columns; what is left out is shown as ``…``."""
    if text_width(text) <= width:
        return text
    kept, free = "", width - 1
    for character in text:
        free -= _columns(character)
        if free < 0:
            break
        kept += character
    return f"{kept}…"


def local_time(text: str) -> str:
    """Return a time of the API in this machine's time zone."""
    try:
        moment = datetime.datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError):
        return text
    return f"{moment:%Y-%m-%d %H:%M:%S}"


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


def write_line(text: str, *, error: bool = False) -> None:
    write(printable(text) + "\n", error=error)


def write(text: str, *, error: bool = False) -> None:
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
            write(line + "\n", error=True)
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
