"""`gapless verify`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

import click

from domain.errors import InputUnreadable
from domain.recording.ledger import RestoreState, SampleKind
from domain.recording.source_comparison import SourceVerdict
from domain.recording.verification import FileFacts, Limits, Restoring, Verdict, verify
from domain.recording.wall_clock import WallClock
from entrypoints.container import ToolsContainer
from entrypoints.terminal import clock_time, printable

_LONGEST_REASON = 200
"""Characters of a reason that are shown."""


class _Fraction(click.ParamType[float]):
    """A fraction of a recording, such as ``1%`` or ``0.01``."""

    name = "SHARE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, float):
            return value
        text = str(value)
        try:
            fraction = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
        except ValueError:
            fraction = -1.0
        if not 0 <= fraction <= 1:
            self.fail(f"{text!r} is not a share such as 1% or 0.01", param, ctx)
        return fraction


@click.command("verify")
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object per line, for programs."
)
@click.option(
    "--max-recovered", type=_Fraction(), default=1.0, help="Largest share that may be recovered."
)
@click.option(
    "--max-concealed", type=_Fraction(), default=1.0, help="Largest share that may be concealed."
)
@click.option(
    "--max-silence", type=_Fraction(), default=1.0, help="Largest share that may be silence."
)
@click.option(
    "--source", type=click.Path(exists=True, dir_okay=False), metavar="FILE",
    help="File with what was captured, to compare the recording with it.",
)  # fmt: skip
@click.option("--max-gap", type=float, metavar="SECONDS", help="Longest gap allowed.")
def verify_command(
    files: tuple[str, ...],
    as_json: bool,
    max_recovered: float,
    max_concealed: float,
    max_silence: float,
    source: str | None,
    max_gap: float | None,
) -> None:
    """Check recordings against their ledgers.

    Checks length, spans, hash and header of each file. Prints how much was received, recovered,
    restored or concealed, how much is silence or DTX (the sender paused on purpose), where the
    longest gap is, how far it is restored from what its client has captured, and by how much the
    length differs from the wall clock. The exit code is 0 if all recordings are valid and within
    the limits, and 1 otherwise.

    With --source, restored sound is compared with what was captured, sample by sample, and received
    sound by its likeness. FILE is a WAV or FLAC with all that the client has captured, such as
    `gapless spool export` writes. Each restored sample has to be that of FILE, and the length that
    of FILE and the time in which nothing was captured. Where FILE has another rate than the
    recording, restored sound is compared by its likeness, too; --restore all keeps the rate.

    \b
    Examples:
      gapless verify ~/recordings/*.wav
      gapless verify --max-concealed 1% --max-silence 0.1% --max-gap 0.5 talk.wav
      gapless verify --source captured.wav ~/recordings/talk.wav
      gapless verify --json ~/recordings/*.wav | jq 'select(.ok | not)'
    """
    limits = Limits(
        recovered=max_recovered,
        concealed=max_concealed,
        silence=max_silence,
        gap_s=float("inf") if max_gap is None else max_gap,
    )
    inspector = ToolsContainer().inspector()
    all_sound = True
    for file in files:
        try:
            facts = inspector.inspect(file, source)
        except InputUnreadable as error:
            facts = FileFacts(file, None, 0, "", None, [str(error)])
        verdict = verify(facts, limits)
        all_sound &= verdict.ok
        click.echo(json.dumps(verdict.as_json()) if as_json else _text(verdict))
    if not all_sound:
        sys.exit(1)


def _text(verdict: Verdict) -> str:
    lines = [f"{verdict.path}: {'sound' if verdict.ok else 'NOT SOUND'}"]
    lines += [f"  problem    {problem}" for problem in verdict.problems]
    if verdict.format is not None:
        rate = verdict.format.sample_rate_hz
        lines.append(f"  length     {clock_time(verdict.length / rate)}, {verdict.format}")
        for kind in SampleKind:
            count = verdict.samples[kind]
            if count or kind is SampleKind.RECEIVED:
                share = count / verdict.length if verdict.length else 0.0
                lines.append(f"  {kind.value:<10} {share:8.3%}  {count / rate:.3f} s")
        if verdict.longest_gap is not None:
            gap = verdict.longest_gap
            lines.append(
                f"  longest gap {gap.length / rate:.3f} s at {clock_time(gap.start / rate)}"
            )
        if verdict.restoring is not None:
            lines.append(f"  restoring  {_state(verdict.restoring, rate)}")
        if verdict.source is not None:
            lines += [f"  source     {text}" for text in _comparison(verdict.source, rate)]
    if (clock := verdict.wall_clock) is not None:
        lines.append(f"  wall clock {clock.difference_s:+.3f} s{_skew(clock)}")
    if verdict.end_reason is not None:
        lines.append(f"  ended      {verdict.end_reason[:_LONGEST_REASON]}")
    return "\n".join(map(printable, lines))  # a reason must not look like a line of its own


def _state(restoring: Restoring, rate: int) -> str:
    wanted = f"{restoring.wanted / rate:.3f} s"
    match restoring.state:
        case RestoreState.LIVE:
            text = f"the session has not ended, {wanted} wanted"
        case RestoreState.WAITING:
            text = f"waiting for the client, {wanted} wanted"
        case RestoreState.RESTORING:
            text = "the client has sent everything, and the file is being rewritten"
        case RestoreState.COMPLETE:
            text = "complete"
        case RestoreState.EXPIRED:
            text = f"incomplete, {wanted} did not come in time"
        case RestoreState.OFF:
            text = "off"
    return f"{text} (mode {restoring.mode.value})"


def _comparison(found: SourceVerdict, rate: int) -> Iterator[str]:
    yield found.source
    if found.equal is not None and found.restored:
        yield f"{found.equal} of {found.restored} restored samples are equal"
    for kind, likeness in (
        ("restored", found.restored_likeness),
        ("received", found.received_likeness),
    ):
        if likeness is not None:
            delay_ms = likeness.delay / rate * 1000
            yield (
                f"{kind} sound has correlation {likeness.correlation:.3f}, "
                f"level {likeness.level_difference_db:+.2f} dB, delay {delay_ms:+.2f} ms"
            )


def _skew(clock: WallClock) -> str:
    if clock.skew_ppm is None:
        return ""
    verdict = ": the sender's clock is wrong" if clock.is_clock_wrong else ""
    return f", skew {clock.skew_ppm:+.0f} ppm{verdict}"
