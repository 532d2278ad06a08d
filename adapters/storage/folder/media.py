"""Reads format and length from a file of sound, without ledger or journal."""

from __future__ import annotations

import os

from adapters.storage.ogg.opus import read_file
from adapters.storage.ogg.pages import find_last_page
from adapters.storage.wav.header import frames_in, read_header
from domain.recording.ledger import Container
from domain.recording.reading import MAX_SAMPLES
from domain.sound.formats import AudioFormat


def read_format(descriptor: int, container: Container) -> AudioFormat | None:
    """Return the format of a file; None if it is not a recording. Raises `OSError`."""
    if container is Container.OGG:
        found = read_file(descriptor)
        return None if found is None else AudioFormat(48_000, found.channels)
    header = read_header(descriptor)
    return None if header is None else header.format


def measure(descriptor: int, container: Container) -> int:
    """Count samples per channel, also in a file that is being written. Raises `OSError`."""
    if container is Container.OGG:
        page = find_last_page(descriptor)
        # a page can claim any position, and nothing lasts so long
        return 0 if page is None or page.granule > MAX_SAMPLES else page.granule
    header = read_header(descriptor)
    if header is None:
        return 0
    if header.trailing:
        return header.data_size // header.format.bytes_per_frame
    return frames_in(descriptor, header.format, header.data_offset)


def data_offset_of(descriptor: int, container: Container) -> int:
    """Return the offset of PCM data in a WAV; 0 for packets. Raises `OSError`."""
    header = read_header(descriptor) if container is Container.WAV else None
    return 0 if header is None else header.data_offset


def is_closed(descriptor: int, container: Container) -> bool:
    """Return whether a file has the end that its header or last page states. Raises `OSError`."""
    size = os.fstat(descriptor).st_size
    if container is Container.OGG:
        page = find_last_page(descriptor)
        return page is not None and page.last and page.offset + page.size == size
    header = read_header(descriptor)
    if header is None:
        return False
    return header.data_offset + header.data_size + header.data_size % 2 <= size
