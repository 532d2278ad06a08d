"""The ledger of a recording: the kind of every sample, and events."""

from __future__ import annotations

import datetime
import enum
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from domain.sound.formats import AudioFormat
from domain.sound.levels import Loudness

LEDGER_VERSION = 1
MAX_EVENTS = 10_000
"""Events that a ledger keeps; further ones are only counted. A peer can cause any number."""


class SampleKind(enum.Enum):
    """How a sample came about."""

    RECEIVED = "received"
    """Decoded from the packet that carried it."""
    RECOVERED = "recovered"
    """Its packet was lost; rebuilt from redundancy in another packet (in-band FEC, RED)."""
    CONCEALED = "concealed"
    """Its packet was lost; the decoder extrapolated the sound before it."""
    SILENCE = "silence"
    """No sound is known for this time."""
    DTX = "dtx"
    """The sender was silent and sent nothing on purpose (discontinuous transmission)."""

    @property
    def has_packet(self) -> bool:
        """Whether a recording of packets holds packets for samples of this kind."""
        return self in (SampleKind.RECEIVED, SampleKind.RECOVERED)


_KINDS = list(SampleKind)
_CODES = {kind: code for code, kind in enumerate(_KINDS)}


@dataclass(frozen=True, slots=True)
class Span:
    """A run of samples of one kind; `start` and `length` are in samples per channel."""

    start: int
    length: int
    kind: SampleKind


@dataclass(frozen=True, slots=True)
class LedgerEvent:
    """Something that happened at a position of the recording."""

    type: str
    position: int
    details: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    def as_json(self) -> dict[str, Any]:
        return {"type": self.type, "position": self.position, **self.details}


class Ledger:
    """Spans that cover a recording exactly; neighbours of one kind are merged.

    A span takes nine bytes: a day with 10 % loss takes megabytes, one without loss a few bytes.
    """

    def __init__(self) -> None:
        self._starts = array("q")
        self._kinds = array("b")
        self.events: list[LedgerEvent] = []
        self.events_left_out = 0
        self.length = 0
        """Samples per channel."""

    def add(self, kind: SampleKind, length: int) -> bool:
        """Append `length` samples; return True when they begin a new span."""
        if length <= 0:
            return False
        code = _CODES[kind]
        begins = not self._kinds or self._kinds[-1] != code
        if begins:
            self._starts.append(self.length)
            self._kinds.append(code)
        self.length += length
        return begins

    def note(self, event: LedgerEvent) -> bool:
        """Append an event; return False when there are too many."""
        if len(self.events) >= MAX_EVENTS:
            self.events_left_out += 1
            return False
        self.events.append(event)
        return True

    def spans(self) -> Iterator[Span]:
        """Return all spans in order."""
        for index, start in enumerate(self._starts):
            last = index + 1 == len(self._starts)
            end = self.length if last else self._starts[index + 1]
            yield Span(start, end - start, _KINDS[self._kinds[index]])

    def truncate(self, length: int) -> None:
        """Drop the samples behind `length`."""
        while self._starts and self._starts[-1] >= length:
            self._starts.pop()
            self._kinds.pop()
        self.length = min(self.length, length)


def totals(spans: Sequence[Span]) -> dict[SampleKind, int]:
    """Return the number of samples of each kind."""
    sums = dict.fromkeys(SampleKind, 0)
    for span in spans:
        sums[span.kind] += span.length
    return sums


def longest_gap(spans: Sequence[Span]) -> Span | None:
    """Return the longest run of concealed samples and silence; None if there is none."""
    missing = (SampleKind.CONCEALED, SampleKind.SILENCE)
    longest = run = None
    for span in spans:
        if span.kind not in missing:
            run = None
            continue
        if run is None:
            run = span
        else:
            run = Span(run.start, span.start + span.length - run.start, SampleKind.SILENCE)
        if longest is None or run.length > longest.length:
            longest = run
    return longest


class Container(enum.Enum):
    """The file format of a recording; the value is the file name extension."""

    WAV = "wav"
    """PCM: each packet was decoded when it arrived."""
    OGG = "opus"
    """Opus packets as they arrived (RFC 7845), to be decoded later."""


@dataclass(frozen=True, slots=True)
class RecordingInfo:
    """The facts about a recording that are known when it begins."""

    id: str
    """The id of the recording, see `naming.recording_id`."""
    name: str
    """Made by the server; unique, and safe as a file name."""
    format: AudioFormat
    codec: str
    started_at: datetime.datetime
    """When the first sample was recorded, UTC."""
    resume_digest: str = ""
    """SHA-256 (hex) of the secret with which its client may resume it; not in the ledger."""
    container: Container = Container.WAV
    is_rendering: bool = False
    """Whether it is rendered from another recording, which can be repeated; not in the ledger."""
    session_id: str = field(kw_only=True)
    track: int = field(default=1, kw_only=True)
    """Number of the track in the session, from 1."""


def document(
    info: RecordingInfo,
    ledger: Ledger,
    *,
    ended_at: datetime.datetime | None,
    end_reason: str | None,
    sha256: str | None,
    loudness: Loudness | None = None,
) -> dict[str, Any]:
    """Return the ledger as it is written beside its recording (stable format, version 1).

    `sha256` is the hash of the PCM data in the file, or of the whole file if it holds packets.
    `loudness` is only known for decoded sound. A recording that is being written has neither an
    end nor a hash.
    """
    left_out = []
    if ledger.events_left_out:
        details = {"count": ledger.events_left_out}
        left_out.append(LedgerEvent("events left out", ledger.length, details).as_json())
    return {
        "version": LEDGER_VERSION,
        **describe(info),
        "ended_at": None if ended_at is None else timestamp(ended_at),
        "end_reason": end_reason,
        "length_samples": ledger.length,
        "sha256": sha256,
        "levels": None if loudness is None else loudness.as_json(),
        "spans": [
            {"start": span.start, "length": span.length, "kind": span.kind.value}
            for span in ledger.spans()
        ],
        "events": [event.as_json() for event in ledger.events] + left_out,
    }


def describe(info: RecordingInfo) -> dict[str, Any]:
    """Return the fields of a ledger that are known from the beginning."""
    return {
        "id": info.id,
        "track": info.track,
        "name": info.name,
        "sample_rate_hz": info.format.sample_rate_hz,
        "channels": info.format.channels,
        "sample_format": info.format.sample_format.value,
        "codec": info.codec,
        "container": info.container.value,
        "started_at": timestamp(info.started_at),
    }


def timestamp(moment: datetime.datetime) -> str:
    """Format a time as RFC 3339 in UTC, to the microsecond."""
    return moment.astimezone(datetime.UTC).isoformat(timespec="microseconds")
