"""`gapless verify`."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from domain.errors import InputUnreadable
from domain.recording.ledger import SampleKind
from domain.recording.verification import FileFacts, Limits, Verdict, verify
from entrypoints.container import ToolsContainer
from entrypoints.terminal import clock_time


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
@click.option("--max-gap", type=float, metavar="SECONDS", help="Longest gap allowed.")
def verify_command(
    files: tuple[str, ...],
    as_json: bool,
    max_recovered: float,
    max_concealed: float,
    max_silence: float,
    max_gap: float | None,
) -> None:
    """Check recordings against their ledgers.

    Checks length, spans, hash and header of each file. Prints how much was received, recovered or
    concealed, how much is silence or DTX (the sender paused on purpose), and where the longest gap
    is. The exit code is 0 if all recordings are valid and within the limits, and 1 otherwise.

    \b
    Examples:
      gapless verify ~/recordings/*.wav
      gapless verify --max-concealed 1% --max-silence 0.1% --max-gap 0.5 talk.wav
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
            facts = inspector.inspect(file)
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
    if verdict.end_reason is not None:
        lines.append(f"  ended      {verdict.end_reason}")
    return "\n".join(lines)
