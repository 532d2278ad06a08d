"""Offers with several audio m-lines: each is a track, and packets arrive under its index."""

from __future__ import annotations

import asyncio
import logging
import pathlib
import re
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiortc import RTCSessionDescription

from adapters.runtime.asyncio_runtime import BackgroundTasks, SystemClock
from adapters.transport.demultiplexer import MAX_SOURCES, TrackDemultiplexer
from adapters.transport.ice.options import IceOptions
from adapters.transport.sdp.codecs import OpusPreferences
from adapters.transport.sdp.descriptions import AudioTrack, LocalTransport
from adapters.transport.sdp.extensions import MID_URI
from adapters.transport.sdp.parsing import parse_offer
from adapters.transport.sdp.writing import write_answer
from adapters.transport.server import WebRtcServerTransport
from adapters.transport.sockets.ports import UdpPorts
from domain.ports.signaling import ServerConnection
from domain.recording.naming import MAX_TRACKS
from domain.rtp.packets import RtpPacket, write_rtp
from domain.rtp.reports import ReceptionReport, ReceptionStatistics, SenderReport
from domain.sound.detection import CodecParameters
from tests.rigs.browser import CHROMIUM, browser_page
from tests.rigs.tones import TWO_TONES, peer_with_two_tones

OPUS = CodecParameters("opus", 111, 48_000, 2)
PCMU = CodecParameters("pcmu", 0, 8_000, 1)
EXTENSION = 4
RECORDED = "opus/48000/2"


# -- offers and answers ------------------------------------------------------------------------


def audio(mid: str, *, codec: str = RECORDED, port: int = 9, more: Sequence[str] = ()) -> list[str]:
    return [
        f"m=audio {port} UDP/TLS/RTP/SAVPF 111",
        f"a=mid:{mid}",
        "a=sendonly",
        f"a=rtpmap:111 {codec}",
        *more,
    ]


def video(mid: str) -> list[str]:
    return ["m=video 9 UDP/TLS/RTP/SAVPF 96", f"a=mid:{mid}", "a=sendonly", "a=rtpmap:96 VP8/90000"]


def offer(
    *sections: Sequence[str], bundle: str | None = None, credentials: str = "a=ice-ufrag:abcd"
) -> str:
    """An offer whose m-lines share one transport, in the bundle of all of them."""
    mids = [line[6:] for section in sections for line in section if line.startswith("a=mid:")]
    lines = ["v=0", "o=- 1 1 IN IP4 0.0.0.0", "s=-", "t=0 0"]
    lines.append(f"a=group:BUNDLE {' '.join(mids) if bundle is None else bundle}")
    for section in sections:
        lines += [
            *section,
            credentials,
            f"a=ice-pwd:{'x' * 22}",
            f"a=fingerprint:sha-256 {':'.join(['AB'] * 32)}",
            "a=setup:actpass",
            "a=rtcp-mux",
        ]
    return "\r\n".join(lines) + "\r\n"


def answer_to(text: str) -> tuple[str, list[list[str]]]:
    """Return the BUNDLE group of the answer, and the lines of each m-line."""
    parsed = parse_offer(text)
    local = LocalTransport("abcd", "x" * 22, parsed.dtls.fingerprints[0])
    answer = write_answer(parsed, local, OpusPreferences())
    session, *sections = answer.replace("\r\nm=", "\r\n\0m=").split("\0")
    group = re.search(r"a=group:BUNDLE (.*)\r\n", session)
    assert group is not None
    return group[1], [section.splitlines() for section in sections]


def extmap(number: int = EXTENSION, direction: str = "") -> str:
    return f"a=extmap:{number}{direction} {MID_URI}"


def test_all_audio_lines_of_a_bundle_are_accepted() -> None:
    text = offer(
        audio("a", more=[extmap()]),
        audio(
            "b", port=0, more=["a=bundle-only", "a=extmap:9 other", extmap(direction="/sendonly")]
        ),
        audio("c", more=[extmap()]),
    )
    assert [track.mid for track in parse_offer(text).tracks] == ["a", "b", "c"]
    group, sections = answer_to(text)
    assert group == "a b c"
    for mid, section in zip("abc", sections, strict=True):
        assert section[0] == "m=audio 9 UDP/TLS/RTP/SAVPF 111"
        assert {"a=recvonly", "a=rtcp-mux", f"a=mid:{mid}", f"a=rtpmap:111 {RECORDED}"} < {*section}
    maps = [[line for line in section if "extmap" in line] for section in sections]
    # only the direction of the first m-line counts: all m-lines of a bundle have the same
    assert maps == [[extmap()], [], [extmap()]]


def test_the_mid_extension_is_negotiated_with_the_opposite_direction() -> None:
    text = offer(*(audio(mid, more=[extmap(17, "/sendonly")]) for mid in "ab"))
    _, sections = answer_to(text)
    assert all(extmap(17, "/recvonly") in section for section in sections)


@pytest.mark.parametrize(
    "unusable", [extmap(0), extmap(300), extmap(4, "/recvonly"), "a=extmap:4 urn:x"]
)
def test_an_unusable_mid_extension_is_not_negotiated(unusable: str) -> None:
    _, sections = answer_to(offer(*(audio(mid, more=[unusable]) for mid in "ab")))
    assert not any("extmap" in line for section in sections for line in section)


def test_nothing_is_negotiated_for_a_single_track() -> None:
    group, (section, declined) = answer_to(offer(audio("a", more=[extmap()]), video("v")))
    assert group == "a"
    assert not any("extmap" in line for line in section)
    assert declined[0].startswith("m=video 0 ")


def test_audio_beside_the_bundle_or_without_a_codec_is_declined() -> None:
    text = offer(
        audio("a"), audio("b"), audio("c"), audio("d", codec="MP4A/48000/2"), audio("e"),
        bundle="a c d e",
    )  # fmt: skip
    parsed = parse_offer(text)
    assert [track.mid for track in parsed.tracks] == ["a", "c", "e"]
    assert sum(parsed.declined.values()) == 2
    group, sections = answer_to(text)
    assert group == "a c e"
    ports = [section[0].split()[1] for section in sections]
    assert ports == ["9", "0", "9", "0", "9"]
    assert "a=inactive" in sections[1]
    assert "a=inactive" in sections[3]


@pytest.mark.parametrize("mids", [["a", "a"], ["a", "b", "b"], ["", ""]])
def test_audio_with_an_ambiguous_mid_is_declined(mids: list[str]) -> None:
    assert len(parse_offer(offer(*map(audio, mids), bundle="a b")).tracks) == 1


def test_audio_that_is_not_sent_is_no_track_and_logs_no_warning() -> None:
    silent = [line.replace("sendonly", "recvonly") for line in audio("b")]
    parsed = parse_offer(offer(audio("a"), silent, audio("c", port=0)))
    assert [track.mid for track in parsed.tracks] == ["a"]
    assert not parsed.declined


def test_tracks_beyond_the_limit_are_declined() -> None:
    text = offer(*(audio(str(n)) for n in range(MAX_TRACKS + 2)))
    parsed = parse_offer(text)
    assert [track.mid for track in parsed.tracks] == [str(n) for n in range(MAX_TRACKS)]
    assert parsed.declined == {"beyond 16 tracks": 2}
    _, sections = answer_to(text)
    assert [section[0].split()[1] for section in sections] == ["9"] * MAX_TRACKS + ["0"] * 2


def test_tracks_may_use_the_transport_of_a_video_line() -> None:
    text = offer(video("v"), audio("a"), audio("b"))
    parsed = parse_offer(text)
    assert [track.index for track in parsed.tracks] == [1, 2]
    assert parsed.unwanted == {96}
    group, sections = answer_to(text)
    assert group == "v a b"
    assert sections[0][0] == "m=video 9 UDP/TLS/RTP/SAVPF 96"


def test_announced_sources_are_known() -> None:
    sources = ["a=ssrc:5 cname:x", "a=ssrc:5 msid:y z", "a=ssrc:6 cname:x", "a=ssrc:no", "a=ssrc:7"]
    assert [track.ssrcs for track in parse_offer(offer(audio("a", more=sources))).tracks] == [
        (5, 6, 7)
    ]


# -- packets -----------------------------------------------------------------------------------


def tracks(*codecs: CodecParameters, ssrcs: Sequence[Sequence[int]] = ()) -> list[AudioTrack]:
    return [
        AudioTrack(
            index=index,
            mid=f"mid{index}",
            codecs={codec.payload_type: codec},
            ssrcs=ssrcs[index] if ssrcs else (),
        )
        for index, codec in enumerate(codecs)
    ]


def track_of(
    demultiplexer: TrackDemultiplexer, ssrc: int, *, mid: str = "", payload_type: int = 111
) -> int | None:
    packet = RtpPacket(payload_type, 1, 960, ssrc, b"x")
    data = write_rtp(packet)
    if mid:
        body = bytes([EXTENSION << 4 | len(mid) - 1]) + mid.encode()
        body += bytes(-len(body) % 4)
        header = b"\xbe\xde" + (len(body) // 4).to_bytes(2, "big")
        data = bytes([data[0] | 0x10]) + data[1:12] + header + body + data[12:]
    return demultiplexer.track_of(packet, data)


def test_a_packet_belongs_to_the_track_of_its_mid_which_its_source_keeps() -> None:
    demultiplexer = TrackDemultiplexer(tracks(OPUS, OPUS), mid_extension=EXTENSION)
    assert track_of(demultiplexer, 5) is None
    assert track_of(demultiplexer, 5, mid="mid1") == 1
    assert track_of(demultiplexer, 5) == 1
    assert track_of(demultiplexer, 5, mid="mid0") == 0
    assert track_of(demultiplexer, 5) == 0
    assert track_of(demultiplexer, 5, mid="mid7") is None


def test_a_mid_outweighs_an_announced_source_and_the_payload_type() -> None:
    demultiplexer = TrackDemultiplexer(
        tracks(OPUS, OPUS, PCMU, ssrcs=[[5], [6], []]), mid_extension=EXTENSION
    )
    assert track_of(demultiplexer, 6) == 1
    assert track_of(demultiplexer, 6, mid="mid0") == 0
    assert track_of(demultiplexer, 8, payload_type=0, mid="mid0") is None


def test_an_announced_source_needs_no_mid() -> None:
    demultiplexer = TrackDemultiplexer(tracks(OPUS, OPUS, ssrcs=[[5], [6]]), mid_extension=None)
    assert [track_of(demultiplexer, ssrc) for ssrc in (5, 6, 7)] == [0, 1, None]
    assert track_of(demultiplexer, 6, mid="mid0") == 1  # not negotiated


def test_a_payload_type_decides_if_only_one_track_has_it() -> None:
    demultiplexer = TrackDemultiplexer(tracks(OPUS, PCMU), mid_extension=EXTENSION)
    assert track_of(demultiplexer, 5, payload_type=111) == 0
    assert track_of(demultiplexer, 6, payload_type=0) == 1
    assert track_of(demultiplexer, 7, payload_type=96) is None
    assert (
        track_of(demultiplexer, 6, payload_type=111) is None
    )  # the source belongs to the other track


def test_the_number_of_remembered_sources_is_bounded() -> None:
    demultiplexer = TrackDemultiplexer(tracks(OPUS, OPUS), mid_extension=EXTENSION)
    for ssrc in range(MAX_SOURCES + 1):
        assert track_of(demultiplexer, ssrc, mid="mid1") == 1
    assert track_of(demultiplexer, 0) is None
    assert track_of(demultiplexer, 1) == track_of(demultiplexer, MAX_SOURCES) == 1


# -- real peers --------------------------------------------------------------------------------


class Tracks:
    """A sink that keeps each track's packets apart."""

    def __init__(self) -> None:
        self.packets: dict[int, list[RtpPacket]] = defaultdict(list)
        self.statistics: dict[int, ReceptionStatistics] = {}
        self.established = self.closed = 0
        self._news = asyncio.Event()

    def connection_established(self, *, now: float) -> None:
        self.established += 1

    def packets_received(self, track: int, packets: Sequence[RtpPacket]) -> None:
        assert packets
        for packet in packets:
            self.statistics.setdefault(
                packet.ssrc, ReceptionStatistics(packet.ssrc, clock_rate_hz=48_000)
            ).received([packet])
        self.packets[track] += packets
        self._news.set()

    def sender_reported(self, report: SenderReport) -> None: ...

    def connection_closed(self, reason: str | None = None) -> None:
        self.closed += 1

    def reception_reports(self) -> Sequence[ReceptionReport]:
        reports = [statistics.report() for statistics in self.statistics.values()]
        return [report for report in reports if report is not None]

    async def until(self, true: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not true():
                self._news.clear()
                await self._news.wait()

    def sources(self) -> dict[int, set[int]]:
        return {track: {packet.ssrc for packet in found} for track, found in self.packets.items()}


@asynccontextmanager
async def accepting(offer_sdp: str) -> AsyncIterator[tuple[ServerConnection, Tracks]]:
    spawner, sink = BackgroundTasks(), Tracks()
    transport = WebRtcServerTransport(
        IceOptions(loopback=("127.0.0.1",), shared=UdpPorts()),
        preferences=OpusPreferences(),
        clock=SystemClock(),
        spawner=spawner,
    )
    connection = await transport.accept(offer_sdp, ice_servers=())
    connection.start(sink)
    try:
        yield connection, sink
    finally:
        await connection.close()
        await spawner.join()


def without_ssrcs(text: str) -> str:
    return re.sub(r"a=ssrc(-group)?:.*\r\n", "", text)


def without_mids(text: str) -> str:
    return re.sub(rf"a=extmap:.*{MID_URI}\r\n", "", text)


def as_it_is(text: str) -> str:
    return text


ways = pytest.mark.parametrize("altered", [as_it_is, without_ssrcs, without_mids])


@ways
async def test_tracks_of_aiortc(altered: Callable[[str], str]) -> None:
    peer = await peer_with_two_tones()
    async with accepting(altered(peer.localDescription.sdp)) as (connection, sink):
        assert len(connection.tracks) == 2
        await peer.setRemoteDescription(RTCSessionDescription(connection.answer_sdp, "answer"))
        await sink.until(lambda: all(len(sink.packets[track]) >= 25 for track in (0, 1)))
        senders = [item.sender for item in peer.getTransceivers()[:2]]
        assert sink.sources() == {index: {item._ssrc} for index, item in enumerate(senders)}
        for track in (0, 1):
            numbers = [packet.sequence for packet in sink.packets[track]]
            assert numbers == sorted(numbers, key=lambda n: (n - numbers[0]) % 2**16)
        reports = [await report_on(item) for item in senders]
        assert all(report.packetsLost == 0 for report in reports)
        assert all(report.roundTripTime is not None for report in reports)
        await peer.close()


async def test_tracks_that_nothing_tells_apart_are_recorded_as_the_first() -> None:
    """Without mids and announced sources, one payload type does not tell two tracks apart."""
    peer = await peer_with_two_tones()
    async with accepting(without_mids(without_ssrcs(peer.localDescription.sdp))) as (server, sink):
        await peer.setRemoteDescription(RTCSessionDescription(server.answer_sdp, "answer"))
        async with asyncio.timeout(20):
            await sink.until(lambda: len(sink.packets[0]) >= 20)
        assert not sink.packets[1]
        assert server.unassigned == 0  # type: ignore[attr-defined]
        await peer.close()


def test_packets_of_no_track_belong_to_none() -> None:
    """Once sources are announced, one that is not is no track's."""
    parsed = parse_offer(offer(audio("0", more=["a=ssrc:7 cname:x"]), audio("1")))
    demultiplexer = TrackDemultiplexer(parsed.tracks, mid_extension=None)
    known, strange = (RtpPacket(111, 1, 0, ssrc, b"x") for ssrc in (7, 8))
    assert demultiplexer.track_of(known, write_rtp(known)) == 0
    assert demultiplexer.track_of(strange, write_rtp(strange)) is None


async def report_on(sender: Any) -> Any:
    """Wait for a server report on a sender that refers to a report of the sender."""
    async with asyncio.timeout(20):
        while True:
            for report in (await sender.getStats()).values():
                if report.type == "remote-inbound-rtp" and report.roundTripTime is not None:
                    return report
            await asyncio.sleep(0.05)


SENT = """
async () => [...(await pc.getStats()).values()]
  .filter((report) => report.type === "outbound-rtp")
  .map((report) => [report.mid, report.ssrc])
"""


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
@ways
async def test_tracks_of_chromium(altered: Callable[[str], str], tmp_path: pathlib.Path) -> None:
    async with browser_page(tmp_path / "none.wav") as page:
        await page.mouse.click(10, 10)  # Chromium plays sound only after a user gesture
        offer_sdp = await page.evaluate(TWO_TONES)
        async with accepting(altered(offer_sdp)) as (connection, sink):
            assert len(connection.tracks) == 2
            await page.evaluate(
                "(sdp) => pc.setRemoteDescription({ type: 'answer', sdp })", connection.answer_sdp
            )
            await sink.until(lambda: all(len(sink.packets[track]) >= 50 for track in (0, 1)))
            sent = dict(await page.evaluate(SENT))
            mids = [item.mid for item in parse_offer(offer_sdp).tracks]
            assert sink.sources() == {index: {sent[mid]} for index, mid in enumerate(mids)}


async def test_declined_audio_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    text = offer(*(audio(str(n)) for n in range(MAX_TRACKS + 2)), audio("x"), bundle="0 1 2")
    with caplog.at_level(logging.WARNING, logger="gapless"):
        async with accepting(text) as (connection, _):
            assert len(connection.tracks) == 3
    (record,) = caplog.records
    assert record.getMessage() == (
        "declined audio m-lines of an offer: 16 outside of the first one's BUNDLE group"
    )
