"""Lets listeners hear what is recorded, while it is recorded.

While somebody listens, what passes to the store also passes through a ring, which keeps the latest
blocks of it. The ring refers to the blocks that are stored, and copies nothing. Each listener has a
place in the ring and reads at a pace of its own. Nobody waits for it. If the ring has forgotten
what comes next for a listener, that one learns how much it was.

While nobody listens, positions are counted and nothing is kept. To keep ten seconds of a hundred
recordings would cost a tenth of the time that a packet takes (measured): memory that was just freed
is in the processor's caches, and older memory is not.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from domain.errors import PayloadInvalid, ServerFull, SessionUnknown
from domain.ports.codec import DecoderFactory
from domain.ports.tap import UNKNOWN, Heard, Missed, TapEnded, TapItem, TapStart
from domain.recording.effects import EndReason
from domain.recording.ledger import RecordingInfo, SampleKind
from domain.sound.decoding import Decoder
from domain.sound.detection import CodecParameters
from domain.sound.formats import AudioFormat, Samples
from domain.sound.pieces import EncodedSound, Sound

BLOCKS_READ = 50
"""Blocks that a listener reads at once: a second of usual packets. Decoding them, where packets are
stored undecoded, takes two milliseconds."""
HEARD_SAMPLES = 16_384
"""About how many samples a listener gets in one piece."""
MAX_GAP = 2**32 - 1
"""The longest gap that is told in one piece: 24 h at 48 kHz."""
GAP_COUNTS = 960
"""As how many samples a longer gap counts: it takes no memory, and pushes no sound out."""
FORGET_S = 0.5
"""How often the oldest sound is forgotten."""
_OPUS = CodecParameters("opus", 111, 48_000, 2)

_Entry: TypeAlias = tuple[int, int, SampleKind | None, Sequence[Sound] | AudioFormat | None]
"""What a ring holds. Sound: the position of its end, the samples that count until then, its kind,
and its pieces; None in place of them for a gap. Or a change: no kind, and the format of what
follows."""


@dataclass(frozen=True, slots=True)
class _Place:
    """A place in a ring: the number of an entry, with its position and format."""

    number: int
    position: int
    format: AudioFormat


class SoundRing:
    """The latest sound of one recording, while somebody listens, and for a while after that."""

    __slots__ = (
        "_begin", "_entries", "_first", "_forget_at", "_format", "_last_format", "_length",
        "_listeners", "_short", "_stop_at", "info", "is_kept", "position", "reason",
    )  # fmt: skip

    def __init__(self, info: RecordingInfo, position: int, *, buffer_s: float) -> None:
        self.info = info
        self.reason: EndReason | None = None
        """Why the recording has ended, if it has."""
        self.position = position
        """Samples per channel that were recorded. Whoever adds sound counts it here first."""
        self.is_kept = False
        """Whether sound is kept."""
        self._entries: deque[_Entry] = deque()
        self._first = 0  # the number of the first entry
        self._begin = position  # of the first entry
        self._format = self._last_format = info.format  # at the first entry, and after the last
        self._length = int(buffer_s * info.format.sample_rate_hz)  # to keep
        self._short = 0  # samples of gaps that do not count
        self._forget_at = self._stop_at = position
        self._listeners: tuple[Tap, ...] = ()

    def add(self, sound: Sequence[Sound] | None, kind: SampleKind) -> None:
        """Keep sound up to `position`, or a gap (None). Call it while `is_kept`."""
        if sound is None:
            begin = self._entries[-1][0] if self._entries else self._begin
            self._short += max(0, self.position - begin - GAP_COUNTS)
        counted = self.position - self._short
        self._entries.append((self.position, counted, kind, sound))
        if counted > self._forget_at:
            self._forget(counted)
        for listener in self._listeners:
            listener.on_news()

    def change_format(self, audio_format: AudioFormat) -> None:
        """Note with how many channels the recording goes on."""
        self._last_format = audio_format
        if self.is_kept:
            counted = self.position - self._short
            self._entries.append((self.position, counted, None, audio_format))

    def close(self, reason: EndReason) -> None:
        """Tell the listeners that the recording has ended."""
        if self.reason is None:
            self.reason = reason
            for listener in self._listeners:
                listener.on_news()

    def join(self, tap: Tap) -> None:
        self._listeners = (*self._listeners, tap)

    def leave(self, tap: Tap) -> None:
        """Let a listener go; after the last one, sound is kept until as much has passed again."""
        self._listeners = tuple(other for other in self._listeners if other is not tap)
        self._stop_at = self.position - self._short + self._length

    @property
    def is_heard(self) -> bool:
        return bool(self._listeners)

    def start(self) -> None:
        """Keep sound from now on."""
        if not self.is_kept:
            self.is_kept = True
            self._forget_at = self.position - self._short
            self._begin, self._format = self.position, self._last_format

    def stop(self) -> None:
        """Keep nothing any more."""
        self.is_kept = False
        self._first += len(self._entries)
        self._entries.clear()

    def first(self) -> _Place:
        """Return the place of the oldest sound."""
        return _Place(self._first, self._begin, self._format)

    def end(self) -> _Place:
        """Return the place of what comes next."""
        return _Place(self._first + len(self._entries), self.position, self._last_format)

    def read(self, number: int, count: int) -> list[_Entry] | None:
        """Return entries from a number on; None if they are forgotten."""
        start = number - self._first
        if start < 0:
            return None
        return list(itertools.islice(self._entries, start, start + count))

    def _forget(self, counted: int) -> None:
        """Forget what is too old, and everything if nobody has listened for long."""
        if not self._listeners and counted > self._stop_at:
            self.stop()
            return
        entries, kept_from = self._entries, counted - self._length
        while entries and entries[0][1] <= kept_from:
            self._begin, _, _, sound = entries.popleft()
            self._first += 1
            if isinstance(sound, AudioFormat):
                self._format = sound
        self._forget_at = counted + int(FORGET_S * self._last_format.sample_rate_hz)


@dataclass(slots=True)
class _Joined:
    """Neighbours of one kind and format, which a listener gets in one piece."""

    begin: int
    end: int
    kind: SampleKind
    format: AudioFormat
    pieces: list[Sound] | None
    """None for a gap."""

    def add(
        self,
        end: int,
        kind: SampleKind,
        sound: Sequence[Sound] | None,
        audio_format: AudioFormat,
    ) -> bool:
        """Add what comes next; return False if it is of another kind, or too much."""
        if kind is not self.kind or audio_format is not self.format:
            return False
        limit = MAX_GAP if sound is None else HEARD_SAMPLES
        if (sound is None) is not (self.pieces is None) or end - self.begin > limit:
            return False
        if self.pieces is not None and sound is not None:
            self.pieces += sound
        self.end = end
        return True


class Tap:
    """One listener of a ring (a `SoundTap`)."""

    def __init__(
        self,
        ring: SoundRing,
        decoders: DecoderFactory,
        *,
        from_start: bool,
        closed: Callable[[Tap], None],
    ) -> None:
        self.on_news: Callable[[], None] = _nothing
        self.ring = ring
        self._place = place = ring.first() if from_start else ring.end()
        info = ring.info
        self.start = TapStart(
            session_id=info.session_id,
            recording=info.id,
            track=info.track,
            sample_rate_hz=info.format.sample_rate_hz,
            channels=place.format.channels,
            position=place.position,
        )
        self._decoders = decoders
        self._decoder: tuple[int, Decoder] | None = None  # with its channels
        self._closed = closed
        self._is_told = False  # that the recording has ended

    def read(self) -> Sequence[TapItem]:
        missed: list[TapItem] = []
        entries = self.ring.read(self._place.number, BLOCKS_READ)
        if entries is None:
            first = self.ring.first()
            position = self._place.position
            missed.append(Missed(position, first.position - position))
            self._place = first
            entries = self.ring.read(first.number, BLOCKS_READ)
        if not entries:
            return missed or self._read_end()
        return [*missed, *self._heard(entries)]

    def close(self) -> None:
        self._closed(self)

    def _read_end(self) -> Sequence[TapItem]:
        if self.ring.reason is None or self._is_told:
            return ()
        self._is_told = True
        return (TapEnded(self.ring.reason),)

    def _heard(self, entries: Sequence[_Entry]) -> Sequence[Heard]:
        """Return what entries hold, and go on behind them."""
        number, position = self._place.number + len(entries), self._place.position
        audio_format = self._place.format
        joined: list[_Joined] = []
        for end, _, kind, sound in entries:
            if kind is None:
                assert isinstance(sound, AudioFormat)
                audio_format = sound
                continue
            assert not isinstance(sound, AudioFormat)
            is_more = bool(joined) and joined[-1].add(end, kind, sound, audio_format)
            if not is_more and end > position:
                pieces = None if sound is None else list(sound)
                joined.append(_Joined(position, end, kind, audio_format, pieces))
            position = end
        self._place = _Place(number, position, audio_format)
        return [self._decoded(item) for item in joined]

    def _decoded(self, item: _Joined) -> Heard:
        channels = item.format.channels
        samples = None if item.pieces is None else self._samples(item.pieces, channels)
        return Heard(item.begin, item.end - item.begin, item.kind, channels, samples)

    def _samples(self, pieces: Sequence[Sound], channels: int) -> Samples:
        samples = [
            self._decode(piece, channels) if isinstance(piece, EncodedSound) else piece
            for piece in pieces
        ]
        return samples[0] if len(samples) == 1 else np.concatenate(samples)

    def _decode(self, packet: EncodedSound, channels: int) -> Samples:
        """Decode a packet that is stored undecoded; one that cannot be is silence."""
        if self._decoder is None or self._decoder[0] != channels:
            audio_format = AudioFormat(self.start.sample_rate_hz, channels)
            self._decoder = channels, self._decoders(_OPUS, audio_format)
        decoder = self._decoder[1]
        samples: Samples = np.zeros((packet.length, channels), dtype="<i2")
        try:
            decoder.decode(packet.payload)
        except PayloadInvalid:
            return samples
        decoded = [piece for piece in decoder.collect() if not isinstance(piece, EncodedSound)]
        if decoded:
            sound = np.concatenate(decoded)[: packet.length]
            samples[: len(sound)] = sound
        return samples


class Taps:
    """The rings of all recordings of this process, and who listens to them (`SoundTaps`)."""

    def __init__(self, decoders: DecoderFactory, *, buffer_s: float, max_taps: int) -> None:
        """Keep the latest `buffer_s` of each recording that somebody listens to."""
        self._decoders = decoders
        self._buffer_s = buffer_s
        self._max_taps = max_taps
        self._rings: dict[tuple[str, int], SoundRing] = {}
        self._taps: set[Tap] = set()
        self._left: dict[SoundRing, None] = {}  # kept, and nobody listens; oldest first

    def begin(self, info: RecordingInfo, *, position: int = 0) -> SoundRing:
        """Make the ring of a recording, which begins or goes on at a position."""
        ring = SoundRing(info, position, buffer_s=self._buffer_s)
        self._rings[info.session_id, info.track] = ring
        return ring

    def end(self, ring: SoundRing, reason: EndReason) -> None:
        """Forget a ring, and tell its listeners why. May be called twice."""
        ring.close(reason)
        self._left.pop(ring, None)
        key = ring.info.session_id, ring.info.track
        if self._rings.get(key) is ring:
            del self._rings[key]

    def open(self, session_id: str, track: int, *, from_start: bool) -> Tap:
        ring = self._rings.get((session_id, track))
        if ring is None:
            raise SessionUnknown(UNKNOWN)
        if len(self._taps) >= self._max_taps:
            raise ServerFull(f"the server has {self._max_taps} listeners, as many as it may have")
        ring.start()
        self._left.pop(ring, None)
        tap = Tap(ring, self._decoders, from_start=from_start, closed=self._close)
        self._taps.add(tap)
        ring.join(tap)
        return tap

    def _close(self, tap: Tap) -> None:
        if tap not in self._taps:
            return
        self._taps.remove(tap)
        tap.ring.leave(tap)
        if tap.ring.reason is None and not tap.ring.is_heard:
            self._left[tap.ring] = None
            if len(self._left) > self._max_taps:  # their memory is limited, too
                oldest = next(iter(self._left))
                del self._left[oldest]
                oldest.stop()


def _nothing() -> None:
    """Do nothing at news: nobody waits for any yet."""
