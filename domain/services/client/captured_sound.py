"""Where captured sound goes: into the spool first, then to the server."""

from __future__ import annotations

from collections import deque

import numpy as np

from domain.errors import GaplessError
from domain.events.client import (
    LiveRecordingEnded,
)
from domain.ports.clock import Clock
from domain.ports.events import EventPublisher
from domain.rtp.packetizer import RTP_RATE_HZ
from domain.services.client.kept_sound import KeptSound
from domain.services.client.lasting_source import FRESH_S
from domain.services.client.live_sound import LiveSound
from domain.services.client.uplink import Uplink
from domain.sound.formats import AudioFrame
from domain.sound.levels import Levels, measure

METERED_BLOCKS = 3000
"""A minute of blocks, as most sources deliver them."""


class CapturedSound:
    """Keeps and sends captured sound.

    `take` is called in the source's thread. While the source delivers, the event loop only reads
    the levels, and sets `is_connected`, `refusal` and, before the first block, `kept`.
    """

    def __init__(
        self,
        *,
        live: LiveSound,
        uplink: Uplink,
        clock: Clock,
        events: EventPublisher,
        limit: int | None,
    ) -> None:
        self._live = live
        self._uplink = uplink
        self._clock = clock
        self._events = events
        self._limit = limit
        self._began_at: float | None = None
        # blocks to be sent, with when they were read; without a connection only fresh ones stay
        self._waiting: deque[tuple[float, AudioFrame]] = deque()
        # blocks that were not sent since the levels were last asked for
        self._unmetered: deque[AudioFrame] = deque(maxlen=METERED_BLOCKS)
        self._skipped = 0  # position before which nothing was sent
        self._was_end_told = False
        self.kept: KeptSound | None = None
        """Where sound is kept, if there is a spool."""
        self.is_connected = False
        """Whether there is a session."""
        self.refusal: GaplessError | None = None
        """Why there can be no session."""

    @property
    def is_keeping(self) -> bool:
        return self.kept is not None and self.kept.is_keeping

    @property
    def is_live(self) -> bool:
        """Whether sound is sent as it is captured."""
        return self.is_connected and self._uplink.failure is None

    @property
    def is_over(self) -> bool:
        """Whether what is captured is of no use any more."""
        has_failed = self._uplink.failure is not None and not self.is_keeping
        return has_failed or self.refusal is not None

    @property
    def sent_s(self) -> float:
        """How much sound was sent, gaps included, from the first that was."""
        return max(0, self._live.end - self._skipped) / RTP_RATE_HZ

    @property
    def taken_to(self) -> int:
        return self._live.sent_to

    def take(self, block: AudioFrame, *, read_at: float, began_at: float | None) -> None:
        if self.kept is not None:
            self.kept.write(self._cut(block))
        self._began_at = began_at
        self._waiting.append((read_at, block))
        if self.is_live:
            self._send_waiting()
        else:
            self._drop_outdated()
            self._unmetered.append(block)
            self._tell_end_of_session()

    def pause(self) -> None:
        if self.is_live:
            self._send_waiting()
            self._live.finish()

    def pass_time(self, position: int) -> None:
        if self.is_live:
            self.pause()  # sound that was captured before there was a connection
            self._live.keep_alive(position)
        else:
            self._tell_end_of_session()

    def levels_of_unsent(self) -> Levels | None:
        """Return the levels of what was kept and not sent since the last call."""
        blocks = [self._unmetered.popleft() for _ in range(len(self._unmetered))]
        if not blocks or self.is_live or not self.is_keeping:
            return None
        latest = blocks[-1].format
        samples = [block.samples for block in blocks if block.format == latest]
        return measure(AudioFrame(latest, np.concatenate(samples)))

    def _cut(self, block: AudioFrame) -> AudioFrame:
        """Cut a block at the wanted duration."""
        if self._limit is None:
            return block
        limit = -(-self._limit * block.format.sample_rate_hz // RTP_RATE_HZ)
        return AudioFrame(
            block.format, block.samples[: max(0, limit - block.position)], block.position
        )

    def _send_waiting(self) -> None:
        self._drop_outdated()
        while self._waiting:
            self._live.push(self._waiting.popleft()[1], began_at=self._began_at)

    def _drop_outdated(self) -> None:
        now = self._clock.monotonic()
        while self._waiting and now - self._waiting[0][0] > FRESH_S:
            _, block = self._waiting.popleft()
            if not self._live.sent_to:
                self._skipped = block.end * RTP_RATE_HZ // block.format.sample_rate_hz

    def _tell_end_of_session(self) -> None:
        """Say once that sound is only kept from now on."""
        failure = self._uplink.failure
        if failure is not None and self.is_keeping and not self._was_end_told:
            self._was_end_told = True
            self._events.publish(LiveRecordingEnded(str(failure)))
