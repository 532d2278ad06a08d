"""A recording is never further ahead of the wall clock than a burst, whatever its sender says.

Senders are scripted, and time is virtual: what has arrived is read every 40 ms.
"""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest

from adapters.codec.decoders import make_decoder
from adapters.storage.memory import MemoryStore
from benchmarks.senders.script import G722, OPUS, PCMU, RED
from domain.recording.effects import EndReason, Noted
from domain.recording.ledger import SampleKind
from domain.recording.pace_limit import MAX_FAST, PaceLimit
from domain.recording.reconstruction import Run
from domain.recording.recording import Recording
from domain.recording.timeline import Timeline
from domain.rtp.packets import RtpPacket
from domain.services.server.track_identity import TrackIdentity
from domain.services.server.track_processor import AudioTrackProcessor
from domain.session.limits import SessionLimits
from domain.session.policy import SessionPolicy
from domain.sound.detection import CodecParameters
from domain.sound.formats import AudioFormat
from tests.fakes.events import SeenByServer
from tests.fakes.media import MAX_READ_DELAY_S
from tests.fakes.time import FakeClock

READ_S = 0.04
BURST_S = SessionLimits().max_burst_s
LONG = bytes([0x1B, 2])
"""Two bytes that claim 120 ms: two frames of 60 ms without data."""
SHORT = bytes([0x80, 1, 2])
"""2.5 ms."""
CODECS = {
    OPUS: CodecParameters("opus", OPUS, 48_000, 2),
    RED: CodecParameters("red", RED, 48_000, 2),
    PCMU: CodecParameters("pcmu", PCMU, 8_000, 1),
    G722: CodecParameters("g722", G722, 8_000, 1),
}
UNLIMITED = {"max_packets_per_s": 1e9}


@dataclass(frozen=True)
class Recorded:
    ledger: dict[str, Any]
    passed_s: float
    """The time from the first packet to the last."""
    abuse: str | None
    decoded: int
    """Packets that were decoded."""

    @property
    def length_s(self) -> float:
        return float(self.ledger["length_samples"] / self.ledger["sample_rate_hz"])

    @property
    def limit_s(self) -> float:
        return BURST_S + MAX_FAST * self.passed_s

    def events(self, event_type: str) -> list[dict[str, Any]]:
        return [event for event in self.ledger["events"] if event["type"] == event_type]

    @property
    def json_bytes(self) -> int:
        return len(json.dumps(self.ledger))


class _Decoders:
    """Makes decoders that count what they decode."""

    def __init__(self) -> None:
        self.decoded = 0

    def __call__(self, codec: CodecParameters, audio_format: Any) -> Any:
        decoder = make_decoder(codec, audio_format)
        decode = decoder.decode

        def counted(payload: bytes) -> int:
            self.decoded += 1
            return decode(payload)

        decoder.decode = counted  # type: ignore[method-assign]
        return decoder


class Track:
    """A track that reads its packets every `READ_S`."""

    def __init__(self, *, connections: bool = False, **limits: float) -> None:
        self.clock, self.store, self.decoders = FakeClock(), MemoryStore(), _Decoders()
        self.processor = AudioTrackProcessor(
            TrackIdentity(session_id="s"),
            SessionPolicy(limits=SessionLimits(**limits)),
            decoders=self.decoders,
            store=self.store,
            clock=self.clock,
            events=SeenByServer(),
        )
        self.connect()

    def connect(self, number: int = 1) -> None:
        self.processor.connect(CODECS, number=number, now=self.clock.now)

    def read(self, packets: Sequence[RtpPacket]) -> None:
        if packets:
            self.processor.packets_received(packets)
        self.processor.decode()
        self.processor.store()
        self.processor.poll(now=self.clock.now - MAX_READ_DELAY_S)

    def play(self, packets: Sequence[RtpPacket], *, until_ended: bool = False) -> None:
        """Receive packets, whose `arrived` is the time since now."""
        began = self.clock.now
        for read_at, group in itertools.groupby(
            packets, lambda packet: int(packet.arrived / READ_S + 1) * READ_S
        ):
            while self.clock.now < began + read_at - READ_S:  # nothing comes
                self.clock.advance(READ_S)
                self.read([])
            self.clock.now = began + read_at
            self.read([replace(packet, arrived=began + packet.arrived) for packet in group])
            if until_ended and self.processor.abuse is not None:
                break

    async def end(self) -> list[dict[str, Any]]:
        await self.processor.end(EndReason.CLOSED, now=self.clock.now)
        return [dict(stored.ledger) for stored in self.store.recordings.values()]


async def recorded(packets: Sequence[RtpPacket], *, until_ended: bool = False,
                   **limits: float) -> Recorded:  # fmt: skip
    track = Track(**limits)
    began = track.clock.now
    track.play(packets, until_ended=until_ended)
    abuse = track.processor.abuse
    (ledger,) = await track.end()
    return Recorded(ledger, track.clock.now - began, abuse, track.decoders.decoded)


def sent(
    rate: float,
    seconds: float,
    payload: bytes | Callable[[int], bytes],
    *,
    ticks: int = 0,
    timestamp: Callable[[int], int] | None = None,
    sequence: Callable[[int], int] = lambda n: n,
    ssrc: Callable[[int], int] = lambda _n: 1,
    payload_type: int = OPUS,
) -> list[RtpPacket]:
    """Packets at a steady rate; timestamps grow by `ticks` unless `timestamp` tells them."""
    return [
        RtpPacket(
            payload_type,
            sequence(n) % 2**16,
            (n * ticks if timestamp is None else timestamp(n)) % 2**32,
            ssrc(n),
            payload(n) if callable(payload) else payload,
            arrived=n / rate,
        )
        for n in range(int(rate * seconds))
    ]


def garbage() -> Callable[[int], bytes]:
    """Bytes of chance, each packet an Opus packet of one channel that claims 60 ms or more."""
    chance = random.Random(3)
    return lambda _n: (
        bytes([0x18 | chance.choice((1, 3)), 2]) + chance.randbytes(chance.randint(0, 60))
    )


def deep_red(_n: int) -> bytes:
    """A packet that repeats 140 earlier ones."""
    headers = b"".join(
        (1 << 31 | OPUS << 24 | min(2**14 - 1, 120 * back) << 10 | len(LONG)).to_bytes(4, "big")
        for back in range(140, 0, -1)
    )
    return headers + bytes([OPUS]) + 141 * LONG


def red_steps_back(n: int) -> bytes:
    """A packet that repeats the one before it, which never arrives."""
    header = (1 << 31 | OPUS << 24 | 5760 << 10 | len(LONG)).to_bytes(4, "big")
    return header + bytes([OPUS]) + 2 * LONG


ATTACKS: dict[str, Callable[[], list[RtpPacket]]] = {
    "4,000 packets of 120 ms a second": lambda: sent(4000, 8, LONG, ticks=5760),
    "50 packets of 120 ms a second": lambda: sent(50, 60, LONG, ticks=5760),
    "chance under valid SRTP": lambda: sent(400, 18, garbage(), ticks=5760),
    "RED that repeats what was never sent, and clocks that step back": lambda: sent(
        200, 20, red_steps_back, payload_type=RED, sequence=lambda n: 2 * n,
        timestamp=lambda n: 11520 * n if n % 3 else -11520 * n,
    ),
    "RED that repeats 140 packets": lambda: sent(
        50, 10, deep_red, payload_type=RED, sequence=lambda n: 141 * n, ticks=141 * 5760
    ),
    "jumps ahead and back": lambda: sent(
        200, 20, LONG, timestamp=lambda n: 5760 * n + n % 2 * 2_800_000
    ),
    "jumps of sequence and timestamp": lambda: sent(
        200, 20, LONG, timestamp=lambda n: 5760 * n + n // 2 % 2 * 10**9,
        sequence=lambda n: n + n // 2 % 2 * 20_000,
    ),
    "losses that are concealed": lambda: sent(
        400, 30, SHORT, ticks=4800, sequence=lambda n: 2 * n
    ),
    "a new source with every other packet": lambda: sent(
        1000, 10, LONG, ticks=5760, ssrc=lambda n: n // 2
    ),
    "PCMU": lambda: sent(1000, 10, bytes(160), ticks=160, payload_type=PCMU),
    "G.722": lambda: sent(1000, 10, bytes(160), ticks=160, payload_type=G722),
    "DTX": lambda: sent(400, 20, b"\x08", ticks=4800),
    "empty packets beside sound": lambda: sent(
        1000, 10, lambda n: b"" if n % 2 else LONG, ticks=5760
    ),
    "bursts with pauses": lambda: [
        packet
        for part in range(8)
        for packet in (
            replace(item, arrived=item.arrived + 20.0 * part, timestamp=item.timestamp + part)
            for item in sent(2000, 1, LONG, ticks=5760)
        )
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", ATTACKS)
async def test_a_recording_is_no_further_ahead_than_a_burst(name: str) -> None:
    found = await recorded(ATTACKS[name](), **UNLIMITED)
    assert found.length_s <= found.limit_s
    assert found.ledger["spans"][-1]["start"] < found.ledger["length_samples"]
    (ahead,) = found.events("ahead")[:1]
    assert ahead["length"] > 0
    # sound and losses alternate: 50 bytes for a span are less than the sound of it
    assert found.json_bytes < 10_000 + 60 * len(found.ledger["spans"])
    assert len(found.ledger["spans"]) < 40 * found.limit_s


async def test_the_ledger_of_a_flood_takes_a_kilobyte() -> None:
    found = await recorded(ATTACKS["4,000 packets of 120 ms a second"](), **UNLIMITED)
    assert found.json_bytes < 1500


@pytest.mark.parametrize("name", ["4,000 packets of 120 ms a second", "PCMU"])
async def test_what_comes_too_fast_is_not_even_decoded(name: str) -> None:
    packets = ATTACKS[name]()
    found = await recorded(packets, **UNLIMITED)
    assert found.decoded < len(packets) / 5


@pytest.mark.parametrize(
    "name",
    [
        "4,000 packets of 120 ms a second",
        "50 packets of 120 ms a second",
        "chance under valid SRTP",
        "PCMU",
    ],
)
async def test_a_sender_that_keeps_on_is_to_be_cut_off(name: str) -> None:
    found = await recorded(ATTACKS[name](), until_ended=True)
    assert found.abuse == "it sent far more sound than time has passed"
    assert found.passed_s < 15
    assert found.length_s <= found.limit_s


async def test_what_was_left_out_is_one_event_with_its_length() -> None:
    packets = sent(50, 15, LONG, ticks=5760)
    found = await recorded(packets)
    (ahead,) = found.events("ahead")
    received = sum(s["length"] for s in found.ledger["spans"] if s["kind"] == "received")
    assert received + ahead["length"] == len(packets) * 5760
    assert ahead["position"] == received == found.ledger["length_samples"]
    assert found.events("discontinuity") == []


async def test_a_recording_goes_on_once_the_wall_clock_is_there() -> None:
    """It continues where it was: the time of what was left out is not missing."""
    track = Track()
    track.play(sent(50, 8, LONG, ticks=5760))
    track.clock.advance(20.0)
    track.play([replace(p, sequence=p.sequence + 400, timestamp=p.timestamp + 400 * 5760)
                for p in sent(50, 5, bytes([0x78]) + bytes(20), ticks=960)])  # fmt: skip
    (ledger,) = await track.end()
    kinds = [(span["kind"], span["length"]) for span in ledger["spans"]]
    silent = sum(length for kind, length in kinds if kind == "silence") / 48_000
    assert [kind for kind, _ in kinds] == ["received", "silence", "received"]
    assert kinds[-1][1] == 5 * 48_000
    assert silent == pytest.approx(20.0, abs=0.2)  # nothing was sent meanwhile
    assert [event["type"] for event in ledger["events"]].count("ahead") == 1


def test_a_pause_is_not_counted_twice_beyond_the_limit() -> None:
    """Once as a stall, and once more because the timestamps behind it are not believed."""
    pace = PaceLimit(max_burst_s=5)
    pace.begin(0.0)
    timeline = Timeline(clock_rate_hz=48_000, sample_rate_hz=48_000, max_gap_s=90, pace=pace)
    timeline.place(0, 5 * 48_000, now=0.0)
    timeline.insert(3 * 48_000)
    timeline.restart()
    placement = timeline.place(77, 960, now=3.02)
    assert timeline.position / 48_000 == pytest.approx(5 + MAX_FAST * 3.02, abs=0.001)
    assert placement.gap > 0
    timeline.restart()
    timeline.place(777, 960, now=10.0)  # that much time has passed since
    assert timeline.position / 48_000 == pytest.approx(5 + MAX_FAST * 3.02 + 6.98, abs=0.001)


# -- who is never cut ------------------------------------------------------------------------------


def speech(seconds: float, *, pace: float = 1.0, ticks: int = 960) -> list[RtpPacket]:
    """Packets of 20 ms from a sender whose clock is fast by `pace`."""
    return sent(50 * pace, seconds / pace, bytes([0x78]) + bytes(20), ticks=ticks)


def delivered(packets: Sequence[RtpPacket], *, held: Sequence[tuple[float, float]]) -> Iterator[
    RtpPacket
]:  # fmt: skip
    """Packets over a network that holds everything from a moment to another one."""
    for packet in packets:
        until = next((end for begin, end in held if begin <= packet.arrived < end), None)
        yield packet if until is None else replace(packet, arrived=until)


@pytest.mark.parametrize("pace", [1.0, 1.01, 48 / 44.1, 1.1, 0.9])
def test_a_wrong_clock_is_no_attack_for_hours(pace: float) -> None:
    recording = Recording(max_gap_s=90, max_burst_s=BURST_S)
    recording.open(AudioFormat(48_000, 1), clock_rate_hz=48_000)
    kind = SampleKind.RECEIVED
    for n in range(4 * 3600):
        arrived = (n + 1) / pace
        run = Run(n * 48_000 % 2**32, [], 48_000, kind, kind, arrived, arrived)
        assert not any(
            isinstance(effect, Noted) and effect.event.type in ("ahead", "discontinuity")
            for effect in recording.add(run)
        )
    recording.end(EndReason.CLOSED, now=arrived)
    assert (recording.length, recording.left_out_s) == (4 * 3600 * 48_000, 0)


@pytest.mark.parametrize("pace", [1.25, 2.0, 6.0])
def test_a_pace_that_no_clock_has_is_left_out(pace: float) -> None:
    recording = Recording(max_gap_s=90, max_burst_s=BURST_S)
    recording.open(AudioFormat(48_000, 1), clock_rate_hz=48_000)
    kind = SampleKind.RECEIVED
    for n in range(round(3600 * pace)):
        arrived = (n + 1) / pace
        recording.add(Run(n * 48_000 % 2**32, [], 48_000, kind, kind, arrived, arrived))
        assert recording.length / 48_000 <= BURST_S + MAX_FAST * arrived
    assert recording.length / 48_000 > 3600
    assert recording.length / 48_000 + recording.left_out_s == round(3600 * pace)


async def test_a_network_may_hold_packets_again_and_again_and_deliver_them_at_once() -> None:
    held = [(5.0, 33.0), (40.0, 69.0), (70.0, 95.0), (100.0, 101.5)]
    packets = list(delivered(speech(120), held=held))
    found = await recorded(packets)
    assert (found.events("ahead"), found.abuse) == ([], None)
    assert found.length_s == 120
    assert {span["kind"] for span in found.ledger["spans"]} == {"received"}


async def test_the_first_packets_may_come_late_and_all_at_once() -> None:
    found = await recorded(list(delivered(speech(60), held=[(0.0, 29.0)])))
    assert (found.events("ahead"), found.abuse) == ([], None)
    assert found.length_s == 60


async def test_the_shortest_packets_sent_twice_are_within_the_rate() -> None:
    packets = [
        replace(packet, arrived=packet.arrived + late)
        for packet in sent(400, 60, SHORT, ticks=120)
        for late in (0.0, 0.0001)
    ]
    found = await recorded(packets)
    assert found.abuse is None
    (left_out,) = found.events("packets left out")
    assert left_out["duplicates"] == 400 * 60
    assert "rejected_rate" not in left_out
    assert found.length_s == 60


# -- the rate of packets ---------------------------------------------------------------------------


async def test_packets_beyond_the_rate_are_counted_and_not_decoded() -> None:
    packets = sent(4000, 8, SHORT, ticks=12)
    found = await recorded(packets, max_packets_per_s=100)
    (left_out,) = found.events("packets left out")
    allowed = 100 * (BURST_S + 8)
    assert left_out["rejected_rate"] == pytest.approx(len(packets) - allowed, abs=50)
    assert found.decoded <= allowed + 50
    assert found.abuse == "it sent more than 100 packets a second"


@pytest.mark.parametrize("payload", [b"", b"\xff"], ids=["empty", "refused by the decoder"])
async def test_packets_without_sound_are_limited_too(payload: bytes) -> None:
    packets = sent(20_000, 4, lambda n: payload if n > 5 else LONG, ticks=1)
    found = await recorded(packets, until_ended=True)
    assert found.abuse == "it sent more than 1000 packets a second"
    assert found.passed_s < 4


# -- reconnections and restarts --------------------------------------------------------------------


async def test_connections_and_sources_share_one_burst() -> None:
    track = Track()
    began = track.clock.now
    for number in range(1, 100):
        track.connect(number)
        track.play(sent(100, 0.3, LONG, ticks=5760, ssrc=lambda _n, number=number: number))
    passed_s = track.clock.now - began
    (ledger,) = await track.end()
    assert ledger["length_samples"] / 48_000 <= BURST_S + MAX_FAST * passed_s
    reconnected = [event for event in ledger["events"] if event["type"] == "reconnected"]
    assert len(reconnected) < 25
    assert sum(event.get("count", 1) for event in reconnected) == 98
    assert reconnected[-1]["attempt"] == 99


async def test_a_burst_may_be_the_first_that_comes_over_a_connection() -> None:
    """Payload types may differ from connection to connection. What comes is read late."""
    track = Track()
    for number, payload_type in ((1, OPUS), (2, OPUS + 1)):
        codec = CodecParameters("opus", payload_type, 48_000, 2)
        track.processor.connect({payload_type: codec}, number=number, now=track.clock.now)
        packets = sent(
            800, 0.5, LONG, ticks=5760, payload_type=payload_type,
            ssrc=lambda _n, number=number: number,
        )  # fmt: skip
        began = track.clock.now
        track.clock.advance(0.6)
        track.read([replace(packet, arrived=began + packet.arrived) for packet in packets])
    (ledger,) = await track.end()
    (ahead,) = [event for event in ledger["events"] if event["type"] == "ahead"]
    assert ahead["length"] + ledger["length_samples"] == 2 * 400 * 5760
    assert ledger["length_samples"] / 48_000 <= BURST_S + MAX_FAST * 1.2
