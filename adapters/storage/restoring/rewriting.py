"""Rewrites complete recordings with what their clients have captured.

A recording is the one before or the one after, see `adapters.storage.folder.swap`.
"""

from __future__ import annotations

import contextlib
import datetime
import pathlib
from collections.abc import Iterable, Iterator
from dataclasses import replace

from adapters.storage.folder.catalogue import FolderCatalogue
from adapters.storage.folder.checking import NotAsRecorded
from adapters.storage.folder.files import restoring_journal
from adapters.storage.folder.listing import list_numbers, list_parts
from adapters.storage.folder.part import PartOptions
from adapters.storage.folder.reader import OpenedWav
from adapters.storage.folder.swap import Swap, finish_swap
from adapters.storage.media_file import CutOff
from adapters.storage.restoring.aligning import aligned
from adapters.storage.restoring.beside import keep_beside, note_state, outcome_beside
from adapters.storage.restoring.blending import CapturedSound, ResamplerFactory, fade
from adapters.storage.restoring.complete import CompleteRecording, read_complete
from adapters.storage.restoring.held import CapturedAndHeld
from adapters.storage.restoring.parts import NewParts
from adapters.storage.restoring.pcm import PcmReader
from domain.errors import CapturedInvalid, RecordingRemoved, RecordingUnknown, StorageFailed
from domain.ports.catalogue import CatalogueEntry, RecordingState
from domain.ports.restoring import Restored, RestoreKey
from domain.recording.effects import EndReason
from domain.recording.layout import Layout, Run
from domain.recording.ledger import (
    Container,
    RecordingInfo,
    RestoreMode,
    RestoreState,
    SampleKind,
)
from domain.recording.naming import part_name, read_recording_name, recording_id, recording_name
from domain.recording.ranges import RangeSet
from domain.recording.restoring import TICK_RATE_HZ, Captured, Segment, segments_of, ticks_of
from domain.session.titles import title_of
from domain.sound.formats import AudioFormat, SampleFormat

_BLOCK_S = 5
"""Seconds of sound that are in memory at once."""
_LONGEST_WAIT = datetime.timedelta(days=366)
"""A client that says it began earlier before it came has a wrong clock."""
_ANOTHER_HASH = "what was sent is not what was captured: its hash is another one"


class FolderRewrite:
    """Rewrites the recordings of a folder; see `Rewrite`."""

    def __init__(
        self,
        folder: str,
        catalogue: FolderCatalogue,
        make_resampler: ResamplerFactory,
        options: PartOptions | None = None,
    ) -> None:
        self._folder = pathlib.Path(folder).absolute()
        self._catalogue = catalogue
        self._make_resampler = make_resampler
        self._options = options or PartOptions()

    def __call__(
        self,
        key: RestoreKey,
        captured: Captured | None,
        held: RangeSet,
        pcm: PcmReader,
        state: RestoreState,
    ) -> Restored:
        sound = CapturedAndHeld(key.mode, captured, held, pcm)
        with _explained(key):
            entry = self._find(key.session_id)
            if entry is None:
                return self._make(key, sound, state)
            name, numbers = entry.info.name, _numbers(entry)
            try:
                with Swap(self._folder, name) as swap:
                    recording = read_complete(self._folder, entry.info, numbers)
                    if recording.is_done:
                        return _outcome(recording, sound)
                    if not _is_what_was_captured(sound):
                        return _left_as_it_is(swap, recording, sound, state)
                    if recording.info.container is Container.OGG:
                        return keep_beside(swap, recording, sound, state)
                    return rewrite(
                        swap, recording, sound, state, self._make_resampler, self._options
                    )
            finally:
                self._tell(name, numbers)

    def segments(self, key: RestoreKey, captured: Captured | None) -> list[Segment]:
        with _explained(key):
            rate_hz = key.spool.format.sample_rate_hz
            total = None if captured is None else ticks_of(captured.length, rate_hz)
            if (entry := self._find(key.session_id)) is None:
                return segments_of((), (), total=total)
            return read_complete(self._folder, entry.info, _numbers(entry)).segments(total)

    def _make(self, key: RestoreKey, sound: CapturedAndHeld, state: RestoreState) -> Restored:
        """Make a recording of which nothing was received live."""
        if not restoring_journal(self._folder, key.session_id).exists():
            # it was deleted with the recording
            raise RecordingRemoved("its recording was removed")
        if not len(sound.held):
            return Restored(sound.sha256(), 0, 0, sound.rate_hz)
        if state is not RestoreState.COMPLETE:
            sound = sound.until_last_held()  # nobody has seen what would be behind that
        # if nothing more will come, sound that contradicts its hash is better than none
        if state is RestoreState.COMPLETE and not _is_what_was_captured(sound):
            raise CapturedInvalid(_ANOTHER_HASH)
        started_at = _started_at(key)
        audio_format = sound.pcm.format
        if key.mode is not RestoreMode.ALL:
            channels = min(2, audio_format.channels)
            audio_format = AudioFormat(TICK_RATE_HZ, channels, SampleFormat.S16)
        total = ticks_of(sound.length, sound.rate_hz)
        segments = segments_of((), (), total=total)
        layout = sound.layout(segments, is_replaced=key.mode is RestoreMode.ALL)
        info = RecordingInfo(
            id=recording_id(key.session_id, 1),
            name=recording_name(
                started_at=started_at, client_name=key.name, session_id=key.session_id
            ),
            format=audio_format,
            codec="opus",
            started_at=started_at,
            session_id=key.session_id,
            room=key.room,
            title=title_of(key.name),
            restore=key.mode,
        )
        seconds = datetime.timedelta(seconds=layout.length / layout.rate_hz)
        with Swap(self._folder, info.name) as swap:
            parts = NewParts(swap, info, self._options)
            with contextlib.closing(parts):
                _write(parts, layout, None, sound, info.format, self._make_resampler)
                sha256 = parts.finish(
                    layout.events(()),
                    end_reason=EndReason.CLOSED.value,
                    ended_at=started_at + seconds,
                    state=state,
                )
            swap.commit()
        self._tell(info.name, ())
        sha256 = sound.sha256() if key.mode is RestoreMode.ALL else sha256
        return Restored(sha256, layout.length, layout.restored, layout.rate_hz)

    def _find(self, session_id: str) -> CatalogueEntry | None:
        """Find the recording of a session; what a killed process has left of it is finished."""
        entry = self._entry(session_id)
        if entry is not None and finish_swap(self._folder, entry.info.name):
            self._tell(entry.info.name, _numbers(entry))
            entry = self._entry(session_id)
        if entry is not None and entry.state is RecordingState.LIVE:
            raise StorageFailed("it is still being written")
        return entry

    def _entry(self, session_id: str) -> CatalogueEntry | None:
        with contextlib.suppress(RecordingUnknown):
            return self._catalogue.entry(recording_id(session_id, 1))
        # the catalogue may not have noticed it yet, and there must not be two
        for (name, number), part in list_parts(self._folder).items():
            known = read_recording_name(name)
            if known is not None and known[1] == recording_id(session_id, 1):
                if part.is_live:
                    raise StorageFailed("it is not complete yet")
                self._tell(name, (number,))
        with contextlib.suppress(RecordingUnknown):
            return self._catalogue.entry(recording_id(session_id, 1))
        return None

    def _tell(self, name: str, numbers: Iterable[int]) -> None:
        """Tell the catalogue that parts may have changed, been added or removed."""
        there = {n for c in Container for n in list_numbers(self._folder, name, c)}
        self._catalogue.recovered(part_name(name, number) for number in {*numbers, *there})


def rewrite(
    swap: Swap,
    recording: CompleteRecording,
    sound: CapturedAndHeld,
    state: RestoreState,
    make_resampler: ResamplerFactory,
    options: PartOptions,
) -> Restored:
    """Replace the files of a recording of PCM by restored ones.

    Raises `OSError`, `NotAsRecorded` or `CutOff`; the recording is the one before then, unless it
    can only be the one after.
    """
    recording = aligned(recording, sound, make_resampler)
    layout = sound.layout_of(recording)
    if layout is None:
        note_state(swap, recording, sound, state)
        swap.commit()
        return _outcome(recording, sound)
    is_replaced = sound.replaces(recording)
    audio_format = sound.pcm.format if is_replaced else recording.info.format
    began = datetime.timedelta(seconds=layout.begins_s)
    info = replace(
        recording.info,
        format=audio_format,
        started_at=recording.info.started_at - began,
        restore=sound.mode,
    )
    parts = NewParts(swap, info, options)
    with contextlib.closing(parts), contextlib.closing(recording.open()) as live:
        _write(parts, layout, live, sound, audio_format, make_resampler)
        sha256 = parts.finish(
            layout.events(recording.ledger.events),
            end_reason=recording.end_reason,
            ended_at=recording.ended_at,
            state=state,
        )
    swap.commit(
        path.name
        for item in recording.parts
        for path in (item.files.recording, item.files.ledger, item.files.peaks)
    )
    sha256 = sound.sha256() if is_replaced else sha256
    return Restored(sha256, layout.length, layout.restored, layout.rate_hz)


def _write(
    parts: NewParts,
    layout: Layout,
    live: OpenedWav | None,
    sound: CapturedAndHeld,
    audio_format: AudioFormat,
    make_resampler: ResamplerFactory,
) -> None:
    parts.require(layout.length)
    captured = CapturedSound(sound.pcm, audio_format, make_resampler)
    for run in layout.runs:
        for piece in _blocks(run, layout.rate_hz * _BLOCK_S):
            if piece.kind is SampleKind.RESTORED:
                assert piece.captured is not None
                parts.write(captured.read(piece.captured, piece.length), piece.kind)
            elif piece.live is None or live is None:
                parts.write_silence(piece.length, piece.kind)
            else:
                samples = live.read_samples(piece.live, piece.length)
                if piece.fade_in or piece.fade_out:
                    assert piece.captured is not None
                    heard = captured.read(piece.captured, piece.length)
                    samples = fade(heard, samples) if piece.fade_in else fade(samples, heard)
                parts.write(samples, piece.kind)


def _blocks(run: Run, most: int) -> Iterator[Run]:
    """Divide a run into its fades, and blocks without one."""
    lengths = [run.fade_in]
    middle = run.length - run.fade_in - run.fade_out
    lengths += [min(most, middle - start) for start in range(0, middle, most)]
    lengths.append(run.fade_out)
    position = 0
    for index, length in enumerate(lengths):
        if length:
            yield Run(
                length,
                run.kind,
                None if run.live is None else run.live + position,
                None if run.captured is None else run.captured + position,
                fade_in=length if index == 0 else 0,
                fade_out=length if index == len(lengths) - 1 else 0,
            )
        position += length


def _is_what_was_captured(sound: CapturedAndHeld) -> bool:
    """Compare what is held with what the client says, if all of it is there. Raises `OSError`."""
    captured = sound.captured
    return captured is None or not sound.is_whole or sound.sha256() == captured.sha256


def _left_as_it_is(
    swap: Swap, recording: CompleteRecording, sound: CapturedAndHeld, state: RestoreState
) -> Restored:
    """Keep the live recording, since what was sent contradicts its hash.

    Raises `CapturedInvalid` if the client may still correct that.
    """
    if state is RestoreState.COMPLETE:
        raise CapturedInvalid(_ANOTHER_HASH)
    note_state(swap, recording, sound, state)
    swap.commit()
    rate_hz = recording.info.format.sample_rate_hz
    return Restored("", recording.ledger.length, recording.restored, rate_hz)


def _outcome(recording: CompleteRecording, sound: CapturedAndHeld) -> Restored:
    """Return the result where the sound stays as it is.

    So it is after an earlier call, too, whose process was killed before it noted its result.
    """
    if recording.info.container is Container.OGG:
        return outcome_beside(recording, sound)
    sha256 = sound.sha256() if sound.replaces(recording) else recording.sha256
    rate_hz = recording.info.format.sample_rate_hz
    return Restored(sha256, recording.ledger.length, recording.restored, rate_hz)


def _started_at(key: RestoreKey) -> datetime.datetime:
    """Return when a recording began of which nothing was received live."""
    said = key.spool.started_at
    if said is None or not _LONGEST_WAIT >= key.opened_at - said >= datetime.timedelta(0):
        return key.opened_at
    return said


def _numbers(entry: CatalogueEntry) -> list[int]:
    return [part.number for part in entry.parts]


@contextlib.contextmanager
def _explained(key: RestoreKey) -> Iterator[None]:
    """Say which recording cannot be restored."""
    try:
        yield
    except RecordingRemoved:
        raise
    except BlockingIOError as error:
        raise StorageFailed(f"{key.session_id} is being restored or removed") from error
    except (StorageFailed, NotAsRecorded, CutOff, ValueError) as error:
        raise StorageFailed(f"{key.session_id} cannot be restored: {error}") from error
