"""Keeps captured sound beside a recording of packets, which cannot hold it exactly.

``NAME.restored`` is a JSON object that says what is in ``NAME.restored.pcm``, and ``gapless
render`` makes a WAV of both. The packets stay as they were received.
"""

from __future__ import annotations

import contextlib
import errno
import os
import pathlib
from typing import Any

from adapters.descriptors import RESERVE
from adapters.opening import create_file, mode_in, open_found
from adapters.storage.folder.disk import add_path
from adapters.storage.folder.files import sync_file
from adapters.storage.folder.ledgers import read_document, read_ledger
from adapters.storage.folder.swap import Swap
from adapters.storage.media_file import write_all
from adapters.storage.restoring.complete import CompleteRecording
from adapters.storage.restoring.held import CapturedAndHeld
from adapters.storage.restoring.journal import (
    read_captured,
    read_ranges,
    write_captured,
    write_ranges,
)
from adapters.storage.restoring.pcm import PcmReader
from domain.ports.restoring import Restored
from domain.recording.ledger import RestoreMode, RestoreState, describe_restoring
from domain.recording.ranges import RangeSet
from domain.recording.reading import audio_format, shown
from domain.sound.conversion import pack

VERSION = 1
_COPY_S = 5


def keep_beside(
    swap: Swap, recording: CompleteRecording, sound: CapturedAndHeld, state: RestoreState
) -> Restored:
    """Keep what is restored beside a recording of packets. Raises `OSError`."""
    name = recording.info.name
    if sound.layout_of(recording) is not None:
        swap.write_json(f"{name}.restored", _describe(sound, state))
        _keep_pcm(swap.new(f"{name}.restored.pcm"), sound)
    note_state(swap, recording, sound, state)
    swap.commit()
    return outcome_beside(recording, sound)


def outcome_beside(recording: CompleteRecording, sound: CapturedAndHeld) -> Restored:
    """Return what a WAV will be that is rendered from a recording of packets. Raises `OSError`."""
    sha256 = sound.sha256() if sound.replaces(recording) else ""
    if (layout := sound.layout_of(recording)) is None:
        return Restored(sha256, recording.ledger.length, 0, recording.info.format.sample_rate_hz)
    return Restored(sha256, layout.length, layout.restored, layout.rate_hz)


def note_state(
    swap: Swap, recording: CompleteRecording, sound: CapturedAndHeld, state: RestoreState
) -> None:
    """Write the ledgers of a recording again, whose sound stays as it is. Raises `OSError`."""
    state = state if sound.fits(recording) else RestoreState.OFF
    for item in recording.parts:
        restore = describe_restoring(sound.mode, read_ledger(item.entry), state)
        swap.write_json(item.files.ledger.name, {**item.entry, "restore": restore})


def read_beside(path: pathlib.Path) -> tuple[CapturedAndHeld, RestoreState] | None:
    """Read what is kept beside the recording ``NAME.opus``; None if nothing is.

    Raises `OSError`, and `ValueError` if it cannot be read.
    """
    description = path.with_suffix(".restored")
    if not os.path.lexists(description):
        return None
    entry = read_document(description)
    try:
        if entry["version"] != VERSION:
            raise ValueError(f"version {shown(entry['version'])} is not known")
        told = entry["captured"]
        spool_format = audio_format(entry["spool"])
        captured = None if told is None else read_captured(told)
        held = RangeSet(read_ranges(entry["held"]))
        pcm = PcmReader(path.with_suffix(".restored.pcm"), spool_format, held)
        sound = CapturedAndHeld(RestoreMode(entry["mode"]), captured, held, pcm)
        return sound, RestoreState(entry["state"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{description.name} cannot be read: {error}") from error


def _describe(sound: CapturedAndHeld, state: RestoreState) -> dict[str, Any]:
    captured = sound.captured
    return {
        "version": VERSION,
        "spool": sound.pcm.format.as_json(),
        "mode": sound.mode.value,
        "state": state.value,
        "captured": None if captured is None else write_captured(captured),
        "held": write_ranges(sound.held),
    }


def _keep_pcm(path: pathlib.Path, sound: CapturedAndHeld) -> None:
    """Give the file of the captured sound a second name, or copy it. Raises `OSError`."""
    try:
        path.hardlink_to(sound.pcm.path)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
            raise
        _copy(path, sound)
        return
    descriptor = open_found(path)
    try:
        sync_file(descriptor, path)
    finally:
        RESERVE.close(descriptor)


def _copy(path: pathlib.Path, sound: CapturedAndHeld) -> None:
    spool_format = sound.pcm.format
    most = _COPY_S * spool_format.sample_rate_hz
    descriptor = create_file(path, mode_in(path.parent))
    try:
        for item in sound.held:
            for start in range(item.start, item.end, most):
                length = min(most, item.end - start)
                data = pack(sound.pcm.read(start, length), spool_format.sample_format)
                write_all(descriptor, data, start * spool_format.bytes_per_frame)
        sync_file(descriptor, path)
    except OSError as error:
        add_path(error, path)
        raise
    finally:
        with contextlib.suppress(OSError):  # what is used of it was synced
            RESERVE.close(descriptor)
