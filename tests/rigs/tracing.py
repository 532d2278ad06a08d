"""What a trace of Chromium says of a page."""

from __future__ import annotations

import json


def longest_task_ms(trace: bytes) -> float:
    """Return how long the page's main thread computed at most before others had their turn.

    It is processor time: what else runs on the machine makes frames late, too.
    """
    events = json.loads(trace)["traceEvents"]
    (main,) = {
        (event["pid"], event["tid"])
        for event in events
        if event["name"] == "thread_name" and event["args"]["name"] == "CrRendererMain"
    }
    tasks = [
        event.get("tdur", 0) / 1000
        for event in events
        if (event["pid"], event["tid"]) == main and event["name"].endswith("RunTask")
    ]
    assert len(tasks) > 100
    longest: float = max(tasks)
    assert longest > 1, "processor time is measured"
    return longest
