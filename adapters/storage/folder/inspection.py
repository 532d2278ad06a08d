"""Reads the facts about a recording on disk, for `domain.recording.verification` to judge."""

from __future__ import annotations

import os
import pathlib
from dataclasses import replace

from adapters.descriptors import RESERVE
from adapters.opening import Refused, is_regular, open_sound, read_found
from adapters.storage.digest import digest_of
from adapters.storage.documents import MAX_LEDGER_BYTES, parse
from adapters.storage.folder.disk import reason_of
from adapters.storage.folder.source import ResamplerFactory, compare_with_source
from adapters.storage.ogg.opus import read_file
from adapters.storage.wav.header import MAX_RIFF_SIZE, WavHeader, read_header
from domain.errors import InputUnreadable
from domain.recording.verification import FileFacts
from domain.sound.formats import AudioFormat


class FolderInspector:
    """Inspects recordings by their paths."""

    def __init__(self, resampler: ResamplerFactory) -> None:
        self._resampler = resampler

    def inspect(self, location: str, source: str | None = None) -> FileFacts:
        facts = inspect_recording(location)
        if source is None:
            return facts
        return replace(facts, source=compare_with_source(facts, source, self._resampler))


def inspect_recording(path: str) -> FileFacts:
    """Read a recording and the ledger beside it. Raises `InputUnreadable` without a file."""
    file = pathlib.Path(path)
    try:
        descriptor = open_sound(file, follow=True)
    except (OSError, ValueError) as error:  # a path may have a null character
        raise InputUnreadable(f"cannot read {path}: {reason_of(error)}") from error
    ledger, problem = _read_ledger(_ledger_beside(file))
    problems = [problem] if problem else []
    try:
        if os.pread(descriptor, 4, 0) == b"OggS":
            return _inspect_ogg(path, descriptor, ledger, problems)
        return _inspect_wav(path, descriptor, ledger, problems)
    except OSError as error:
        raise InputUnreadable(f"cannot read {path}: {error.strerror}") from error
    finally:
        RESERVE.close(descriptor)


def _inspect_wav(path: str, descriptor: int, ledger: object, problems: list[str]) -> FileFacts:
    header = read_header(descriptor)
    if header is None:
        return FileFacts(path, None, 0, "", ledger, [*problems, "it is not a WAV or Opus file"])
    problems += _header_problems(descriptor, header)
    width = header.format.bytes_per_frame
    size = min(header.data_size, max(0, os.fstat(descriptor).st_size - header.data_offset))
    length = size // width
    sha256 = digest_of(descriptor, header.data_offset, length * width).sha256
    return FileFacts(path, header.format, length, sha256, ledger, problems)


def _inspect_ogg(path: str, descriptor: int, ledger: object, problems: list[str]) -> FileFacts:
    found = read_file(descriptor)
    if found is None:
        return FileFacts(path, None, 0, "", ledger, [*problems, "its header is damaged"])
    size = os.fstat(descriptor).st_size
    if found.size < size:
        problems.append(f"the last {size - found.size} bytes are damaged")
    if not found.ended:
        problems.append("its closing page is missing")
    sha256 = digest_of(descriptor, 0, size).sha256
    audio_format = AudioFormat(48_000, found.channels)
    return FileFacts(path, audio_format, found.length, sha256, ledger, problems)


def _ledger_beside(file: pathlib.Path) -> pathlib.Path:
    """Return the ledger beside a recording; for a link, the one that is beside it or its target."""
    ledger = file.with_suffix(".json")
    if file.is_symlink() and not is_regular(ledger):
        return file.resolve().with_suffix(".json")
    return ledger


def _read_ledger(path: pathlib.Path) -> tuple[object, str | None]:
    try:
        return parse(read_found(path, MAX_LEDGER_BYTES)), None
    except FileNotFoundError:
        return None, f"there is no ledger {path.name}"
    except Refused as error:
        return None, f"the ledger {path.name} cannot be read: {error.strerror}"
    except (OSError, ValueError):
        return None, f"the ledger {path.name} cannot be read"


def _header_problems(descriptor: int, header: WavHeader) -> list[str]:
    size = os.fstat(descriptor).st_size
    problems = []
    if header.data_offset + header.data_size > size:
        missing = header.data_offset + header.data_size - size
        problems.append(f"the file is {missing} bytes shorter than its header says")
    if header.data_size % header.format.bytes_per_frame:
        problems.append("the data are not a whole number of samples")
    riff = int.from_bytes(os.pread(descriptor, 4, 4), "little")
    if riff != MAX_RIFF_SIZE and riff + 8 != size:
        problems.append(f"the header states {riff + 8} bytes, the file has {size}")
    return problems
