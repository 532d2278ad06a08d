"""A recording leaves memory at its end: without the garbage collector, and without a next one."""

from __future__ import annotations

import asyncio
import gc
import pathlib
import weakref
from collections.abc import Iterator

import pytest

from domain.recording.effects import EndReason
from domain.recording.ledger import Container, SampleKind
from tests.rigs.recordings import START, close, open_folder

COUNT = 5


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Switch the garbage collector off."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("container", Container)
async def test_recordings_that_end_together_leave_memory(
    tmp_path: pathlib.Path, container: Container
) -> None:
    rig = open_folder(tmp_path / "recordings")
    rig.container = container
    writers = [rig.create(number) for number in range(1, COUNT + 1)]
    for writer in writers:
        writer.append(rig.sound(), SampleKind.RECEIVED)
    await asyncio.gather(*(writer.finish(EndReason.CLOSED, START) for writer in writers))
    left = [weakref.ref(writer) for writer in writers]
    del writer, writers
    async with asyncio.timeout(10):  # the threads that completed them may be about to let them go
        while any(found() is not None for found in left):
            await asyncio.sleep(0.01)
    close(rig)
