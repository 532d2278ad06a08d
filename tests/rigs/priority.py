"""Priority over other work of the machine, for what depends on real time."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

_PRIORITY = -10


@contextlib.contextmanager
def ahead_of_others() -> Iterator[None]:
    """Run this thread and the processes that it starts before others, where that is allowed.

    Otherwise a busy machine delays packets of scripted senders, and a browser loses sound of its
    microphone now and then.
    """
    usual = os.getpriority(os.PRIO_PROCESS, 0)
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, _PRIORITY)
    try:
        yield
    finally:
        os.setpriority(os.PRIO_PROCESS, 0, usual)
