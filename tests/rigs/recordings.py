"""Makes a store with its catalogue, and numbered recordings in them."""

from __future__ import annotations

import asyncio
import datetime
import os
import pathlib
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest

from adapters.codec.decoders import make_decoder
from adapters.storage.folder.catalogue import FolderCatalogue
from adapters.storage.folder.part import PartOptions
from adapters.storage.folder.store import FolderStore
from domain.errors import RecordingUnknown
from domain.ports.catalogue import Catalogue, CatalogueEntry, CatalogueQuery, RecordingState
from domain.ports.storage import RecordingStore, RecordingWriter
from domain.recording.effects import EndReason
from domain.recording.ledger import Container, RecordingInfo, SampleKind
from domain.recording.naming import recording_id, recording_name
from domain.session.titles import title_of
from domain.sound.formats import AudioFormat, Samples
from domain.sound.pieces import EncodedSound, Sound
from tests.rigs.sound import encode, speech

START = datetime.datetime(2026, 1, 2, 3, 4, 5, 678_901, tzinfo=datetime.UTC)
SECOND = datetime.timedelta(seconds=1)
LONG_AGO = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
MONO = AudioFormat(48_000, 1)
SPEECH = encode(speech(3))
LIVE, COMPLETE = RecordingState.LIVE, RecordingState.COMPLETE


def info(number: int, *, client: str = "kitchen", track: int = 1, room: str = "") -> RecordingInfo:
    session_id = f"{number:016x}"
    started_at = START + number * SECOND
    return RecordingInfo(
        id=recording_id(session_id, track),
        name=recording_name(
            started_at=started_at, client_name=client, session_id=session_id, track=track
        ),
        format=MONO,
        codec="opus",
        started_at=started_at,
        session_id=session_id,
        track=track,
        room=room,
        title=title_of(client),
    )


def ramp(length: int, start: int = 0) -> Samples:
    return (np.arange(start, start + length) % 30_000).astype("<i2").reshape(-1, 1)


@dataclass
class Rig:
    """A store and its catalogue."""

    store: RecordingStore
    catalogue: Catalogue
    container: Container = Container.WAV

    def create(
        self, number: int, *, client: str = "kitchen", track: int = 1, room: str = ""
    ) -> RecordingWriter:
        about = replace(
            info(number, client=client, track=track, room=room), container=self.container
        )
        return self.store.create(about)

    def sound(self, length: int = 9600) -> list[Sound]:
        if self.container is Container.WAV:
            return [ramp(length)]
        return [EncodedSound(payload, 960) for payload in SPEECH[: length // 960]]

    async def record(
        self, number: int, *, client: str = "kitchen", track: int = 1, room: str = ""
    ) -> str:
        writer = self.create(number, client=client, track=track, room=room)
        writer.append(self.sound(), SampleKind.RECEIVED)
        await writer.finish(EndReason.CLOSED, START + (number + 1) * SECOND)
        return info(number, track=track).id

    def ids(self, **query: object) -> list[str]:
        """Return the ids on all pages, in order."""
        found: list[str] = []
        page = self.catalogue.page(CatalogueQuery(**query))  # type: ignore[arg-type]
        found += [entry.info.id for entry in page.entries]
        while page.next is not None:
            query["before"] = page.next
            page = self.catalogue.page(CatalogueQuery(**query))  # type: ignore[arg-type]
            found += [entry.info.id for entry in page.entries]
        return found

    async def until(self, is_so: Callable[[CatalogueEntry], bool], number: int) -> CatalogueEntry:
        """Wait until a condition holds, which the store's thread brings about."""
        async with asyncio.timeout(20):
            while True:
                try:
                    entry = self.catalogue.entry(info(number).id)
                except RecordingUnknown:
                    pass
                else:
                    if is_so(entry):
                        return entry
                await asyncio.sleep(0.01)


def open_folder(folder: pathlib.Path, options: PartOptions | None = None) -> Rig:
    catalogue = FolderCatalogue(str(folder), make_decoder, rescan_s=0.0)
    store = FolderStore(str(folder), options, catalogue=catalogue)
    store.check()
    return Rig(store, catalogue)


def close(rig: Rig) -> None:
    rig.store.close()
    rig.catalogue.close()


async def shows(rig: Rig, ids: list[str]) -> None:
    """Wait until a page shows these names: changes by hand are noticed with a delay."""
    async with asyncio.timeout(20):
        while rig.ids() != ids:
            await asyncio.sleep(0.01)


def counting_listings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record which folders are listed from now on."""
    seen: list[str] = []
    for name in ("scandir", "listdir"):
        original = getattr(os, name)

        def listing(path: str = ".", original: Callable[[str], object] = original) -> object:
            seen.append(str(path))
            return original(path)

        monkeypatch.setattr(os, name, listing)
    return seen
