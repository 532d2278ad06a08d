"""Ports of the commands that inspect, recover and render recordings."""

from __future__ import annotations

from typing import Protocol

from domain.ports.storage import Recovery
from domain.recording.completed import CompletedRecording
from domain.recording.verification import FileFacts


class RecordingInspector(Protocol):
    """Reads a recording for `verification.verify`."""

    def inspect(self, location: str, source: str | None = None) -> FileFacts:
        """Read a recording and the ledger beside it, and compare it with what was captured.

        `source` is a file with all that was captured. Raises `InputUnreadable` without a file.
        """


class RecordingRecovery(Protocol):
    """Completes recordings that a process has left unfinished."""

    def recover(self, folder: str) -> Recovery:
        """Complete the unfinished recordings in a folder; doing it again changes nothing.

        Recordings that a running process writes are left alone. Raises `StorageFailed` when the
        folder cannot be read.
        """


class RecordingRenderer(Protocol):
    """Makes a PCM recording from one that holds Opus packets."""

    def prepare(self, folder: str) -> None:
        """Make the folder for renderings. Raises `InputUnreadable` when that is impossible."""

    def render(self, location: str, folder: str | None) -> CompletedRecording:
        """Decode a recording into a WAV with its own ledger.

        In another `folder` the WAV keeps the recording's name; without a folder it is written
        beside the recording as NAME-rendered. Nothing is replaced. Raises `InputUnreadable` when
        the recording is not valid or holds no packets, and `StorageFailed`.
        """
