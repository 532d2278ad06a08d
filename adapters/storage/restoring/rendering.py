"""Renders recordings of packets, with what was restored of them."""

from __future__ import annotations

import pathlib
import tempfile
from dataclasses import replace

from adapters.storage.folder.checking import NotAsRecorded
from adapters.storage.folder.disk import reason_of, sync_folder
from adapters.storage.folder.files import RecordingFiles, rename_without_replacing
from adapters.storage.folder.listing import files_of, list_numbers
from adapters.storage.folder.part import PartOptions
from adapters.storage.folder.renderer import FolderRenderer, render_parts
from adapters.storage.folder.swap import Swap
from adapters.storage.media_file import CutOff
from adapters.storage.restoring.beside import read_beside
from adapters.storage.restoring.blending import ResamplerFactory
from adapters.storage.restoring.complete import read_complete
from adapters.storage.restoring.held import CapturedAndHeld
from adapters.storage.restoring.rewriting import rewrite
from domain.errors import InputUnreadable, StorageFailed
from domain.ports.codec import DecoderFactory
from domain.recording.completed import CompletedRecording
from domain.recording.ledger import Container, RestoreState
from domain.recording.naming import split_part_name


class RestoringRenderer(FolderRenderer):
    """Renders recordings with the captured sound that is kept beside them.

    A restored recording is rendered as a whole, whichever of its parts is named.
    """

    def __init__(self, decoders: DecoderFactory, make_resampler: ResamplerFactory) -> None:
        super().__init__(decoders)
        self._make_resampler = make_resampler

    def render(self, location: str, folder: str | None) -> CompletedRecording:
        path = pathlib.Path(location).resolve()  # a link may be named, but not found
        path = path.with_name(f"{split_part_name(path.stem)[0]}{path.suffix}")
        try:
            beside = read_beside(path)
        except (OSError, ValueError) as error:
            raise InputUnreadable(f"what was restored cannot be read: {error}") from error
        if beside is None:
            return super().render(location, folder)
        target = path.parent if folder is None else pathlib.Path(folder)
        name = f"{path.stem}-rendered" if folder is None else path.stem
        try:
            return self._render(path, target, name, *beside)
        except (OSError, CutOff, NotAsRecorded, ValueError) as error:
            raise StorageFailed(f"cannot write {target / name}.wav: {reason_of(error)}") from error

    def _render(
        self,
        path: pathlib.Path,
        folder: pathlib.Path,
        name: str,
        sound: CapturedAndHeld,
        state: RestoreState,
    ) -> CompletedRecording:
        numbers = list_numbers(path.parent, path.stem, Container.OGG)
        paths = [
            files_of(path.parent, path.stem, number, Container.OGG).recording
            for number in sorted(numbers)
        ]
        # nobody shall take the rendering for complete before it is restored
        with tempfile.TemporaryDirectory(prefix=".rendering-", dir=folder) as made, sound.pcm:
            hidden = pathlib.Path(made)
            rendered = render_parts(paths, hidden, name, self._decoders)
            received = read_complete(
                hidden, rendered.info, [part.number for part in rendered.parts]
            )
            with Swap(hidden, name) as swap:
                rewrite(swap, received, sound, state, self._make_resampler, PartOptions())
            numbers = list_numbers(hidden, name, Container.WAV)
            restored = read_complete(hidden, rendered.info, sorted(numbers))
            for item in restored.parts:
                files = RecordingFiles(folder, item.files.name)
                rename_without_replacing(item.files.ledger, files.ledger)
                rename_without_replacing(item.files.recording, files.recording)
            sync_folder(folder)
        parts = tuple(
            replace(item.part, location=str(folder / item.files.recording.name))
            for item in restored.parts
        )
        return CompletedRecording(
            restored.info, parts, parts[-1].end, restored.end_reason, restored.ended_at
        )
