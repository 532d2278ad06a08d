"""Shows how spools are sent."""

from __future__ import annotations

import time

from domain.events import (
    Event,
)
from domain.events.client import (
    OwedSpoolDelivered,
    OwedSpoolFound,
    OwedSpoolKept,
    PieceSent,
)
from entrypoints.stream_view import StreamView
from entrypoints.terminal import full_time


class SpoolView(StreamView):
    """Shows the events of `gapless spool send`."""

    def __init__(self) -> None:
        super().__init__(server="")
        self._shown_at = 0.0
        self._sent_bytes = 0
        self._end_s = 0.0

    def handle(self, event: Event) -> None:
        match event:
            case OwedSpoolFound(spool_id, name, captured_s, server):
                self._sent_bytes, self._end_s = 0, 0.0
                named = f" ({name})" if name else ""
                self._say(f"{spool_id}{named}: {full_time(captured_s)} to {server}")
            case PieceSent():
                self._show_piece(event)
            case OwedSpoolDelivered(spool_id, captured_s, sha256, is_same):
                same = f", sha256 {sha256}, the same on both ends" if is_same else ""
                self._say(
                    f"{spool_id}: {full_time(captured_s)} captured, all of it on the server{same}"
                )
            case OwedSpoolKept(spool_id, reason):
                self._say(f"{spool_id}: {reason}; it is kept")
            case _:
                super().handle(event)

    def _show_piece(self, piece: PieceSent) -> None:
        self._sent_bytes += piece.size
        self._end_s = max(self._end_s, piece.end_s)
        now = time.monotonic()
        if now - self._shown_at < self.progress_interval_s:
            return
        self._shown_at = now
        line = (
            f"{full_time(self._end_s)} of {full_time(piece.captured_s)}, "
            f"{size_text(self._sent_bytes)} sent"
        )
        if self._live:
            self._draw(line)
        else:
            self._say(line)


def size_text(size: int) -> str:
    """Format a number of bytes as ``1.2 MB``."""
    if size < 1e6:
        return f"{size / 1e3:.1f} kB"
    return f"{size / 1e6:.1f} MB" if size < 1e9 else f"{size / 1e9:.1f} GB"
