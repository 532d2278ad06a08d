"""Puts into a folder what no program of ours would: pipes, devices, links, and damaged contents."""

from __future__ import annotations

import asyncio
import json
import os
import pathlib
import socket
from collections.abc import Callable
from typing import Any

from adapters.storage.spool.folder import DiskSpoolFolder
from domain.recording.effects import EndReason
from domain.recording.ledger import Container, SampleKind
from tests.property.test_recovery_laws import leave_unfinished
from tests.rigs.recordings import SECOND, START, close, info, open_folder
from tests.rigs.spooling import FORMAT, OPTIONS, block_at, description

LARGE = 1 << 41
"""Bytes of a sparse file."""
CONTROLS = "\x1b[2J\x1b[1;1Hgood.wav: sound\u202e\n  ended      closed\x07\x9b31m"
Plant = Callable[[pathlib.Path], None]


def pipe(path: pathlib.Path) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def device(path: pathlib.Path) -> None:
    link(pathlib.Path("/dev/zero"))(path)


def unix_socket(path: pathlib.Path) -> None:
    path.unlink(missing_ok=True)
    here = pathlib.Path.cwd()
    os.chdir(path.parent)  # an address of a socket is short
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)


def folder(path: pathlib.Path) -> None:
    path.unlink(missing_ok=True)
    path.mkdir()


def sparse(path: pathlib.Path) -> None:
    with path.open("ab") as file:
        file.truncate(LARGE)


def link(target: pathlib.Path) -> Plant:
    def plant(path: pathlib.Path) -> None:
        path.unlink(missing_ok=True)
        path.symlink_to(target)

    return plant


def content(data: bytes) -> Plant:
    def plant(path: pathlib.Path) -> None:
        path.write_bytes(data)

    return plant


def changed(*keys: str, to: object) -> Plant:
    """Change one value in the JSON of the first line."""

    def plant(path: pathlib.Path) -> None:
        first, _, rest = path.read_text().partition("\n")
        entry: Any = json.loads(first)
        at = entry
        for key in keys[:-1]:
            at = at[int(key) if key.isdigit() else key]
        at[keys[-1]] = "%VALUE%"
        value = to if isinstance(to, str) and to.startswith("raw:") else json.dumps(to)
        text = json.dumps(entry).replace('"%VALUE%"', value.removeprefix("raw:"))
        path.write_text(f"{text}\n{rest}")

    return plant


def with_recordings(path: pathlib.Path) -> None:
    """Make complete recordings: one of PCM, and one of packets."""

    async def record(container: Container, number: int) -> None:
        rig = open_folder(path)
        rig.container = container
        writer = rig.create(number)
        writer.append(rig.sound(), SampleKind.RECEIVED)
        await writer.finish(EndReason.CLOSED, START + 2 * SECOND)
        close(rig)

    for number, container in enumerate(Container, 1):
        asyncio.run(record(container, number))
        name = info(number).name
        for ending in (container.value, "json"):
            final = f"{'wav' if container is Container.WAV else 'packets'}.{ending}"
            (path / f"{name}.{ending}").rename(path / final)
    for left in path.glob(".catalogue*"):
        left.unlink()


def with_unfinished(path: pathlib.Path) -> None:
    """Leave `a.wav.part` and its journal."""
    leave_unfinished(path)


def with_spools(path: pathlib.Path) -> None:
    """Make a spool `20260102-a` of a second."""

    async def keep() -> None:
        writer = await DiskSpoolFolder(str(path), OPTIONS).create(description())
        for position in range(0, 48_000, 480):
            writer.write(block_at(position, 480, FORMAT))
        await writer.finish()
        await writer.spool.release()

    asyncio.run(keep())
