"""Sends many spools at once, each as `gapless spool send` does.

``python -m benchmarks.spool_load URL FOLDER`` prints a line of JSON when it is ready, waits for a
line on its input, and prints another one when all spools are delivered.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

from adapters.storage.spool.folder import DiskSpoolFolder
from entrypoints.client_settings import ClientSettings
from entrypoints.container import ClientContainer
from tests.fakes.events import SeenByClient


async def deliver(url: str, folder: str) -> None:
    spools = await DiskSpoolFolder(folder).owed()
    container = ClientContainer(settings=ClientSettings(server=url), events=SeenByClient())
    print(json.dumps({"ready": len(spools)}), flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    began = time.monotonic()
    delivered = await asyncio.gather(*(container.owed_spools().deliver([it]) for it in spools))
    print(json.dumps({"delivered": sum(delivered), "took_s": time.monotonic() - began}), flush=True)


if __name__ == "__main__":
    asyncio.run(deliver(sys.argv[1], sys.argv[2]))
