"""What a recording must be like follows from the script of its sender, and every fault is found."""

from __future__ import annotations

import datetime
import itertools
import pathlib
from dataclasses import replace

import pytest

from benchmarks.senders.cases import CASES
from benchmarks.senders.expected import Expected, Truth, differences, truth_of
from benchmarks.senders.player import Negotiated, write_packet
from benchmarks.senders.recorded import Recorded, Span, tone_onsets
from benchmarks.senders.script import (
    Item,
    Packet,
    Report,
    frames,
    held,
    jittered,
    lost,
    retimed,
    with_capture_times,
    with_redundancy,
    with_reports,
)
from benchmarks.senders.sound import tones, wave
from domain.rtp.packets import header_extension, parse_rtp
from domain.rtp.redundancy import split_red

STALLED = frames(6, stalls=[(2.3, 3.0)])
TRUTH = truth_of(STALLED)
EVENT_NAMES = {"clock": "clock skew", "timestamps": "timestamps irregular"}
EXPECTED = Expected(tolerance_s=0.06, events={"stall": (1, 1)})
EVENT = {"type": "stall", "position": 0, "evidence": "pace of arrival", "at_s": 0.0}
RIGHT = Recorded(
    files=(pathlib.Path("a.wav"),),
    length=9.0,
    spans=(Span(0, 2.3, "received"), Span(2.3, 3, "silence"), Span(5.3, 3.7, "received")),
    events=(EVENT,),
    ledgers=(),
    onsets={0: 0.0, 1: 1.0, 2: 2.0, 3: 6.0, 4: 7.0, 5: 8.0},
    difference=0.0,
)


def reports(items: list[Item]) -> list[Report]:
    return [item for item in items if isinstance(item, Report)]


def packets(items: list[Item]) -> list[Packet]:
    return [item for item in items if isinstance(item, Packet)]


def test_a_stall_is_a_hole_in_the_recording_but_not_in_the_numbering() -> None:
    assert TRUTH.length == pytest.approx(9.0)
    assert TRUTH.holes == (pytest.approx((2.3, 5.3)),)
    assert TRUTH.sound_s == pytest.approx(6.0)
    assert TRUTH.onsets[3] == pytest.approx(6.0)
    steps = {
        (after.sequence - before.sequence) % 2**16 * 2**32
        + (after.timestamp - before.timestamp) % 2**32
        for before, after in itertools.pairwise(STALLED)
    }
    assert steps == {2**32 + 960}


def test_a_wrong_clock_makes_seconds_longer_but_not_the_recording() -> None:
    slow = frames(6, pace=0.5)
    assert truth_of(slow).length == pytest.approx(6.0)
    assert slow[-1].at == pytest.approx(12.0)


def test_tones_are_marked_where_they_begin_with_a_packet() -> None:
    marked = [(p.tone, p.start) for p in frames(6, payloads=tones(60), frame_s=0.06)]
    assert [(tone, start) for tone, start in marked if tone is not None] == [(0, 0), (3, 3)]


def test_a_network_that_drains_has_caught_up_in_the_end() -> None:
    delivered = packets(held(frames(10), begin=2.5, length=3, drain=2))
    delays = [packet.at - packet.captured - 0.02 for packet in delivered]
    assert max(delays) == pytest.approx(3.0, abs=0.02)
    assert delays[-1] == pytest.approx(0.0)
    assert min(delays) > -1e-9
    assert truth_of(delivered) == truth_of(frames(10))


def test_jitter_in_order_keeps_the_order() -> None:
    delivered = packets(jittered(frames(2), 0.5, in_order=True))
    assert [p.at for p in delivered] == sorted(p.at for p in delivered)


def test_reports_tell_a_stall() -> None:
    before, after = reports(with_reports(frames(7, stalls=[(3.0, 5.005)]), times=(2.2, 9.466)))
    assert before.ntp is not None
    assert after.ntp is not None
    assert after.ntp - before.ntp == pytest.approx(7.266)
    # what Chromium's reports say of such a stall
    assert (after.rtp_timestamp - before.rtp_timestamp) % 2**32 / 48_000 == pytest.approx(2.261)


def test_there_are_no_reports_while_nothing_is_captured() -> None:
    times = [report.ntp for report in reports(with_reports(STALLED))]
    assert times == [0.5, 1.5, 5.5, 6.5, 7.5, 8.5]
    assert 3.5 in [report.ntp for report in reports(with_reports(STALLED, while_stalled=True))]


def test_capture_times_are_sent_each_second_and_behind_a_stall() -> None:
    due = [p.captured for p in packets(with_capture_times(STALLED)) if p.is_capture_time_due]
    assert due == pytest.approx([0, 1, 2, 5.3, 6.3, 7.3, 8.3])


def test_capture_times_are_in_a_header_extension() -> None:
    moment = datetime.datetime(2026, 1, 2, 3, 4, 5, 500_000, tzinfo=datetime.UTC)
    data = write_packet(STALLED[0], 4, moment)
    element = header_extension(data, 4)
    assert element is not None
    ntp = int.from_bytes(element, "big")
    # the epoch of NTP is 70 years, with 17 leap days, before that of UNIX
    assert ntp / 2**32 == moment.timestamp() + (70 * 365 + 17) * 86_400
    parsed = parse_rtp(data)
    assert (parsed.payload, parsed.sequence) == (STALLED[0].payload, STALLED[0].sequence)
    assert parsed.marker
    assert header_extension(write_packet(STALLED[1], None, moment), 4) is None
    assert header_extension(write_packet(STALLED[1], 4, None), 4) is None


def test_redundancy_repeats_the_packet_before() -> None:
    first, second = with_redundancy(frames(0.04))
    parsed = split_red(parse_rtp(write_packet(second, None, None)))
    payload, repeated = (packet.payload for packet in frames(0.04)[::-1])
    assert parsed.payload == payload
    assert [copy.payload for copy in parsed.copies] == [repeated]
    assert parsed.copies[0].timestamp == first.timestamp


def test_losses_are_holes() -> None:
    truth = truth_of(lost(frames(2), range(10, 15)))
    assert truth.holes == (pytest.approx((0.2, 0.3)),)


def test_timestamps_do_not_change_the_truth() -> None:
    assert truth_of(retimed(frames(3), lambda _index: 0)) == truth_of(frames(3))


def test_tones_are_found_where_they_begin() -> None:
    onsets = tone_onsets(wave(4).astype("float32") / 32768, 48_000)
    assert set(onsets) == {0, 1, 2, 3}
    assert [onsets[tone] for tone in range(4)] == pytest.approx([0, 1, 2, 3], abs=0.004)


def test_a_right_recording_has_no_differences() -> None:
    assert differences(RIGHT, TRUTH, EXPECTED) == []


@pytest.mark.parametrize(
    ("wrong", "found"),
    [
        (replace(RIGHT, length=6.0), "3000.00 ms too short"),
        (replace(RIGHT, length=9.1), "100.00 ms too long"),
        (
            replace(RIGHT, spans=(Span(0, 2.3, "received"), Span(2.3, 3, "dtx"), RIGHT.spans[2])),
            "the hole at 2.30 s is dtx for 2.880 s",
        ),
        (
            replace(
                RIGHT,
                spans=(Span(0, 3, "received"), Span(3, 3, "silence"), Span(6, 3, "received")),
            ),
            "the sound from 5.30 s on is silence for 0.640 s, received for 2.940 s",
        ),
        (replace(RIGHT, onsets={**RIGHT.onsets, 3: 5.5}), "tone 3 is -500 ms off its place"),
        (replace(RIGHT, onsets={0: 0.0}), "tone 1 is missing"),
        (replace(RIGHT, events=()), "0 events 'stall', not 1"),
        (replace(RIGHT, events=(EVENT, EVENT)), "2 events 'stall', not 1"),
        (replace(RIGHT, events=(EVENT, {"type": "overlap"})), "1 events 'timestamps', not 0"),
        (replace(RIGHT, events=({"type": "stall"},)), "a stall without its evidence"),
        (replace(RIGHT, problems=("the file is damaged",)), "the file is damaged"),
    ],
)
def test_what_is_wrong_is_found(wrong: Recorded, found: str) -> None:
    assert found in differences(wrong, TRUTH, EXPECTED)


def test_some_milliseconds_of_silence_are_within_the_tolerance() -> None:
    spans = (Span(0, 1, "received"), Span(1, 0.02, "silence"), Span(1.02, 0.98, "received"))
    recorded = replace(RIGHT, length=2.0, spans=spans, events=(), onsets={0: 0.0, 1: 1.02})
    truth = truth_of(frames(2))
    assert differences(recorded, truth, Expected(tolerance_s=0.03, spans=3)) == []
    assert differences(recorded, truth, Expected(tolerance_s=0.01, spans=3)) != []


def test_many_spans_and_a_missing_channel_are_found() -> None:
    pieces = tuple(Span(n / 10, 0.1, "received" if n % 2 else "dtx") for n in range(20))
    found = differences(
        replace(RIGHT, length=2.0, spans=pieces), truth_of(frames(2)), Expected(stereo=True)
    )
    assert "20 spans, not 1" in found
    assert "a channel is missing" in found


def test_files_with_other_channels_are_found() -> None:
    recorded = replace(RIGHT, ledgers=({"channels": 1}, {"channels": 2}))
    assert differences(recorded, TRUTH, replace(EXPECTED, channels=(1, 2))) == []
    assert differences(recorded, TRUTH, replace(EXPECTED, channels=(1,))) != []


@pytest.mark.parametrize("name", CASES)
def test_each_case_can_be_played(name: str) -> None:
    case = CASES[name]
    items = case.script(Negotiated(frozenset({0, 111}), 4, is_stereo=True))
    truth: Truth = truth_of(items)
    assert 2 < truth.length < 31
    assert min(item.at for item in items) >= 0
    assert max(item.at for item in items) < 32


@pytest.mark.parametrize("name", CASES)
def test_an_ideal_recording_is_as_expected(name: str) -> None:
    expected = CASES[name].expected
    truth = truth_of(CASES[name].script(Negotiated(frozenset({111}), 4, is_stereo=True)))
    hole_kind = max(expected.hole_kinds)
    parts = sorted(
        [
            *((begin, end, "received") for begin, end in truth.sound),
            *((begin, end, hole_kind) for begin, end in truth.holes),
        ]
    )
    events = [
        {"type": EVENT_NAMES.get(label, label), "position": 0, "evidence": "pace of arrival"}
        for label, (least, _) in expected.events.items()
        for _ in range(least)
    ]
    if expected.skew_ppm is not None:
        events.append({"type": "clock", "skew_ppm": sum(expected.skew_ppm) / 2})
    ideal = Recorded(
        files=(pathlib.Path("a.wav"),),
        length=truth.length,
        spans=tuple(Span(begin, end - begin, kind) for begin, end, kind in parts),
        events=tuple(events),
        ledgers=tuple({"channels": channels} for channels in expected.channels or ()),
        onsets=dict(truth.onsets),
        difference=0.2,
    )
    assert differences(ideal, truth, expected) == []
