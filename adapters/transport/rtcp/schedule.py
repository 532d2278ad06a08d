"""Something to be done for each of many connections, again and again, without a timer for each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

_TURNS = 10


class PeriodicCalls:
    """Calls each member once in `interval_s`, a tenth of them at a time."""

    def __init__(self, interval_s: float) -> None:
        self._pause_s = interval_s / _TURNS
        self._members: list[dict[Callable[[], None], None]] = [{} for _ in range(_TURNS)]
        self._turn = 0
        self._timer: asyncio.TimerHandle | None = None  # as long as there are members

    def join(self, call: Callable[[], None]) -> None:
        """Call it from now on. It must not raise."""
        min(self._members, key=len)[call] = None
        if self._timer is None:
            self._wait()

    def leave(self, call: Callable[[], None]) -> None:
        """Call it no more; does nothing for one that is not called."""
        for members in self._members:
            members.pop(call, None)
        if self._timer is not None and not any(self._members):
            self._timer.cancel()
            self._timer = None

    def _wait(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._pause_s, self._call)

    def _call(self) -> None:
        self._wait()
        self._turn = (self._turn + 1) % _TURNS
        members = self._members[self._turn]
        for call in list(members):
            if call in members:  # who is called may have another one leave
                call()
