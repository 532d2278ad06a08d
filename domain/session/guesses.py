"""How often secrets may be wrong before the answers to further ones are delayed."""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass

MAX_NETWORKS = 4096
"""How many networks are remembered: those of the latest wrong secrets."""
MAX_WAIT_S = 60.0
RECOVERY_S = 300.0
"""After this long without a wrong secret, as many are free as at first."""
_MAX_DOUBLINGS = 6


@dataclass(slots=True)
class _Network:
    wrong: float
    """Wrong secrets that are not forgotten yet."""
    at: float
    """When the latest of them came."""
    open_at: float
    """Until then, wrong secrets only get to hear that they have to wait."""


class Guesses:
    """Counts the wrong secrets of each network.

    A network may send some that are wrong. Beyond that it has to wait, after each for twice as long
    as before, up to `MAX_WAIT_S`. What is right is none of this class's business: somebody else may
    use the same address.
    """

    def __init__(self, *, free: int) -> None:
        """`free` is how many may be wrong without a wait."""
        self._free = free
        self._networks: OrderedDict[str, _Network] = OrderedDict()  # the latest is the last

    def failed(self, network: str, *, now: float) -> float:
        """Note a wrong secret; return the seconds to wait, or 0 if it may be told that it is wrong.

        One that comes while its network has to wait does not prolong the wait.
        """
        found = self._networks.setdefault(network, _Network(0.0, now, now))
        self._networks.move_to_end(network)
        if len(self._networks) > MAX_NETWORKS:
            self._networks.popitem(last=False)
        if now < found.open_at:
            return found.open_at - now
        forgotten = (now - found.at) * self._free / RECOVERY_S
        found.wrong, found.at = max(0.0, found.wrong - forgotten) + 1, now
        beyond = math.ceil(found.wrong) - self._free
        if beyond >= 0:
            found.wrong = min(found.wrong, self._free + _MAX_DOUBLINGS)
            found.open_at = now + min(2.0**beyond, MAX_WAIT_S)
        return 0.0
