"""Makes what a long session with losses leaves, in a short time: its recording and its spool.

Real components write both, with the sound of the whole session given to them at once. A server that
is started on the folder waits for the rest, and `gapless spool send` sends it.
"""

from __future__ import annotations

import asyncio
import datetime
import hashlib
import pathlib
import random
import secrets
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import soundfile

from adapters.codec.decoders import make_decoder
from adapters.codec.pyav import PyAvResampler
from adapters.storage.folder.catalogue import FolderCatalogue
from adapters.storage.folder.disk import SyncThread
from adapters.storage.folder.part import PartOptions
from adapters.storage.folder.parts import RecordingParts
from adapters.storage.restoring.pieces import FolderPieces
from adapters.storage.restoring.rewriting import FolderRewrite
from adapters.storage.spool.folder import DiskSpoolFolder
from adapters.storage.spool.room import SpoolOptions
from domain.ports.restoring import RestoreKey
from domain.ports.spool import SpoolDescription, SpoolSession
from domain.recording.ledger import (
    LedgerEvent,
    RecordingInfo,
    RestoreMode,
    SampleKind,
)
from domain.recording.naming import recording_name
from domain.recording.restoring import LOOK_AHEAD, PLACED, SpoolInfo
from domain.session.session import digest_of
from domain.sound.formats import AudioFormat, AudioFrame, Samples
from tests.rigs.sound import FRAME, RATE, speech

FORMAT = AudioFormat(RATE, 1)
RECOVERED = 0.8
"""Share of the lost packets that FEC recovers where single packets are lost."""


@dataclass(frozen=True)
class Owed:
    """A session whose client has to send what was lost."""

    session_id: str
    recording: pathlib.Path
    mode: RestoreMode
    seconds: int
    seed: int
    lost: float
    """Share of the packets."""
    sha256: str
    """Of the PCM that was captured."""

    def captured(self) -> Samples:
        """Return all that was captured."""
        return np.concatenate(list(captured(self.seconds, self.seed)))

    def write_captured(self, path: pathlib.Path) -> None:
        """Write all that was captured to a file, second by second."""
        with soundfile.SoundFile(str(path), "w", RATE, 1, "PCM_16") as file:
            for block in captured(self.seconds, self.seed):
                file.write(block)


def captured(seconds: int, seed: int) -> Iterator[Samples]:
    """Yield speech second by second; none is the same as another one."""
    spoken = speech(60)
    noise = np.random.default_rng(seed)
    for second in range(seconds):
        start = second % 60 * RATE
        rustle = noise.integers(-3, 4, (RATE, 1), dtype="<i2")
        yield np.clip(spoken[start : start + RATE].astype("<i4") + rustle, -32768, 32767).astype(
            "<i2"
        )


async def make_owed(
    recordings: pathlib.Path,
    spools: pathlib.Path,
    *,
    seconds: int,
    mode: RestoreMode,
    lost: float = 0.2,
    seed: int = 1,
    server: str = "http://127.0.0.1:8080",
) -> Owed:
    """Make the recording of a session that has ended just now, and the spool of its client."""
    session_id, secret = secrets.token_hex(8), secrets.token_hex(16)
    ended_at = datetime.datetime.now(datetime.UTC)
    started_at = ended_at - datetime.timedelta(seconds=seconds)
    spool = SpoolInfo(0, FORMAT, mode, started_at)
    sha256 = await _keep(
        spools, spool, SpoolSession(server, session_id, secret), seconds=seconds, seed=seed
    )
    recordings.mkdir(exist_ok=True)
    catalogue = FolderCatalogue(str(recordings), make_decoder)
    try:
        rewrite = FolderRewrite(str(recordings), catalogue, PyAvResampler)
        store = FolderPieces(str(recordings), lambda _id: True, rewrite)
        name = recording_name(started_at=started_at, client_name="", session_id=session_id)
        info = RecordingInfo(
            id=session_id,
            name=name,
            format=FORMAT,
            codec="opus",
            started_at=started_at,
            session_id=session_id,
            restore=mode,
        )
        pieces = await store.begin(
            RestoreKey(session_id, digest_of(secret), "", spool, mode, started_at)
        )
        _record(recordings, info, catalogue, seconds=seconds, seed=seed, lost=lost)
        await pieces.note_end(ended_at)
    finally:
        catalogue.close()
    return Owed(session_id, recordings / f"{name}.wav", mode, seconds, seed, lost, sha256)


async def _keep(
    folder: pathlib.Path, spool: SpoolInfo, session: SpoolSession, *, seconds: int, seed: int
) -> str:
    """Write a spool; return the hash of its PCM."""
    assert spool.started_at is not None
    options = SpoolOptions(waiting_s=2.0 * seconds)  # it gets everything at once
    writer = await DiskSpoolFolder(str(folder), options).create(
        SpoolDescription(
            id=f"{spool.started_at:%Y%m%dT%H%M%SZ}-{session.session_id[:8]}",
            format=spool.format,
            started_at=spool.started_at,
            server=session.server,
            rtp_timestamp=spool.rtp_timestamp,
            mode=spool.mode,
        )
    )
    digest = hashlib.sha256()
    for second, block in enumerate(captured(seconds, seed)):
        digest.update(block.tobytes())
        writer.write(AudioFrame(spool.format, block, second * RATE))
        if second % 60 == 59:  # an hour does not fit into memory
            while writer.spool.length <= (second - 30) * RATE:
                assert writer.failure is None, writer.failure
                await asyncio.sleep(0.01)
    await writer.spool.note_session(session)
    await writer.finish()
    assert writer.failure is None, writer.failure
    await writer.spool.release()
    return digest.hexdigest()


def _record(
    folder: pathlib.Path,
    info: RecordingInfo,
    catalogue: FolderCatalogue,
    *,
    seconds: int,
    seed: int,
    lost: float,
) -> None:
    """Write the live recording: Opus delays sound by its look-ahead, and some packets are lost."""
    sync = SyncThread(folder)
    try:
        parts = RecordingParts(folder, info, PartOptions(), sync, catalogue)
        parts.open()
        parts.note(LedgerEvent(PLACED, 0, {"gap": 0, "ticks": -LOOK_AHEAD}))
        dice = random.Random(seed)
        delayed = np.zeros((LOOK_AHEAD, 1), "<i2")
        for block in captured(seconds, seed):
            sound = np.concatenate([delayed, block])
            delayed = sound[RATE:]
            for start in range(0, RATE, FRAME):
                packet, kind = sound[start : start + FRAME], SampleKind.RECEIVED
                if dice.random() < lost:
                    is_recovered = dice.random() < RECOVERED
                    kind = SampleKind.RECOVERED if is_recovered else SampleKind.CONCEALED
                    packet = packet // 2
                parts.write([packet], kind)
        parts.finish("closed", info.started_at + datetime.timedelta(seconds=seconds))
    finally:
        sync.close()
