"""Checks whether a recording is what its ledger says, and how complete it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from domain.recording.ledger import LEDGER_VERSION, SampleKind, Span, longest_gap, totals
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


@dataclass(frozen=True, slots=True)
class Limits:
    """The largest acceptable fractions of a recording that were not received."""

    recovered: float = 1.0
    concealed: float = 1.0
    silence: float = 1.0
    gap_s: float = float("inf")
    """The longest acceptable gap."""


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
        }


def verify(facts: FileFacts, limits: Limits) -> Verdict:
    """Compare a recording with its ledger, and with the limits."""
    problems = list(facts.problems)
    spans: list[Span] = []
    end_reason: str | None = None
    if isinstance(facts.ledger, dict):
        problems += _field_problems(facts.ledger, facts)
        spans, span_problems = read_spans(facts.ledger.get("spans"), facts.length)
        problems += span_problems
        reason = facts.ledger.get("end_reason")
        end_reason = reason if isinstance(reason, str) else None
    elif facts.ledger is not None:
        problems.append("the ledger is not a JSON object")
    samples = totals(spans)
    gap = longest_gap(spans)
    if facts.format is not None:
        problems += _limit_problems(samples, gap, facts.length, facts.format, limits)
    return Verdict(facts.path, facts.format, facts.length, samples, gap, end_reason, problems)


def _field_problems(ledger: dict[str, Any], facts: FileFacts) -> list[str]:
    if ledger.get("version") != LEDGER_VERSION:
        return [f"the ledger has version {ledger.get('version')!r}, not {LEDGER_VERSION}"]
    true: dict[str, object] = {"length_samples": facts.length, "sha256": facts.sha256}
    if facts.format is not None:
        true |= {
            "sample_rate_hz": facts.format.sample_rate_hz,
            "channels": facts.format.channels,
            "sample_format": facts.format.sample_format.value,
        }
    return [
        f"{name}: the ledger says {ledger.get(name)!r}, the file {value!r}"
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
            span = Span(int(entry["start"]), int(entry["length"]), SampleKind(entry["kind"]))
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
