"""The kinds of a part's samples, from its ledger or journal, read once and kept."""

from __future__ import annotations

import os
import pathlib
import threading
from array import array
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

from adapters.descriptors import RESERVE
from adapters.opening import open_found
from adapters.storage.documents import read_lines
from adapters.storage.folder.files import RecordingFiles
from adapters.storage.folder.journal import MAX_BYTES
from adapters.storage.folder.ledgers import read_document, read_ledger
from domain.recording.ledger import SampleKind
from domain.recording.reading import whole
from domain.recording.shares import CODES, SpanMap

_KEPT = 64
"""Parts whose spans are kept: those with many spans take megabytes."""


class GrowingSpans:
    """The spans in a journal that is being written."""

    def __init__(self) -> None:
        self._starts = array("q")
        self._codes = array("b")

    def read(self, data: bytes) -> None:
        """Add whole lines; damaged ones are left out."""
        read_lines(data, self._read_line)

    def _read_line(self, entry: dict[str, Any]) -> None:
        if "span" in entry:
            start, kind = entry["span"]
            code = CODES[SampleKind(kind)]
            if whole(start) >= (self._starts[-1] if self._starts else 0):
                self._starts.append(start)
                self._codes.append(code)
        elif "reopened" in entry:  # what follows it was never written
            length = whole(entry["reopened"])
            while self._starts and self._starts[-1] >= length:
                self._starts.pop()
                self._codes.pop()

    def as_map(self) -> SpanMap:
        return SpanMap(array("q", self._starts), array("b", self._codes))


@dataclass(slots=True)
class _Known:
    """What is known of a file."""

    identity: tuple[int, ...]
    spans: SpanMap
    growing: GrowingSpans = field(default_factory=GrowingSpans)
    end: int = 0
    """Offset after the last line that was read."""


class PartSpans:
    """Reads the spans of parts; threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: OrderedDict[pathlib.Path, _Known] = OrderedDict()

    def of(self, files: RecordingFiles, *, is_live: bool) -> SpanMap:
        """Return the spans of a part. Raises `OSError` or `ValueError`."""
        with self._lock:
            is_growing = is_live and not os.path.lexists(files.ledger)
            path = files.journal if is_growing else files.ledger
            known = self._grown(path) if is_growing else self._complete(path)
            self._known[path] = known
            self._known.move_to_end(path)
            if len(self._known) > _KEPT:
                self._known.popitem(last=False)
            return known.spans

    def _complete(self, path: pathlib.Path) -> _Known:
        found = path.lstat()
        identity = found.st_ino, found.st_mtime_ns, found.st_size
        known = self._known.get(path)
        if known is not None and known.identity == identity:
            return known
        return _Known(identity, SpanMap.of(read_ledger(read_document(path)).spans()))

    def _grown(self, path: pathlib.Path) -> _Known:
        """Read what a journal has got since it was read last."""
        descriptor = open_found(path)
        try:
            found = os.fstat(descriptor)
            identity = found.st_dev, found.st_ino
            known = self._known.get(path)
            if known is None or known.identity != identity or found.st_size < known.end:
                known = _Known(identity, SpanMap([], []))
            data = os.pread(descriptor, min(MAX_BYTES, found.st_size - known.end), known.end)
        finally:
            RESERVE.close(descriptor)
        if lines := data[: data.rfind(b"\n") + 1]:
            known.growing.read(lines)
            known.end += len(lines)
            known.spans = known.growing.as_map()
        return known
