"""Renders an Opus file of received packets to a WAV."""

from __future__ import annotations

import datetime
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from adapters.storage.folder.disk import SyncThread
from adapters.storage.folder.inspection import inspect_recording
from adapters.storage.folder.journal import read_event, read_info
from adapters.storage.folder.part import PartOptions
from adapters.storage.folder.parts import RecordingParts
from adapters.storage.ogg.opus import read_packets
from domain.errors import InputUnreadable, StorageFailed
from domain.ports.codec import DecoderFactory
from domain.recording.completed import CompletedRecording
from domain.recording.ledger import Container, LedgerEvent, RecordingInfo, Span
from domain.recording.rendering import Rendered, render
from domain.recording.verification import Limits, read_spans, verify
from domain.sound.decoding import Decoder
from domain.sound.detection import CodecParameters
from domain.sound.pieces import EncodedSound

_OPUS = CodecParameters("opus", 111, 48_000, 2)


class FolderRenderer:
    """Renders Opus recordings to WAVs in a folder."""

    def __init__(self, decoders: DecoderFactory) -> None:
        self._decoders = decoders

    def prepare(self, folder: str) -> None:
        try:
            pathlib.Path(folder).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputUnreadable(f"cannot write to {folder}: {error.strerror}") from error

    def render(self, location: str, folder: str | None) -> CompletedRecording:
        path = pathlib.Path(location)
        return render_recording(
            path, None if folder is None else pathlib.Path(folder), self._decoders
        )


def render_recording(
    path: pathlib.Path, folder: pathlib.Path | None, decoders: DecoderFactory
) -> CompletedRecording:
    """Decode an Opus recording into a WAV, see `RecordingRenderer.render`."""
    facts = inspect_recording(str(path))
    verdict = verify(facts, Limits())
    if not verdict.ok:
        raise InputUnreadable(f"{path} is not valid: {'; '.join(verdict.problems)}")
    assert isinstance(facts.ledger, dict)
    if facts.ledger.get("container") != Container.OGG.value:
        raise InputUnreadable(f"{path} holds no packets: there is nothing to render")
    info, events = _read(facts.ledger)
    end_reason = str(facts.ledger["end_reason"])
    ended_at = datetime.datetime.fromisoformat(facts.ledger["ended_at"])
    if folder is None:
        folder, info = path.parent, replace(info, name=f"{info.name}-rendered")
    spans, _ = read_spans(facts.ledger["spans"], facts.length)
    sync = SyncThread(folder)
    parts = RecordingParts(folder, info, PartOptions(), sync)
    try:
        parts.open()
        for piece in _pieces(path, spans, events, decoders(_OPUS, info.format)):
            if piece.pieces:
                parts.write(piece.pieces, piece.kind)
            else:
                parts.write_silence(piece.length, piece.kind)
        for event in [*events, LedgerEvent("rendered", 0, {"from": path.name})]:
            parts.note(event)
        parts.finish(end_reason, ended_at)
    except OSError as error:
        parts.discard()
        why = error.strerror or str(error)
        raise StorageFailed(f"cannot write {folder / info.name}.wav: {why}") from error
    except BaseException:
        parts.discard()
        raise
    finally:
        sync.close()
    completed = parts.completed(end_reason, ended_at)
    assert completed is not None
    return completed


def _pieces(
    path: pathlib.Path, spans: Sequence[Span], events: Sequence[LedgerEvent], decoder: Decoder
) -> Iterator[Rendered]:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        packets = (
            EncodedSound(packet.payload, packet.samples)
            for packet in read_packets(descriptor)
            if not packet.is_gap
        )
        yield from render(packets, spans, events, decoder, sample_rate_hz=_OPUS.clock_rate_hz)
    finally:
        os.close(descriptor)


def _read(ledger: Mapping[str, Any]) -> tuple[RecordingInfo, list[LedgerEvent]]:
    try:
        info = replace(read_info(ledger), container=Container.WAV, is_rendering=True)
        return info, [read_event(entry) for entry in ledger["events"]]
    except (KeyError, TypeError, ValueError) as error:
        raise InputUnreadable(f"the ledger cannot be read: {error!r}") from error
