"""A rewriter of recordings that only reads, and sound as clients send it."""

from __future__ import annotations

import datetime
import io
import threading

import numpy as np
import soundfile

from adapters.storage.restoring.pcm import PcmReader
from domain.ports.restoring import Restored, RestoreKey
from domain.recording.ledger import RestoreMode, RestoreState, SampleKind
from domain.recording.ranges import RangeSet
from domain.recording.restoring import Captured, Segment, SpoolInfo
from domain.sound.formats import AudioFormat, SampleFormat, Samples

OPENED = datetime.datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=datetime.UTC)


class FakeRewrite:
    """Reads all that is held, and says what it got."""

    def __init__(self, *errors: Exception) -> None:
        self._errors = list(errors)
        self.calls: list[tuple[Captured | None, RangeSet, RestoreState]] = []
        self.samples: Samples | None = None
        self.may_go_on = threading.Event()
        self.may_go_on.set()
        self.running = self.most_running = 0

    def __call__(
        self,
        key: RestoreKey,
        captured: Captured | None,
        held: RangeSet,
        pcm: PcmReader,
        state: RestoreState,
    ) -> Restored:
        self.calls.append((captured, held, state))
        self.running += 1
        self.most_running = max(self.running, self.most_running)
        assert self.may_go_on.wait(20)
        self.running -= 1
        if self._errors:
            raise self._errors.pop(0)
        length = held.end if captured is None else captured.length
        self.samples = pcm.read(0, length)
        return Restored(pcm.sha256(length), length, held.total, key.spool.format.sample_rate_hz)

    def segments(self, key: RestoreKey, captured: Captured | None) -> list[Segment]:
        if self._errors:
            raise self._errors.pop(0)
        length = 0 if captured is None else captured.length
        return [Segment(length, SampleKind.SILENCE, None, 0)]


def restore_key(session_id: str, audio_format: AudioFormat) -> RestoreKey:
    """Return a key with everything in it."""
    spool = SpoolInfo(2**32 - 1, audio_format, RestoreMode.ALL, OPENED)
    return RestoreKey(
        session_id, "ab" * 32, "Küche \ud800", spool, RestoreMode.LOST, OPENED, "Küche"
    )


def random_sound(length: int, audio_format: AudioFormat, seed: int = 1) -> Samples:
    """Return noise of shape (length, channels), in the dtype of the format."""
    sample_format = audio_format.sample_format
    half = 1 << (sample_format.bits - 1)
    low = 0 if sample_format is SampleFormat.U8 else -half
    dice = np.random.default_rng(seed)
    values = dice.integers(low, low + 2 * half, (length, audio_format.channels))
    return values.astype(sample_format.dtype)


def flac_of(samples: Samples, audio_format: AudioFormat) -> bytes:
    """Return a FLAC file of samples in a format."""
    subtype, signed = {
        SampleFormat.U8: ("PCM_S8", (samples.astype(np.int16) - 128) << 8),
        SampleFormat.S16: ("PCM_16", samples),
        SampleFormat.S24: ("PCM_24", samples << 8),
    }[audio_format.sample_format]
    file = io.BytesIO()
    soundfile.write(file, signed, audio_format.sample_rate_hz, subtype, format="FLAC")
    return file.getvalue()
