"""One thread that does all the disk's work, so that a slow disk never stalls the network."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable


class DiskThread:
    """Runs calls one after another in the order in which they were submitted."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="gapless-disk", daemon=True)
        self._thread.start()

    def submit(self, call: Callable[[], None]) -> None:
        """Queue a call, which must not raise; returns at once."""
        self._calls.put(call)

    def close(self) -> None:
        """Let the queued calls finish and end the thread."""
        self._calls.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            call()
