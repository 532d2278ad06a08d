"""What is held of a client's spool, and what a recording becomes with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from adapters.storage.restoring.complete import CompleteRecording
from adapters.storage.restoring.pcm import PcmReader
from domain.recording.layout import Layout, as_captured, has_more, is_whole, patched, restorable
from domain.recording.ledger import RestoreMode
from domain.recording.ranges import RangeSet
from domain.recording.restoring import TICK_RATE_HZ, Captured, Segment, ticks_of


@dataclass(slots=True)
class CapturedAndHeld:
    """What is held of a spool, and what is to be restored from it."""

    mode: RestoreMode
    captured: Captured | None
    held: RangeSet
    pcm: PcmReader
    _sha256: str | None = field(default=None, init=False)

    @property
    def rate_hz(self) -> int:
        return self.pcm.format.sample_rate_hz

    @property
    def is_whole(self) -> bool:
        """Whether everything that was captured is held."""
        return is_whole(self.held, self.captured)

    @property
    def length(self) -> int:
        """Samples that were captured, as far as it is known."""
        return self.held.end if self.captured is None else self.captured.length

    def until_last_held(self) -> CapturedAndHeld:
        """Return the same without the time behind everything that is held."""
        captured, end = self.captured, self.held.end
        if captured is None or captured.length <= end:
            return self
        missing = tuple(RangeSet(captured.missing).within(0, end))
        shorter = replace(captured, length=end, missing=missing)
        return CapturedAndHeld(self.mode, shorter, self.held, self.pcm)

    def sha256(self) -> str:
        """Return the hash of the PCM that was captured, as far as it is held. Raises `OSError`."""
        if self._sha256 is None:  # it takes seconds
            missing = () if self.captured is None else self.captured.missing
            self._sha256 = self.pcm.sha256(self.length, missing)
        return self._sha256

    def replaces(self, recording: CompleteRecording) -> bool:
        """Whether a recording of which sound was received live becomes what was captured.

        Sound that only the live recording has would be lost with it. So that one is patched instead
        until everything is there, and if the client has sent more than it captured.
        """
        if self.mode is not RestoreMode.ALL or self.captured is None or not self.is_whole:
            return False
        segments = self._segments_of(recording) if recording.is_placed else ()
        return not has_more(
            segments,
            self.captured.missing,
            rate_hz=self.rate_hz,
            is_timed=recording.is_timed,
            quiet=recording.quiet,
        )

    def fits(self, recording: CompleteRecording) -> bool:
        """Whether it is known where captured sound belongs in a recording."""
        rate_hz = recording.info.format.sample_rate_hz
        return (recording.is_placed and rate_hz == TICK_RATE_HZ) or self.replaces(recording)

    def layout_of(self, recording: CompleteRecording) -> Layout | None:
        """Lay out a recording of which sound was received live; None if nothing is restored."""
        if not self.fits(recording):
            return None
        is_replaced = self.replaces(recording)
        layout = self.layout(self._segments_of(recording), is_replaced=is_replaced)
        return layout if layout.restored else None

    def _segments_of(self, recording: CompleteRecording) -> Sequence[Segment]:
        total = None if self.captured is None else ticks_of(self.captured.length, self.rate_hz)
        return recording.segments(total)

    def layout(self, segments: Sequence[Segment], *, is_replaced: bool) -> Layout:
        """Lay out a recording with these segments."""
        if is_replaced:
            missing = () if self.captured is None else self.captured.missing
            return as_captured(
                segments, self.held, length=self.length, missing=missing, rate_hz=self.rate_hz
            )
        known = restorable(self.held, self.captured, rate_hz=self.rate_hz)
        return patched(segments, self.mode, known, fills=self.captured is not None)
