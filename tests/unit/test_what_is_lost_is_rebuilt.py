"""Reconstruction, redundancy, and the headers of Opus packets."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.codec.libopus import OpusEncoder, _library
from domain.errors import PayloadInvalid
from domain.recording.ledger import SampleKind
from domain.recording.reconstruction import Reconstructor, Run
from domain.rtp.order import Lost, Restarted
from domain.rtp.packets import RtpPacket
from domain.rtp.redundancy import Recovered, split_red
from domain.sound import opus
from domain.sound.formats import AudioFormat, AudioFrame
from domain.sound.pieces import Sound

KINDS = SampleKind


class ScriptedDecoder:
    """Payloads are names: one that ends with "x" is invalid, one that begins with "f" has FEC."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self._gathered: list[Sound] = []

    def decode(self, payload: bytes) -> int:
        if payload.endswith(b"x"):
            raise PayloadInvalid("x")
        self.calls.append(f"decode {payload.decode()}")
        return self._gather(960, 1)

    def recoverable(self, payload: bytes) -> int:
        return 960 if payload.startswith(b"f") else 0

    def recover(self, payload: bytes) -> int:
        self.calls.append(f"recover {payload.decode()}")
        return self._gather(960, 2)

    def conceal(self, length: int) -> int:
        self.calls.append(f"conceal {length}")
        return self._gather(length - length % 120, 3)

    def collect(self) -> list[Sound]:
        gathered, self._gathered = self._gathered, []
        return gathered

    def _gather(self, length: int, value: int) -> int:
        self._gathered.append(np.full((length, 1), value, dtype="<i2"))
        return length


def received(index: int, payload: bytes = b"p", *, timestamp: int | None = None) -> RtpPacket:
    at = index * 960 if timestamp is None else timestamp
    return RtpPacket(111, index, at % 2**32, 1, payload, arrived=index * 0.02)


def reconstructor() -> tuple[Reconstructor, ScriptedDecoder]:
    decoder = ScriptedDecoder()
    made = Reconstructor(decoder, clock_rate_hz=48_000, sample_rate_hz=48_000, max_gap_s=60)
    made.process([received(0)])
    decoder.calls.clear()
    return made, decoder


def shape(runs: list[Run]) -> list[tuple[int, int, SampleKind]]:
    return [(run.timestamp, run.length, run.kind) for run in runs]


def test_a_single_loss_is_rebuilt_from_the_next_packets_fec() -> None:
    made, decoder = reconstructor()
    assert made.process([Lost(1)]) == []
    runs = made.process([received(2, b"f")])
    assert shape(runs) == [(960, 960, KINDS.RECOVERED), (1920, 960, KINDS.RECEIVED)]
    assert decoder.calls == ["conceal 0", "recover f", "decode f"]


def test_a_loss_without_fec_is_concealed() -> None:
    made, _ = reconstructor()
    made.process([Lost(1)])
    assert shape(made.process([received(2)])) == [
        (960, 960, KINDS.CONCEALED),
        (1920, 960, KINDS.RECEIVED),
    ]


def test_a_long_loss_is_concealed_for_100_ms_then_silent_then_rebuilt() -> None:
    made, decoder = reconstructor()
    made.process([Lost(49)])
    runs = made.process([received(50, b"f")])
    assert shape(runs) == [
        (960, 4800, KINDS.CONCEALED),
        (49 * 960, 960, KINDS.RECOVERED),
        (50 * 960, 960, KINDS.RECEIVED),
    ]
    assert runs[1].gap_kind is KINDS.SILENCE
    assert decoder.calls == ["conceal 4800", "recover f", "decode f"]


def test_a_timestamp_jump_without_a_loss_is_dtx() -> None:
    made, decoder = reconstructor()
    (run,) = made.process([received(1, timestamp=96_000)])
    assert (run.kind, run.gap_kind) == (KINDS.RECEIVED, KINDS.DTX)
    assert decoder.calls == ["decode p"]


def test_a_broken_payload_is_as_good_as_lost() -> None:
    made, _ = reconstructor()
    assert made.process([received(1, b"x")]) == []
    assert shape(made.process([received(2, b"f")])) == [
        (960, 960, KINDS.RECOVERED),
        (1920, 960, KINDS.RECEIVED),
    ]
    assert made.rejected["payload"] == 1


def test_broken_payloads_in_a_row_are_concealed_once_for_100_ms_then_silent() -> None:
    made, _ = reconstructor()
    runs = made.process([*(received(index, b"x") for index in range(1, 11)), received(11)])
    concealed = [(index * 960, 960, KINDS.CONCEALED) for index in range(1, 6)]
    assert shape(runs) == [*concealed, (11 * 960, 960, KINDS.RECEIVED)]
    assert runs[-1].gap_kind is KINDS.SILENCE


@given(st.lists(st.sampled_from([b"p", b"f", b"x", b"fx", None]), max_size=60))
def test_no_time_is_accounted_for_twice(payloads: list[bytes | None]) -> None:
    made, _ = reconstructor()
    behind = 960
    for index, payload in enumerate(payloads, start=1):
        for run in made.process([Lost(1) if payload is None else received(index, payload)]):
            assert run.timestamp >= behind
            behind = run.timestamp + run.length
    assert behind <= 960 * (len(payloads) + 1)


def test_a_copy_is_decoded_as_recovered() -> None:
    made, _ = reconstructor()
    copy = Recovered(111, 1, 960, 1, b"c", arrived=0.1)
    assert shape(made.process([copy])) == [(960, 960, KINDS.RECOVERED)]
    assert shape(made.process([received(2)])) == [(1920, 960, KINDS.RECEIVED)]


def test_after_a_restart_nothing_is_bridged() -> None:
    made, decoder = reconstructor()
    made.process([Lost(3)])
    made.process([Restarted()])
    assert shape(made.process([received(9, b"f", timestamp=5)])) == [(5, 960, KINDS.RECEIVED)]
    assert decoder.calls == ["decode f"]


def test_gaps_are_measured_through_the_timestamp_wrap() -> None:
    decoder = ScriptedDecoder()
    made = Reconstructor(decoder, clock_rate_hz=48_000, sample_rate_hz=48_000, max_gap_s=60)
    made.process([received(0, timestamp=2**32 - 1920)])
    made.process([Lost(1)])
    runs = made.process([received(2, timestamp=0)])
    assert shape(runs) == [(2**32 - 960, 960, KINDS.CONCEALED), (0, 960, KINDS.RECEIVED)]


# -- RED -----------------------------------------------------------------------------------------


def red(payload: bytes) -> RtpPacket:
    return RtpPacket(63, 10, 5000, 1, payload, arrived=0.2)


def header(payload_type: int, offset: int, length: int) -> bytes:
    return bytes([0x80 | payload_type]) + (offset << 10 | length).to_bytes(3, "big")


def test_red_carries_the_packets_before() -> None:
    payload = header(111, 1920, 3) + header(111, 960, 2) + bytes([111]) + b"aaabbcccc"
    primary = split_red(red(payload))
    assert (primary.payload_type, primary.sequence, primary.payload) == (111, 10, b"cccc")
    assert primary.arrived == 0.2
    assert primary.copies == [
        Recovered(111, 8, 3080, 1, b"aaa", arrived=0.2),
        Recovered(111, 9, 4040, 1, b"bb", arrived=0.2),
    ]


def test_red_without_redundancy_is_its_payload() -> None:
    primary = split_red(red(bytes([111]) + b"cccc"))
    assert (primary.payload, primary.copies) == (b"cccc", [])


def test_empty_blocks_are_no_copies() -> None:
    assert split_red(red(header(111, 960, 0) + bytes([111]) + b"c")).copies == []


def test_blocks_of_another_payload_type_are_no_copies() -> None:
    payload = header(13, 1920, 3) + header(111, 960, 2) + bytes([111]) + b"aaabbcccc"
    assert [copy.payload for copy in split_red(red(payload)).copies] == [b"bb"]


@given(st.binary(max_size=60))
def test_any_red_payload_is_split_or_refused(payload: bytes) -> None:
    try:
        primary = split_red(red(payload))
    except PayloadInvalid:
        return
    carried = len(primary.payload) + sum(len(copy.payload) for copy in primary.copies)
    assert carried < len(payload)


# -- Opus headers against libopus ----------------------------------------------------------------


@given(st.binary(min_size=1, max_size=60))
def test_packet_durations_are_those_that_libopus_sees(payload: bytes) -> None:
    theirs = _library().opus_packet_get_nb_samples(payload, len(payload), 48_000)
    try:
        ours = opus.packet_samples(payload)
    except PayloadInvalid:
        assert theirs <= 0
    else:
        assert ours == theirs
    assert opus.channels(payload) == _library().opus_packet_get_nb_channels(payload)
    assert opus.frame_samples(payload) == _library().opus_packet_get_samples_per_frame(
        payload, 48_000
    )


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("milliseconds", [10, 20, 40, 60])
@pytest.mark.parametrize("fec", [True, False])
def test_fec_is_seen_where_libopus_sees_it(channels: int, milliseconds: int, fec: bool) -> None:
    library = _library()
    if not hasattr(library, "opus_packet_has_lbrr"):
        pytest.skip("this libopus cannot be asked")
    library.opus_packet_has_lbrr.argtypes = [ctypes.c_char_p, ctypes.c_int32]
    encoder = OpusEncoder(
        channels=channels, bitrate=24_000, fec=fec, expected_loss_percent=20, dtx=False,
        application="voip", complexity=9,
    )  # fmt: skip
    rng = np.random.default_rng(3)
    length = milliseconds * 48
    seen = set()
    for index in range(40):
        tone = np.cumsum(rng.normal(0, 400, (length, channels)), axis=0)
        samples = np.clip(tone - tone.mean(axis=0), -20_000, 20_000).astype("<i2")
        packet = encoder.encode(AudioFrame(AudioFormat(48_000, channels), samples, index * length))
        assert packet is not None
        theirs = library.opus_packet_has_lbrr(packet, len(packet))
        assert bool(opus.fec_samples(packet)) == bool(theirs)
        seen.add(theirs)
    assert seen == ({0, 1} if fec else {0})
