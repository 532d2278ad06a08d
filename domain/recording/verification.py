"""Checks whether a recording is what its ledger says, and how complete it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from domain.recording.ledger import (
    LEDGER_VERSION,
    RestoreMode,
    RestoreState,
    SampleKind,
    Span,
    longest_gap,
    totals,
)
from domain.recording.naming import file_name
from domain.recording.reading import shown, text, whole
from domain.recording.source_comparison import SourceVerdict
from domain.recording.wall_clock import WallClock, compare_with_wall_clock
from domain.sound.formats import AudioFormat


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What an inspection of a recording found."""

    path: str
    format: AudioFormat | None
    """None when the file is not a recording."""
    length: int
    """Samples per channel."""
    sha256: str
    ledger: object
    """The parsed JSON of the ledger; None when it is missing or cannot be parsed."""
    problems: Sequence[str] = ()
    """What is wrong with the files, whatever the ledger says."""
    source: SourceVerdict | None = None
    """How it differs from what was captured, if that was to be compared."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The largest acceptable fractions of a recording that were not received."""

    recovered: float = 1.0
    concealed: float = 1.0
    silence: float = 1.0
    gap_s: float = float("inf")
    """The longest acceptable gap."""


@dataclass(frozen=True, slots=True)
class Restoring:
    """What a ledger says of restoring its recording."""

    state: RestoreState
    mode: RestoreMode
    wanted: int
    """Samples per channel that could still be replaced."""
    restored: int
    """Samples per channel."""

    def as_json(self) -> dict[str, Any]:
        return {
            "state": self.state.value,
            "mode": self.mode.value,
            "wanted": self.wanted,
            "restored": self.restored,
        }


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of checking a recording."""

    path: str
    format: AudioFormat | None
    length: int
    samples: Mapping[SampleKind, int]
    longest_gap: Span | None
    end_reason: str | None
    problems: Sequence[str] = field(default_factory=list)
    wall_clock: WallClock | None = None
    """How its length differs from the wall clock; None if the ledger does not tell."""
    restoring: Restoring | None = None
    """None if its client has no spool."""
    source: SourceVerdict | None = None
    """How it differs from what was captured, if that was to be compared."""

    @property
    def ok(self) -> bool:
        return not self.problems

    def as_json(self) -> dict[str, Any]:
        """Return the object that `gapless verify --json` prints (stable format)."""
        return {
            "file": self.path,
            "ok": self.ok,
            "problems": list(self.problems),
            "length_samples": self.length,
            "sample_rate_hz": self.format.sample_rate_hz if self.format else None,
            "channels": self.format.channels if self.format else None,
            "samples": {kind.value: count for kind, count in self.samples.items()},
            "longest_gap_samples": self.longest_gap.length if self.longest_gap else 0,
            "end_reason": self.end_reason,
            "wall_clock": None if self.wall_clock is None else self.wall_clock.as_json(),
            "restore": None if self.restoring is None else self.restoring.as_json(),
            "source": None if self.source is None else self.source.as_json(),
        }


def verify(facts: FileFacts, limits: Limits) -> Verdict:
    """Compare a recording with its ledger, and with the limits."""
    problems = list(facts.problems)
    spans: list[Span] = []
    end_reason: str | None = None
    wall_clock: WallClock | None = None
    restoring: Restoring | None = None
    if isinstance(facts.ledger, dict):
        problems += _field_problems(facts.ledger, facts)
        spans, span_problems = read_spans(facts.ledger.get("spans"), facts.length)
        problems += span_problems
        reason = facts.ledger.get("end_reason")
        end_reason = reason if isinstance(reason, str) else None
        problems += _name_problems(facts.ledger)
        wall_clock = compare_with_wall_clock(facts.ledger)
        if wall_clock is not None and (problem := wall_clock.problem) is not None:
            problems.append(problem)
        restoring, restore_problems = _read_restoring(facts.ledger.get("restore"), spans)
        problems += restore_problems
    elif facts.ledger is not None:
        problems.append("the ledger is not a JSON object")
    if facts.source is not None:
        problems += facts.source.problems
    samples = totals(spans)
    gap = longest_gap(spans)
    if facts.format is not None:
        problems += _limit_problems(samples, gap, facts.length, facts.format, limits)
    return Verdict(
        path=facts.path,
        format=facts.format,
        length=facts.length,
        samples=samples,
        longest_gap=gap,
        end_reason=end_reason,
        problems=problems,
        wall_clock=wall_clock,
        restoring=restoring,
        source=facts.source,
    )


def _name_problems(ledger: dict[str, Any]) -> list[str]:
    """Return what is wrong with the name: others use it to name files."""
    try:
        file_name(text(ledger["name"]))
    except (KeyError, ValueError):
        return [f"name: {shown(ledger.get('name'))} cannot be that of a recording"]
    return []


def _field_problems(ledger: dict[str, Any], facts: FileFacts) -> list[str]:
    if ledger.get("version") != LEDGER_VERSION:
        return [f"the ledger has version {shown(ledger.get('version'))}, not {LEDGER_VERSION}"]
    true: dict[str, object] = {"length_samples": facts.length, "sha256": facts.sha256}
    if facts.format is not None:
        true |= facts.format.as_json()
    return [
        f"{name}: the ledger says {shown(ledger.get(name))}, the file {value!r}"
        for name, value in true.items()
        if ledger.get(name) != value
    ]


def read_spans(entries: object, length: int) -> tuple[list[Span], list[str]]:
    """Return the spans up to the first that is invalid, and the problem with that one."""
    spans: list[Span] = []
    if not isinstance(entries, list):
        return spans, ["the ledger has no spans"]
    end = 0
    for index, entry in enumerate(entries):
        try:
            span = Span(whole(entry["start"]), whole(entry["length"]), SampleKind(entry["kind"]))
        except (KeyError, TypeError, ValueError):
            return spans, [f"span {index} cannot be read"]
        if span.start != end or span.length <= 0:
            return spans, [f"span {index} begins at {span.start}, the one before ends at {end}"]
        if spans and spans[-1].kind is span.kind:
            return spans, [f"span {index} is of the same kind as the one before"]
        spans.append(span)
        end = span.start + span.length
    if end != length:
        return spans, [f"the spans cover {end} samples, the file has {length}"]
    return spans, []


def _read_restoring(entry: Any, spans: Sequence[Span]) -> tuple[Restoring | None, list[str]]:
    restored = totals(spans)[SampleKind.RESTORED]
    if entry is None:  # a client without a spool, or an older ledger
        return None, [f"{restored} samples are restored, from no spool"] if restored else []
    try:
        found = Restoring(
            RestoreState(entry["state"]),
            RestoreMode(entry["mode"]),
            whole(entry["wanted"]),
            whole(entry["restored"]),
        )
    except (KeyError, TypeError, ValueError):
        return None, ["what the ledger says of restoring cannot be read"]
    if found.restored != restored:
        says = f"the ledger says that {found.restored} samples are restored"
        return found, [f"{says}, its spans say {restored}"]
    return found, []


def _limit_problems(
    samples: Mapping[SampleKind, int],
    gap: Span | None,
    length: int,
    audio_format: AudioFormat,
    limits: Limits,
) -> list[str]:
    problems = []
    for kind, limit in (
        (SampleKind.RECOVERED, limits.recovered),
        (SampleKind.CONCEALED, limits.concealed),
        (SampleKind.SILENCE, limits.silence),
    ):
        share = samples[kind] / length if length else 0.0
        if share > limit:
            problems.append(f"{share:.2%} is {kind.value}, more than {limit:.2%}")
    gap_s = gap.length / audio_format.sample_rate_hz if gap else 0.0
    if gap_s > limits.gap_s:
        problems.append(f"the longest gap is {gap_s:.3f} s, more than {limits.gap_s:g} s")
    return problems
