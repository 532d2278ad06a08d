"""How many files and sockets a server's process may have open, and what they are for.

A recording needs files until it is complete, so it has them before any HTTP connection: connections
get what the sessions leave, and a flood of them takes nothing from a recording. This module only
divides the limit. `adapters/descriptors.py` holds what recordings will need, in case that others
take more than their share, or that the limit is too small.
"""

from __future__ import annotations

import logging
import resource

from entrypoints.settings import ServerSettings

OF_PROCESS = 64
"""Standard streams, listeners, UDP sockets, the index, what the store keeps for a moment, name
look-ups, connections being closed."""
PER_SESSION = 10
"""A track has two files, and four while it begins a part or is completed; each TURN server has a
socket. Clients with several tracks are few."""
FORWARDED = 3
"""A worker that forwards a request has two connections for it, and the other one has a third."""
LEAST_SHARE = 4
"""Connections get at least one of so many of what the process itself leaves."""
_log = logging.getLogger("gapless")


def raise_limit() -> None:
    """Raise the limit of this process, and of those it starts, as far as it may."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def connections_of(settings: ServerSettings, *, shares_requests: bool) -> int:
    """Return how many HTTP connections a process may have; `shares_requests` if it is a worker."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    left = limit - OF_PROCESS
    free = max(left - settings.max_sessions * PER_SESSION, left // LEAST_SHARE)
    return max(1, min(settings.max_connections, free // (FORWARDED if shares_requests else 1)))


def warn_if_short(settings: ServerSettings) -> None:
    """Say in one line if the limit is too small for `max_sessions`; workers share them."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    sessions = -(-settings.max_sessions // settings.workers)
    enough = OF_PROCESS + sessions * PER_SESSION
    if limit < enough:
        _log.warning(
            "%d sessions may need %d open files and sockets, and the limit is %d: raise it "
            "(ulimit -n, LimitNOFILE), or lower --max-sessions",
            sessions, enough, limit,
        )  # fmt: skip
