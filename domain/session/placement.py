"""Which of a server's worker processes a session belongs to: its id and its secret say so.

Both begin with the owner's number in hex. With another number of workers than before, what an
earlier server has left is shared out anew, by the same rule in all of them.

A session that is still to be is nobody's: the worker with the fewest takes it.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from typing import Protocol

MAX_WORKERS = 256
ABSENT = 2**31 - 1
"""Instead of a count of sessions: that worker is not there."""
_DIGITS = 2
_REMEMBERED = 10_000


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


def registrar_of(offer: str, count: int) -> int:
    """The worker that says who takes an offer: the same one, should it be sent again."""
    return _digest(offer)[0] % count


class Counts(Protocol):
    """Numbers by worker, in memory that all of them share; each is read and written at once."""

    def __len__(self) -> int: ...

    def __getitem__(self, worker: int, /) -> int: ...

    def __setitem__(self, worker: int, count: int, /) -> None: ...


class Registrar:
    """Deals out the offers that fall to one worker, by what all of them have to do.

    An offer that is sent again (its answer was lost) goes where it went before; the latest ten
    thousand are remembered.
    """

    def __init__(self, share: Share, counts: Counts) -> None:
        self._share = share
        self._counts = counts
        self._takers: OrderedDict[bytes, int] = OrderedDict()

    def tell(self, sessions: int) -> None:
        """So many sessions this worker has; it has to say so a few times a second."""
        self._counts[self._share.number] = sessions

    def taker_of(self, offer: str) -> int:
        """The worker that takes an offer."""
        key = _digest(offer)
        taker = self._takers.get(key)
        if taker is None:
            taker = min(range(len(self._counts)), key=self._counts.__getitem__)
            self._counts[taker] += 1  # until it tells the next time
            self._takers[key] = taker
            if len(self._takers) > _REMEMBERED:
                self._takers.popitem(last=False)
        return taker


def _digest(offer: str) -> bytes:
    return hashlib.sha256(offer.encode(errors="surrogatepass")).digest()
