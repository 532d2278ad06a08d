"""Makes the file of a killed process valid, with all sound that was written."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

import soundfile

from adapters.storage.digest import Digest, digest_of
from adapters.storage.folder.journal import FoundJournal
from adapters.storage.ogg.file import find_end
from adapters.storage.wav.header import (
    MAX_RIFF_SIZE,
    WavHeader,
    frames_in,
    header_fits,
    read_header,
    write_header,
    write_sizes,
)
from domain.sound.formats import AudioFormat

_ASSUMED_FORMAT = AudioFormat(48_000, 1)
"""The format to assume if header and journal are both lost: the most common one."""
_ASSUMED_OFFSET = 44


@dataclass(frozen=True, slots=True)
class Repaired:
    """A file that is valid now."""

    format: AudioFormat
    length: int
    """Samples per channel."""
    digest: Digest
    notes: Sequence[str] = ()
    """Types of events for the ledger."""


def repair_ogg(descriptor: int, journal: FoundJournal) -> Repaired:
    """Write a closing page after the last intact page.

    Raises `ValueError` if the header cannot be read; then nothing has been changed.
    """
    found = find_end(descriptor, journal)
    if found is None:
        raise ValueError("its header cannot be read, so it was not changed")
    length = found.writer.position
    if not found.ended:
        os.ftruncate(descriptor, found.size)
        os.pwrite(descriptor, found.writer.end(), found.size)
    digest = digest_of(descriptor, 0, os.fstat(descriptor).st_size)
    return Repaired(AudioFormat(48_000, found.channels), length, digest)


def repair_wav(descriptor: int, journal: FoundJournal) -> Repaired:
    """Make the file a WAV of whole samples with a correct header.

    Raises `ValueError` if another program has written the file; then nothing has been changed.
    """
    header, notes = _find_header(descriptor, journal)
    digest = digest_of(descriptor, header.data_offset, header.data_size, header.format)
    length = header.data_size // header.format.bytes_per_frame
    return Repaired(header.format, length, digest, notes)


def _find_header(descriptor: int, journal: FoundJournal) -> tuple[WavHeader, Sequence[str]]:
    found = read_header(descriptor)
    if journal.info is not None and found is not None and found.format != journal.info.format:
        found = None  # trust the journal: its first line is written once and never changed
    if journal.info is None and _is_foreign(descriptor, found):
        raise ValueError("it is not a recording of Gapless, so it was not changed")
    if found is not None:
        header = _cut_to_size(descriptor, found, keep_trailing=journal.info is None)
        frames = header.data_size // header.format.bytes_per_frame
        if _read_by_others(descriptor) == (*_rate_and_channels(header), frames):
            return header, ()
    audio_format = journal.info.format if journal.info else _ASSUMED_FORMAT
    offset = journal.data_offset or (found.data_offset if found else _ASSUMED_OFFSET)
    if not header_fits(offset):
        offset = _ASSUMED_OFFSET
    size = os.fstat(descriptor).st_size - offset
    header = write_header(descriptor, audio_format, offset, large=size > MAX_RIFF_SIZE - offset)
    return _cut_to_size(descriptor, header, keep_trailing=False), ["header rebuilt"]


def _cut_to_size(descriptor: int, header: WavHeader, *, keep_trailing: bool) -> WavHeader:
    """Truncate the file to whole samples, and write their size into its header."""
    if header.trailing and keep_trailing:
        return header  # chunks after the data are not sound: another program wrote the file
    frames = frames_in(descriptor, header.format, header.data_offset)
    size = frames * header.format.bytes_per_frame
    os.ftruncate(descriptor, header.data_offset + size + size % 2)
    write_sizes(descriptor, header, size)
    return replace(header, data_size=size, trailing=False)


def _is_foreign(descriptor: int, header: WavHeader | None) -> bool:
    """Return whether libsndfile reads the file differently than we do."""
    read = _read_by_others(descriptor)
    if read is None or not read[2]:
        return False
    return header is None or read[:2] != _rate_and_channels(header)


def _read_by_others(descriptor: int) -> tuple[int, int, int] | None:
    """Return rate, channels and frames according to libsndfile; None if it cannot read the file.

    The header may be damaged in a field that we do not read.
    """
    try:
        os.lseek(descriptor, 0, os.SEEK_SET)
        info = soundfile.info(os.dup(descriptor))  # it closes the copy
    except (soundfile.LibsndfileError, OSError, ValueError):
        return None
    return info.samplerate, info.channels, info.frames


def _rate_and_channels(header: WavHeader) -> tuple[int, int]:
    return header.format.sample_rate_hz, header.format.channels
