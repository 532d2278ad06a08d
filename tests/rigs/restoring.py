"""Makes live recordings of a spool from a script, and says what restoring has to make of them."""

from __future__ import annotations

import datetime
import hashlib
import pathlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from adapters.codec.decoders import make_decoder
from adapters.codec.pyav import PyAvResampler
from adapters.storage.folder.catalogue import FolderCatalogue
from adapters.storage.folder.disk import SyncThread
from adapters.storage.folder.part import PartOptions
from adapters.storage.folder.parts import RecordingParts
from adapters.storage.restoring.pcm import PcmReader, write_pcm
from adapters.storage.restoring.rewriting import FolderRewrite
from domain.ports.restoring import Restored, RestoreKey
from domain.recording.ledger import (
    Container,
    LedgerEvent,
    RecordingInfo,
    RestoreMode,
    RestoreState,
    SampleKind,
)
from domain.recording.naming import recording_name
from domain.recording.ranges import Range, RangeSet
from domain.recording.restoring import LOOK_AHEAD, PLACED, Captured, SpoolInfo
from domain.session.titles import title_of
from domain.sound.conversion import pack
from domain.sound.formats import AudioFormat, SampleFormat, Samples
from domain.sound.pieces import EncodedSound

START = datetime.datetime(2026, 1, 2, 3, 4, 5, 678_901, tzinfo=datetime.UTC)
SESSION = "00000000000000ab"
MONO = AudioFormat(48_000, 1)
SUFFIXES = (".wav", ".json", ".new", ".swap", ".opus", ".restored", ".pcm")


def noise(audio_format: AudioFormat, length: int, seed: int = 0) -> Samples:
    """Return loud noise, in which each sample is unlike its neighbours."""
    random = np.random.default_rng(seed)
    bits = audio_format.sample_format.bits
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1)
    if audio_format.sample_format is SampleFormat.U8:
        low, high = 0, 256
    shape = length, audio_format.channels
    return random.integers(low, high, shape).astype(audio_format.sample_format.dtype)


@dataclass
class Live:
    """A live recording as a script makes it, on the axis of a spool in ticks."""

    pcm: Samples
    """What was captured, in 48 kHz s16, as Opus would bring it."""
    at: int = -LOOK_AHEAD
    """The tick that the next live sample has."""
    sound: list[tuple[Samples, SampleKind]] = field(default_factory=list)
    events: list[LedgerEvent] = field(default_factory=list)
    length: int = 0
    stalls: list[tuple[int, int]] = field(default_factory=list)
    """Tick and length."""
    told: int = 0
    known: dict[int, tuple[int, SampleKind]] = field(default_factory=dict)
    """For each tick: its position in the live recording, and its kind."""
    about: int | None = None
    """Set if the client does not know its timestamps: its positions in the spool are estimates."""
    error: int = 0
    """By how many ticks these are too late."""
    heard: Callable[[Samples], Samples] = np.invert
    """What comes of captured sound: like it, but no sample is the same."""

    def begin(self, pre_roll: int) -> None:
        self.at = pre_roll - LOOK_AHEAD
        self.told = max(0, self.at)
        self.place(0)

    def place(self, gap: int) -> None:
        details = {"gap": gap, "ticks": self.at + self.error}
        if self.about is not None:
            details["about"] = self.about
        self.events.append(LedgerEvent(PLACED, self.length, details))

    def run(self, length: int, kind: SampleKind) -> None:
        """Record the next ticks."""
        ticks = np.arange(self.at, self.at + length)
        inside = (ticks >= 0) & (ticks < len(self.pcm))
        found = np.zeros((length, self.pcm.shape[1]), "<i2")
        if kind not in (SampleKind.SILENCE, SampleKind.DTX):
            found[inside] = self.heard(self.pcm[ticks[inside]])
        for offset, tick in enumerate(ticks):
            if tick >= self.told:
                self.known[int(tick)] = (self.length + offset, kind)
        self._add(found, kind)
        self.at += length
        self.told = max(self.told, self.at)

    def stall(self, length: int) -> None:
        """Record time in which nothing was captured."""
        self.place(length)
        self.stalls.append((max(self.told, self.at), length))
        self._add(np.zeros((length, self.pcm.shape[1]), "<i2"), SampleKind.SILENCE)

    def jump(self, lost: int, gap: int) -> None:
        """Lose ticks, of which only `gap` are in the recording, as silence."""
        # the silence stands for the time that is left out, of which some may be known already
        known = min(gap, max(0, min(self.told, self.at + lost) - self.at))
        ahead = max(0, self.at + lost - self.told)
        beside = min(ahead, gap - known)
        for offset in range(beside):
            self.known[self.told + offset] = (self.length + known + offset, SampleKind.SILENCE)
        self.at += lost
        self.place(gap)
        if gap > known + beside:
            self.stalls.append((max(self.told, self.at), gap - known - beside))
        self.told = max(self.told, self.at)
        self._add(np.zeros((gap, self.pcm.shape[1]), "<i2"), SampleKind.SILENCE)

    def _add(self, samples: Samples, kind: SampleKind) -> None:
        self.sound.append((samples, kind))
        self.length += len(samples)


@dataclass
class Folder:
    """A folder of recordings, in which one is restored."""

    path: pathlib.Path
    spool: AudioFormat
    mode: RestoreMode = RestoreMode.LOST
    options: PartOptions = field(default_factory=PartOptions)
    live_format: AudioFormat = MONO
    rtp_timestamp: int = 0
    room: str = ""
    client: str = "kitchen"

    def __post_init__(self) -> None:
        self.catalogue = FolderCatalogue(str(self.path), make_decoder, rescan_s=0.0)
        self.rewrite = FolderRewrite(str(self.path), self.catalogue, PyAvResampler, self.options)
        (self.path / f"{SESSION}.restore").touch()

    @property
    def key(self) -> RestoreKey:
        spool = SpoolInfo(0, self.spool, self.mode)
        return RestoreKey(SESSION, "", self.client, spool, self.mode, START, self.room)

    @property
    def name(self) -> str:
        return recording_name(started_at=START, client_name=self.client, session_id=SESSION)

    @property
    def info(self) -> RecordingInfo:
        return RecordingInfo(
            id=SESSION,
            name=self.name,
            format=self.live_format,
            codec="opus",
            started_at=START,
            session_id=SESSION,
            room=self.room,
            title=title_of(self.client),
            restore=self.mode,
        )

    def record(self, live: Live, options: PartOptions | None = None) -> None:
        sync = SyncThread(self.path)
        parts = RecordingParts(self.path, self.info, options or self.options, sync, self.catalogue)
        try:
            parts.open()
            events, position = list(live.events), 0
            for samples, kind in live.sound:
                while events and events[0].position <= position:
                    parts.note(events.pop(0))
                parts.write([samples], kind)
                position += len(samples)
            for event in events:
                parts.note(event)
            parts.finish("closed", START + datetime.timedelta(hours=1))
        finally:
            sync.close()

    def record_packets(
        self,
        packets: Sequence[EncodedSound],
        first: int,
        last: int,
        *,
        ticks: int = -LOOK_AHEAD,
        **more: int,
    ) -> None:
        """Record packets, of which those from `first` up to `last` are lost.

        `ticks` and `more` say where they are in the spool.
        """
        sync = SyncThread(self.path)
        about = replace(self.info, container=Container.OGG)
        parts = RecordingParts(self.path, about, self.options, sync, self.catalogue)
        try:
            parts.open()
            parts.note(LedgerEvent(PLACED, 0, {"gap": 0, "ticks": ticks, **more}))
            parts.write(packets[:first], SampleKind.RECEIVED)
            parts.write_silence(sum(map(len, packets[first:last])), SampleKind.SILENCE)
            parts.write(packets[last:], SampleKind.RECEIVED)
            parts.finish("closed", START)
        finally:
            sync.close()

    def hold(self, pcm: Samples, held: Sequence[Range]) -> PcmReader:
        """Keep what has arrived of a spool."""
        path = self.path / f"{SESSION}.restore.pcm"
        data = pack(pcm, self.spool.sample_format)
        write_pcm(path, self.spool, 0, data, held)
        return PcmReader(path, self.spool, RangeSet(held))

    def restore(
        self,
        pcm: Samples,
        held: Sequence[Range] | None = None,
        *,
        missing: Sequence[Range] = (),
        state: RestoreState = RestoreState.COMPLETE,
        is_told: bool = True,
    ) -> Restored:
        """Restore from what is held: everything, unless it is told."""
        ranges = [Range(0, len(pcm))] if held is None else held
        with self.hold(pcm, ranges) as reader:
            captured = captured_of(pcm, self.spool, missing) if is_told else None
            return self.rewrite(self.key, captured, RangeSet(ranges), reader, state)

    def close(self) -> None:
        self.catalogue.close()

    def read(self) -> Samples:
        """Return the whole recording."""
        opened = self.catalogue.open(SESSION)
        try:
            return opened.read_samples(0, opened.entry.length)
        finally:
            opened.close()

    def kinds(self) -> list[SampleKind]:
        """Return the kind of each sample."""
        spans = self.catalogue.ledger(SESSION)["spans"]
        return [SampleKind(span["kind"]) for span in spans for _ in range(span["length"])]

    def files(self) -> dict[str, bytes]:
        """Return the recording's files."""
        return {
            path.name: path.read_bytes()
            for path in sorted(self.path.iterdir())
            if path.suffix in SUFFIXES and path.name != f"{SESSION}.restore.pcm"
        }


def captured_of(pcm: Samples, audio_format: AudioFormat, missing: Sequence[Range] = ()) -> Captured:
    """Return what a client says of its spool."""
    data = pack(pcm, audio_format.sample_format)
    return Captured(len(pcm), hashlib.sha256(data).hexdigest(), tuple(missing))
