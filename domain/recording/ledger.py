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
MAX_SPANS = 200_000
"""A part whose ledger has so many spans is followed by another one: a sender can cause 2,000 spans
a second. With 10 % of loss they are those of six hours, and take 12 MB."""
ANCHOR = "anchor"
"""The type of events that tie RTP time to the wall clock. There is one after each break."""
LEFT_OUT = "events left out"
"""The type of the event that counts those beyond `MAX_EVENTS`."""
FREQUENT = frozenset(
    {
        ANCHOR,
        "ahead",
        "discontinuity",
        "outage",
        "overflow",
        "overlap",
        "reconnected",
        "stall",
        "timestamps",
    }
)
"""Types of events that a peer can cause often. Those that are close together become one."""
MERGE_S = 10.0
"""Timestamps that count wrong within this time of each other are one event."""
BURST, REFILL_S = 20, 60.0
"""Events of one type that stay apart however close they are, and the time that allows one more."""
_JOURNAL_S = 1.0
"""How often a merged event is written to the journal while it grows."""


class SampleKind(enum.Enum):
    """How a sample came about."""

    RECEIVED = "received"
    """Decoded from the packet that carried it."""
    RECOVERED = "recovered"
    """Its packet was lost; rebuilt from redundancy in another packet (in-band FEC, RED)."""
    RESTORED = "restored"
    """Its packet was lost; fetched from the client's spool: it is what was captured."""
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


class RestoreMode(enum.Enum):
    """What is fetched from the client's spool."""

    LOST = "lost"
    """What was recovered, concealed or is silence. DTX was meant, and stays."""
    ALL = "all"
    """Everything: the recording becomes what was captured, with its rate and depth."""
    OFF = "off"
    """Nothing, or the client has no spool."""

    def wants(self, kind: SampleKind) -> bool:
        """Return whether samples of a kind are to be replaced by what was captured."""
        if self is RestoreMode.LOST:
            return kind in (SampleKind.RECOVERED, SampleKind.CONCEALED, SampleKind.SILENCE)
        return self is RestoreMode.ALL


class RestoreState(enum.Enum):
    """How far a recording is restored."""

    LIVE = "live"
    """The session has not ended."""
    WAITING = "waiting"
    """The recording is complete, and waits for what its client has captured."""
    RESTORING = "restoring"
    """The client has sent everything, and the recording is being rewritten."""
    COMPLETE = "complete"
    """The recording has everything that its client has captured and that it wants."""
    EXPIRED = "expired"
    """The client did not send everything in time; what it has sent is in the recording."""
    OFF = "off"
    """The recording is not restored."""


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

    def moved(self, by: int) -> LedgerEvent:
        """Return the event `by` samples later; it may be a merged one."""
        details = dict(self.details)
        if isinstance(until := details.get("until"), int):
            details["until"] = until + by
        return LedgerEvent(self.type, self.position + by, details)


@dataclass(slots=True)
class _Latest:
    """The event of a type with which further ones may be merged."""

    index: int
    until: int
    """The position of its latest occurrence."""
    written: int
    """The position of the occurrence that was last written to the journal."""


@dataclass(slots=True)
class _Budget:
    """Events of a type that may stay apart at a position."""

    events: float = BURST
    position: int = 0


class Ledger:
    """Spans that cover a recording exactly; neighbours of one kind are merged.

    A span takes nine bytes: a day with 10 % loss takes megabytes, one without loss a few bytes.
    """

    def __init__(self, *, sample_rate_hz: int = 48_000) -> None:
        self._sample_rate_hz = sample_rate_hz
        self._latest: dict[str, _Latest] = {}  # by type
        self._budgets: dict[str, _Budget] = {}
        self._starts = array("q")
        self._kinds = array("b")
        self.events: list[LedgerEvent] = []
        self.events_left_out = 0
        self.length = 0
        """Samples per channel."""

    @property
    def is_full(self) -> bool:
        """Whether what follows should have another ledger. Spans can be added all the same."""
        return len(self._starts) >= MAX_SPANS

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

    def note(self, event: LedgerEvent) -> LedgerEvent | None:
        """Note an event; return what to write to the journal, if anything.

        An event that is merged with an earlier one has the position of that one, `count`, and the
        position `until` of its latest occurrence. An anchor replaces the one before it.
        """
        is_frequent = event.type in FREQUENT
        if is_frequent and (index := self._mergeable_with(event)) is not None:
            return self._merge(index, event)
        if len(self.events) >= MAX_EVENTS:
            self.events_left_out += 1
            return None
        self.events.append(event)
        if is_frequent:
            self._latest[event.type] = _Latest(len(self.events) - 1, event.position, event.position)
        return event

    def _mergeable_with(self, event: LedgerEvent) -> int | None:
        """Return the index of the event that this one is to be merged with."""
        latest = self._latest.get(event.type)
        budget = self._budgets.setdefault(event.type, _Budget())
        passed_s = (event.position - budget.position) / self._sample_rate_hz
        budget.events = min(float(BURST), budget.events + max(0.0, passed_s) / REFILL_S)
        budget.position = event.position
        if latest is not None:
            since_s = (event.position - latest.until) / self._sample_rate_hz
            is_full = budget.events < 1 or len(self.events) >= MAX_EVENTS
            if is_full or (event.type == "timestamps" and since_s < MERGE_S):
                return latest.index
        budget.events -= 1
        return None

    def _merge(self, index: int, event: LedgerEvent) -> LedgerEvent | None:
        first, latest = self.events[index], self._latest[event.type]
        # of anchors only the latest one counts
        merged = event if event.type == ANCHOR else _merged(first, event)
        self.events[index] = merged
        latest.until = event.position
        if event.position - latest.written < _JOURNAL_S * self._sample_rate_hz:
            return None
        latest.written = event.position
        return merged

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


def _merged(first: LedgerEvent, event: LedgerEvent) -> LedgerEvent:
    """Return one event for both."""
    details = {**first.details, **event.details, "at": first.details.get("at")}
    details["until"] = event.position
    details["count"] = first.details.get("count", 1) + event.details.get("count", 1)
    for summed in ("length", "fill_samples"):
        if summed in details:
            details[summed] = first.details.get(summed, 0) + event.details.get(summed, 0)
    return LedgerEvent(first.type, first.position, details)


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
    room: str = field(default="", kw_only=True)
    """The room of its session; empty if there is none."""
    title: str = field(default="", kw_only=True)
    """The name that the client gave, see `title_of`; empty if it gave none."""
    restore: RestoreMode = field(default=RestoreMode.OFF, kw_only=True)
    """What the recording will get from its client's spool."""


def document(
    info: RecordingInfo,
    ledger: Ledger,
    *,
    ended_at: datetime.datetime | None,
    end_reason: str | None,
    sha256: str | None,
    loudness: Loudness | None = None,
    restore_state: RestoreState = RestoreState.WAITING,
) -> dict[str, Any]:
    """Return the ledger as it is written beside its recording (stable format, version 1).

    `sha256` is the hash of the PCM data in the file, or of the whole file if it holds packets.
    `loudness` is only known for decoded sound. A recording that is being written has neither an
    end nor a hash. `restore_state` counts only for a recording whose client has a spool.
    """
    left_out = []
    if ledger.events_left_out:
        details = {"count": ledger.events_left_out}
        left_out.append(LedgerEvent(LEFT_OUT, ledger.length, details).as_json())
    return {
        "version": LEDGER_VERSION,
        **describe(info),
        "ended_at": None if ended_at is None else timestamp(ended_at),
        "end_reason": end_reason,
        "length_samples": ledger.length,
        "sha256": sha256,
        "levels": None if loudness is None else loudness.as_json(),
        "restore": describe_restoring(info.restore, ledger, restore_state),
        "spans": [
            {"start": span.start, "length": span.length, "kind": span.kind.value}
            for span in ledger.spans()
        ],
        "events": [event.as_json() for event in ledger.events] + left_out,
    }


def describe_restoring(
    mode: RestoreMode, ledger: Ledger, state: RestoreState
) -> dict[str, Any] | None:
    """Return what the ledger says of restoring, in samples per channel; None without a spool."""
    if mode is RestoreMode.OFF:
        return None
    samples = totals(list(ledger.spans()))
    restored = samples[SampleKind.RESTORED]
    wanted = sum(count for kind, count in samples.items() if mode.wants(kind))
    if state is RestoreState.COMPLETE:
        wanted = 0
    elif mode is RestoreMode.ALL:
        wanted -= restored
    return {"state": state.value, "mode": mode.value, "wanted": wanted, "restored": restored}


def describe(info: RecordingInfo) -> dict[str, Any]:
    """Return the fields of a ledger that are known from the beginning."""
    return {
        "id": info.id,
        "track": info.track,
        "name": info.name,
        "room": info.room or None,
        "title": info.title or None,
        **info.format.as_json(),
        "codec": info.codec,
        "container": info.container.value,
        "started_at": timestamp(info.started_at),
    }


def timestamp(moment: datetime.datetime) -> str:
    """Format a time as RFC 3339 in UTC, to the microsecond."""
    return moment.astimezone(datetime.UTC).isoformat(timespec="microseconds")
