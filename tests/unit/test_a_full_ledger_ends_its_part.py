"""Sound and losses may alternate for days: a ledger with too many spans is followed by another."""

from __future__ import annotations

import json
import pathlib

import numpy as np
import pytest

from adapters.storage.folder import journal
from adapters.storage.folder.disk import SyncThread
from adapters.storage.folder.part import PartOptions
from adapters.storage.folder.parts import RecordingParts
from adapters.storage.folder.store import FolderStore
from domain.recording import ledger
from domain.recording.effects import EndReason
from domain.recording.ledger import Ledger, LedgerEvent, RecordingInfo, SampleKind
from domain.sound.formats import AudioFormat
from tests.fakes.time import EPOCH

RECEIVED, SILENCE = SampleKind.RECEIVED, SampleKind.SILENCE


async def test_a_part_ends_when_its_ledger_is_full(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "MAX_SPANS", 100)
    store = FolderStore(str(tmp_path))
    info = RecordingInfo("id", "name", AudioFormat(48_000, 1), "opus", EPOCH, session_id="session")
    writer = store.create(info)
    for n in range(240):
        writer.append([np.full((10, 1), n, "<i2")], RECEIVED)
        writer.append_silence(5, SILENCE)
    completed = await writer.finish(EndReason.CLOSED, EPOCH)
    store.close()
    assert [part.length for part in completed.parts] == [750, 750, 750, 750, 600]
    ledgers = [json.loads(path.read_text()) for path in sorted(tmp_path.glob("*.json"))]
    spans = [(span["kind"], span["length"]) for item in ledgers for span in item["spans"]]
    assert spans == [("received", 10), ("silence", 5)] * 240
    assert max(len(item["spans"]) for item in ledgers) == 100


def test_a_part_ends_when_its_journal_is_full(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An event that grows is written each second, though the ledger has it once."""
    monkeypatch.setattr(journal, "FULL_BYTES", 20_000)
    info = RecordingInfo("id", "name", AudioFormat(8_000, 1), "pcmu", EPOCH, session_id="session")
    sync = SyncThread(tmp_path)
    parts = RecordingParts(tmp_path, info, PartOptions(), sync)
    parts.open()
    for second in range(600):
        parts.write([np.full((8_000, 1), 7, "<i2")], RECEIVED)
        parts.note(LedgerEvent("timestamps", 8_000 * second, {"reason": "uneven"}))
    sizes = [path.stat().st_size for path in sorted(tmp_path.glob("*.journal"))]
    parts.finish("closed", EPOCH)
    sync.close()
    assert [size for size in sizes if size >= 20_200] == []
    assert parts.length == 600 * 8_000


def test_reconnections_become_one_event_when_there_are_many() -> None:
    book = Ledger()
    for n in range(2, 1002):
        book.add(RECEIVED, 48_000)
        book.note(LedgerEvent("reconnected", book.length, {"attempt": n, "at": n}))
    assert len(book.events) < 40
    assert sum(event.details.get("count", 1) for event in book.events) == 1000
    assert book.events[-1].details["attempt"] == 1001
