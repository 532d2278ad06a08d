"""What requests need threads for keeps no process from ending, and no thread from others."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from adapters.http.api.audio import AudioHandlers
from adapters.http.api.peaks import PeaksHandlers
from adapters.http.api.recordings import RecordingHandlers
from adapters.http.api.verdicts import VerdictHandlers
from adapters.storage.converting import begin_file
from adapters.threads import LimitedThreads
from domain.errors import RecordingUnknown
from tests.fakes.events import SeenByServer
from tests.rigs.api import api_of


class Slow:
    """A catalogue, or peaks, whose calls might take long: a ledger may have 64 MB."""

    def __init__(self) -> None:
        self.threads: list[threading.Thread] = []

    def _call(self, *_arguments: Any, **_options: Any) -> Any:
        self.threads.append(threading.current_thread())
        raise RecordingUnknown("there is no such recording")

    open = ledger = draw = _call


@pytest.mark.parametrize("path", ["/ledger", "/audio", "/audio?format=mp3", "/peaks", "/verdict"])
async def test_the_process_waits_for_no_request_that_may_take_long(path: str) -> None:
    slow: Any = Slow()
    handlers: list[Any] = [
        RecordingHandlers(slow, SeenByServer()),
        AudioHandlers(slow, begin_file, max_conversions=1),
        PeaksHandlers(slow),
        VerdictHandlers(slow, slow),
    ]
    async with api_of(handlers) as api:
        assert (await api.get(f"/api/recordings/1{path}")).status == 404
    (thread,) = slow.threads
    assert thread is not threading.main_thread()
    assert thread.daemon
    # those of asyncio are for all the rest, such as the keys of tokens, which are read again
    assert "asyncio" not in thread.name


async def test_a_thread_that_cannot_start_takes_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    threads = LimitedThreads(1, name="test")

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        for _ in range(2):
            with pytest.raises(RuntimeError):
                await threads.run(lambda: 1)
    assert await threads.run(lambda: 1) == 1
