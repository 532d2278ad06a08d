"""How much of each kind is in the intervals of a recording."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from domain.recording.ledger import SampleKind, Span

KINDS: Sequence[SampleKind] = tuple(SampleKind)
CODES: Mapping[SampleKind, int] = {kind: code for code, kind in enumerate(KINDS)}


class SpanMap:
    """The spans of a part, which cover it from its beginning on."""

    def __init__(self, starts: npt.ArrayLike, codes: npt.ArrayLike) -> None:
        """`codes` are positions in `KINDS`; the last span has no end."""
        self._starts = np.asarray(starts, np.int64)
        self._codes = np.asarray(codes, np.int8)

    @classmethod
    def of(cls, spans: Iterable[Span]) -> SpanMap:
        found = [(span.start, CODES[span.kind]) for span in spans]
        return cls([start for start, _ in found], [code for _, code in found])

    def lengths(self, bounds: npt.NDArray[np.int64]) -> dict[SampleKind, npt.NDArray[np.int64]]:
        """Return the samples of each kind between neighbouring `bounds`, which ascend.

        Kinds that do not occur there are left out.
        """
        if not len(self._starts) or len(bounds) < 2:
            return {}
        first = max(0, int(np.searchsorted(self._starts, bounds[0], "right")) - 1)
        last = int(np.searchsorted(self._starts, bounds[-1], "left"))
        starts, codes = self._starts[first:last], self._codes[first:last]
        if not len(starts):
            return {}
        lasting = np.diff(starts, append=max(int(bounds[-1]), int(starts[-1])))
        clipped = np.maximum(bounds, starts[0])
        within = np.searchsorted(starts, clipped, "right") - 1
        found = {}
        for code in np.unique(codes):
            is_kind = codes == code
            before = np.concatenate([[0], np.cumsum(np.where(is_kind, lasting, 0))])
            reached = before[within] + np.where(is_kind[within], clipped - starts[within], 0)
            lengths = np.diff(reached)
            if lengths.any():
                found[KINDS[code]] = lengths
        return found


def shares_of(
    parts: Iterable[tuple[int, int, SpanMap]], bounds: npt.NDArray[np.int64]
) -> dict[SampleKind, npt.NDArray[np.float64]]:
    """Return how much of each interval is of a kind, from 0 to 1, for the kinds that occur.

    Each part comes with its start and length. What no part has is silence.
    """
    widths = np.diff(bounds)
    found: dict[SampleKind, npt.NDArray[np.int64]] = {}
    lacking = widths.copy()
    for start, length, spans in parts:
        for kind, lengths in spans.lengths(np.clip(bounds - start, 0, length)).items():
            found[kind] = found[kind] + lengths if kind in found else lengths
            lacking -= lengths
    if (lacking > 0).any():
        found[SampleKind.SILENCE] = found.get(SampleKind.SILENCE, 0) + np.maximum(lacking, 0)
    return {kind: found[kind] / widths for kind in SampleKind if kind in found}
