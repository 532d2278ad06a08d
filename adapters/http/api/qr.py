"""Draws QR codes with segno."""

from __future__ import annotations

from collections.abc import Sequence

import segno


def qr_rows(text: str) -> Sequence[str] | None:
    """Return the rows of a text's QR code; None if the text is too long for one (2953 bytes).

    Each row has a character for each module: 1 for a dark one, 0 for a light one. The quiet zone
    around them, four light modules wide, is not included. A long text takes a tenth of a second.
    """
    try:
        # a screen damages nothing of the code, so the lowest level will do
        code = segno.make_qr(text, error="l")
    except segno.DataOverflowError:
        return None
    return ["".join("1" if module else "0" for module in row) for row in code.matrix]
