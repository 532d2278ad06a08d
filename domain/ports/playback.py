"""Where sound goes that somebody listens to."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeAlias

from domain.sound.formats import AudioFormat, Samples


class SoundOutput(Protocol):
    """Plays or keeps sound, in the order in which it is written."""

    async def write(self, samples: Samples) -> None:
        """Take samples, shape (n, channels), s16; return when there is room for more.

        Raises `PlaybackFailed`.
        """

    async def gap(self, length: int) -> None:
        """Note that `length` samples per channel are silent. Raises `PlaybackFailed`."""

    async def close(self) -> None:
        """Finish what was written. May be called twice. Raises `PlaybackFailed`."""


OutputOpener: TypeAlias = Callable[[AudioFormat], Awaitable[SoundOutput]]
"""Opens an output for sound of a format. Raises `PlaybackFailed` or `BackendMissing`."""
