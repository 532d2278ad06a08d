"""Places for what a server does only so often at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from domain.errors import ServerFull


class Places:
    """Counts what is under way; refuses what would be too much."""

    def __init__(self, count: int, *, what: str) -> None:
        """`what` names it in the refusal, in the plural."""
        self._free = count
        self._what = what

    @contextlib.contextmanager
    def one(self) -> Iterator[None]:
        """Take a place for the time of a block. Raises `ServerFull`."""
        if not self._free:
            raise ServerFull(f"as many {self._what} are under way as this server makes at a time")
        self._free -= 1
        try:
            yield
        finally:
            self._free += 1
