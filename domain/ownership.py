"""Which of a server's worker processes a session belongs to: its id and its secret say so.

Both begin with the owner's number in hex. With another number of workers than before, what an
earlier server has left is shared out anew, by the same rule in all of them.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

MAX_WORKERS = 256
_DIGITS = 2


@dataclass(frozen=True, slots=True)
class Share:
    """One worker's part of a server."""

    number: int = 0
    count: int = 1

    def owns(self, text: str) -> bool:
        """Whether an id, a secret, or the name of a recording (it ends with the id) is ours."""
        return owner_of(text.rpartition("-")[2], self.count) == self.number

    def mark(self, secret: str) -> str:
        """A hexadecimal secret of the same length that says whose it is."""
        return f"{self.number:0{_DIGITS}x}{secret[_DIGITS:]}"


def owner_of(text: str, count: int) -> int:
    """The worker that an id or a secret names; what is neither is the first one's."""
    try:
        return int(text[:_DIGITS], 16) % count
    except ValueError:
        return 0


def taker_of(offer: str, count: int) -> int:
    """The worker that takes an offer: the same one, should it be sent again."""
    return hashlib.sha256(offer.encode(errors="surrogatepass")).digest()[0] % count
