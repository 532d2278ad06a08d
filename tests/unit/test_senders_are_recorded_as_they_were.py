"""Each scripted sender is recorded as it was, in virtual time: packets arrive when they are sent.

The same scripts are played over a real network in tests/integration. Here nothing is late by
chance.
"""

from __future__ import annotations

import itertools
import math
import pathlib
import random
from collections.abc import Sequence

import pytest

from adapters.codec.decoders import make_decoder
from adapters.storage.folder.store import FolderStore
from adapters.transport.sockets.rounds import MAX_WAIT_S
from benchmarks.senders.case import Case
from benchmarks.senders.cases import CASES
from benchmarks.senders.expected import differences, truth_of
from benchmarks.senders.player import Negotiated
from benchmarks.senders.recorded import read_session
from benchmarks.senders.script import G722, OPUS, PCMU, RED, Connect, Item, Packet, Report
from domain.recording.effects import EndReason
from domain.rtp.packets import RtpPacket
from domain.rtp.reports import SenderReport
from domain.services.server.track_identity import TrackIdentity
from domain.services.server.track_processor import AudioTrackProcessor
from domain.session.policy import SessionPolicy
from domain.sound.detection import CodecParameters
from tests.fakes.events import SeenByServer
from tests.fakes.media import MAX_READ_DELAY_S
from tests.fakes.time import FakeClock

TICK_S = 0.05
SESSION = "5" * 32
NTP_S = 4e9
"""The sender's wall clock at its beginning."""
OPUS_CODECS = {
    OPUS: CodecParameters("opus", OPUS, 48_000, 2),
    RED: CodecParameters("red", RED, 48_000, 2),
}
TELEPHONE_CODECS = {
    PCMU: CodecParameters("pcmu", PCMU, 8_000, 1),
    G722: CodecParameters("g722", G722, 8_000, 1),
}


def script_of(case: Case) -> Sequence[Item]:
    return case.script(Negotiated(frozenset([OPUS]), capture_time=3, is_stereo=False))


def is_of_one_connection(case: Case) -> bool:
    """Whether the case needs no session with several connections, and no negotiation."""
    return not any(isinstance(item, Connect) for item in script_of(case)) and (
        "stereo" not in case.name
    )


class Player:
    """Plays a script to a track."""

    def __init__(
        self, case: Case, folder: pathlib.Path, *, jitter_s: float, read_s: float = 0.0
    ) -> None:
        """What arrives is read every `read_s` seconds, or at once if that is 0."""
        self.clock, self.store = FakeClock(), FolderStore(str(folder))
        self.store.check()
        self._began, self._arrived = self.clock.now, 0.0
        self._jitter_s, self._random = jitter_s, random.Random(1)
        self._read_s = read_s
        self._has_capture_times = case.offered.capture_time
        self.items = sorted(script_of(case), key=lambda item: item.at)
        first = next(item for item in self.items if isinstance(item, Packet))
        is_opus = first.payload_type in OPUS_CODECS
        self.track = AudioTrackProcessor(
            TrackIdentity(session_id=SESSION),
            SessionPolicy(),
            decoders=make_decoder,
            store=self.store,
            clock=self.clock,
            events=SeenByServer(),
        )
        codecs = OPUS_CODECS if is_opus else {
            first.payload_type: TELEPHONE_CODECS[first.payload_type]
        }  # fmt: skip
        self.track.connect(codecs, now=self.clock.now)

    async def play(self) -> None:
        for read_at, items in itertools.groupby(self.items, self._read_at):
            self._wait_until(self._began + read_at)
            for item in items:
                if isinstance(item, Packet):
                    self.track.packets_received([self._packet(item)])
                elif isinstance(item, Report):
                    self.track.sender_reported(self._report(item))
            self._record()
        self.clock.advance(0.1)
        await self.track.end(EndReason.CLOSED, now=self.clock.now)
        self.store.close()

    def _read_at(self, item: Item) -> float:
        read_s = self._read_s
        return math.ceil(item.at / read_s) * read_s if read_s else item.at

    def _wait_until(self, at: float) -> None:
        while self.clock.now < at - TICK_S:
            self.clock.advance(TICK_S)
            self.track.poll(now=self.clock.now - MAX_READ_DELAY_S)
            self._record()
        self.clock.now = max(self.clock.now, at)

    def _record(self) -> None:
        self.track.decode()
        self.track.store()

    def _packet(self, item: Packet) -> RtpPacket:
        late_s = self._random.random() * self._jitter_s
        self._arrived = max(self._arrived, self._began + item.at + late_s)
        packet = RtpPacket(
            item.payload_type, item.sequence, item.timestamp, item.ssrc, item.payload, item.marker,
            self._arrived,
        )  # fmt: skip
        if item.is_capture_time_due and self._has_capture_times:
            packet.captured_s = NTP_S + item.captured
        return packet

    def _report(self, item: Report) -> SenderReport:
        ntp = 0 if item.ntp is None else round((NTP_S + item.ntp) * 2**32)
        return SenderReport(item.ssrc, ntp, item.rtp_timestamp, self._began + item.at)


@pytest.mark.parametrize(("jitter_s", "read_s"), [(0.0, 0.0), (0.01, 0.0), (0.002, MAX_WAIT_S)])
@pytest.mark.parametrize(
    "name", [name for name, case in CASES.items() if is_of_one_connection(case)]
)
async def test_a_sender_is_recorded_as_it_was(
    name: str, jitter_s: float, read_s: float, tmp_path: pathlib.Path
) -> None:
    case = CASES[name]
    player = Player(case, tmp_path, jitter_s=jitter_s, read_s=read_s)
    await player.play()
    recorded = read_session(tmp_path, SESSION)
    assert differences(recorded, truth_of(player.items), case.expected) == []
