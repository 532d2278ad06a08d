"""When reports are sent: regularly for each of many connections, with one timer for all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

_TURNS = 10


class ReportSchedule:
    """Calls each of its callbacks once per interval, a tenth of them at a time."""

    def __init__(self, interval_s: float) -> None:
        self._pause_s = interval_s / _TURNS
        self._callbacks: list[dict[Callable[[], None], None]] = [{} for _ in range(_TURNS)]
        self._turn = 0
        self._timer: asyncio.TimerHandle | None = None  # while there are callbacks

    def add(self, callback: Callable[[], None]) -> None:
        """Call `callback` once per interval from now on. It must not raise."""
        min(self._callbacks, key=len)[callback] = None
        if self._timer is None:
            self._set_timer()

    def remove(self, callback: Callable[[], None]) -> None:
        """Stop calling `callback`; does nothing if it is not known."""
        for callbacks in self._callbacks:
            callbacks.pop(callback, None)
        if self._timer is not None and not any(self._callbacks):
            self._timer.cancel()
            self._timer = None

    def _set_timer(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._pause_s, self._call)

    def _call(self) -> None:
        self._set_timer()
        self._turn = (self._turn + 1) % _TURNS
        callbacks = self._callbacks[self._turn]
        for callback in list(callbacks):
            if callback in callbacks:  # an earlier one may have removed it
                callback()
