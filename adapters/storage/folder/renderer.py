"""Renders an Opus file of received packets to a WAV."""

from __future__ import annotations

import datetime
import errno
import os
import pathlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from adapters.descriptors import RESERVE
from adapters.opening import make_folder, open_sound
from adapters.storage.folder.checking import NotAsRecorded
from adapters.storage.folder.disk import SyncThread, reason_of
from adapters.storage.folder.inspection import inspect_recording
from adapters.storage.folder.journal import read_event, read_info
from adapters.storage.folder.part import RESERVE_BYTES, PartOptions
from adapters.storage.folder.parts import RecordingParts
from adapters.storage.folder.summary import part_start
from adapters.storage.media_file import CutOff
from adapters.storage.ogg.opus import read_packets
from domain.errors import InputUnreadable, StorageFailed
from domain.ports.codec import DecoderFactory
from domain.recording.completed import CompletedRecording
from domain.recording.ledger import (
    Container,
    LedgerEvent,
    RecordingInfo,
    RestoreMode,
    SampleKind,
    Span,
)
from domain.recording.reading import moment, text
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
            make_folder(pathlib.Path(folder))
        except OSError as error:
            raise InputUnreadable(f"cannot write to {folder}: {error.strerror}") from error

    def render(self, location: str, folder: str | None) -> CompletedRecording:
        path = pathlib.Path(location).resolve()  # a link may be named, but not found
        return render_recording(
            path, None if folder is None else pathlib.Path(folder), self._decoders
        )


def render_recording(
    path: pathlib.Path, folder: pathlib.Path | None, decoders: DecoderFactory
) -> CompletedRecording:
    """Decode an Opus recording into a WAV, see `RecordingRenderer.render`."""
    if folder is None:
        return render_parts([path], path.parent, f"{path.stem}-rendered", decoders)
    return render_parts([path], folder, path.stem, decoders)


def render_parts(
    paths: Sequence[pathlib.Path], folder: pathlib.Path, name: str, decoders: DecoderFactory
) -> CompletedRecording:
    """Decode parts that follow each other into one WAV. Raises as `RecordingRenderer.render`."""
    sources = [_read(path) for path in paths]
    begun_at = sources[0].info.started_at
    info = replace(sources[-1].info, name=name, started_at=begun_at)
    sync = SyncThread(folder)
    _require_room(sync, sources, folder / f"{name}.wav")
    parts = RecordingParts(folder, info, PartOptions(), sync)
    events: list[LedgerEvent] = []
    try:
        parts.open()
        for source in sources:
            start = part_start(source.info, begun_at)
            parts.write_silence(max(0, start - parts.length), SampleKind.SILENCE)  # one is missing
            events += [event.moved(parts.length) for event in source.events]
            for piece in _pieces(source, decoders(_OPUS, info.format)):
                if piece.pieces:
                    parts.write(piece.pieces, piece.kind)
                else:
                    parts.write_silence(piece.length, piece.kind)
        for event in [*events, LedgerEvent("rendered", 0, {"from": paths[0].name})]:
            parts.note(event)
        parts.finish(sources[-1].end_reason, sources[-1].ended_at)
    except (OSError, CutOff, NotAsRecorded) as error:
        parts.discard()
        why = reason_of(error)
        raise StorageFailed(f"cannot write {folder / info.name}.wav: {why}") from error
    except BaseException:
        parts.discard()
        raise
    finally:
        sync.close()
    completed = parts.completed(sources[-1].end_reason, sources[-1].ended_at)
    assert completed is not None
    return completed


def _require_room(sync: SyncThread, sources: Sequence[_Source], path: pathlib.Path) -> None:
    """Raise `StorageFailed` if there is no room: some packets can claim to last for weeks."""
    last = sources[-1]
    length = part_start(last.info, sources[0].info.started_at) + last.length
    size = max(length, sum(source.length for source in sources)) * last.info.format.bytes_per_frame
    if sync.free_bytes is not None and size > sync.free_bytes - RESERVE_BYTES:
        sync.close()
        raise StorageFailed(f"cannot write {path}: {os.strerror(errno.ENOSPC)}")


@dataclass(frozen=True, slots=True)
class _Source:
    """A part that holds packets, and is what its ledger says."""

    path: pathlib.Path
    info: RecordingInfo
    length: int
    spans: Sequence[Span]
    events: Sequence[LedgerEvent]
    end_reason: str
    ended_at: datetime.datetime


def _read(path: pathlib.Path) -> _Source:
    """Read the ledger of a part. Raises `InputUnreadable`."""
    facts = inspect_recording(str(path))
    verdict = verify(facts, Limits())
    if not verdict.ok:
        raise InputUnreadable(f"{path} is not valid: {'; '.join(verdict.problems)}")
    assert isinstance(facts.ledger, dict)
    if facts.ledger.get("container") != Container.OGG.value:
        raise InputUnreadable(f"{path} holds no packets: there is nothing to render")
    try:
        info = read_info(facts.ledger)
        events = [read_event(entry) for entry in facts.ledger["events"]]
        ended_at = moment(facts.ledger["ended_at"])
        end_reason = text(facts.ledger["end_reason"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputUnreadable(f"the ledger of {path} cannot be read: {error}") from error
    info = replace(info, container=Container.WAV, is_rendering=True, restore=RestoreMode.OFF)
    spans, _ = read_spans(facts.ledger["spans"], facts.length)
    return _Source(path, info, facts.length, spans, events, end_reason, ended_at)


def _pieces(source: _Source, decoder: Decoder) -> Iterator[Rendered]:
    descriptor = open_sound(source.path)
    try:
        packets = (
            EncodedSound(packet.payload, packet.samples)
            for packet in read_packets(descriptor)
            if not packet.is_gap
        )
        yield from render(
            packets, source.spans, source.events, decoder, sample_rate_hz=_OPUS.clock_rate_hz
        )
    finally:
        RESERVE.close(descriptor)
