"""Records in a process that has no free descriptor left; prints what came of it as JSON."""

from __future__ import annotations

import asyncio
import json
import os
import pathlib
import resource
import sys
import threading
import time
from dataclasses import asdict

from adapters.storage.folder.part import PartOptions
from domain.recording.completed import CompletedPart
from domain.recording.effects import EndReason
from domain.recording.ledger import SampleKind
from tests.rigs.recordings import SECOND, START, Rig, close, open_folder, ramp

LIMIT = 120
RECORDINGS = 5
SECONDS = 4


class Taker:
    """Takes every descriptor that there is, and goes on to try: others may give some back."""

    def __init__(self) -> None:
        self.taken: list[int] = []
        self.has_all = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._take, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _take(self) -> None:
        while not self._stop.is_set():
            try:
                self.taken.append(os.open(os.devnull, os.O_RDONLY))
            except OSError:
                self.has_all.set()
                time.sleep(0.001)


async def record(rig: Rig, folder: pathlib.Path) -> dict[str, object]:
    rig.store.check_room()
    writers = [rig.create(number) for number in range(1, RECORDINGS + 1)]
    for writer in writers:
        writer.append([ramp(24_000)], SampleKind.RECEIVED)
    async with asyncio.timeout(30):
        while len(list(folder.glob("*.part"))) < RECORDINGS:
            await asyncio.sleep(0.01)
    taker = Taker()
    async with asyncio.timeout(30):  # a thread of asyncio's would need an import, and so a file
        while not taker.has_all.is_set():
            await asyncio.sleep(0.01)
    complete: list[CompletedPart] = []
    for writer in writers:
        writer.part_completed = lambda part, _: complete.append(part)
    for second in range(1, SECONDS + 1):
        for writer in writers:
            writer.append([ramp(48_000, second)], SampleKind.RECEIVED)
        async with asyncio.timeout(30):
            while len(complete) < second * RECORDINGS:
                await asyncio.sleep(0.01)
    ends = [writer.finish(EndReason.CLOSED, START + 10 * SECOND) for writer in writers]
    completed = await asyncio.gather(*ends)
    taker.stop()
    for descriptor in taker.taken:
        os.close(descriptor)
    return {
        "taken": len(taker.taken),
        "reasons": [item.end_reason for item in completed],
        "parts": [[asdict(part) for part in item.parts] for item in completed],
    }


def main() -> None:
    folder = pathlib.Path(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_NOFILE, (LIMIT, LIMIT))
    rig = open_folder(folder, PartOptions(rotate_s=1.0))
    rig.ids()
    found = asyncio.run(record(rig, folder))
    close(rig)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
