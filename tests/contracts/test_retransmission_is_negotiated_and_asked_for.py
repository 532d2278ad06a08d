"""NACK and RTX as bytes and in SDP: what we write, others read, and the other way round."""

from __future__ import annotations

import re

import aiortc.sdp
import pytest
from aiortc.rtp import RTCP_RTPFB_NACK, RtcpPacket, RtcpRtpfbPacket, RtpPacket, wrap_rtx
from hypothesis import given
from hypothesis import strategies as st

from adapters.transport.demultiplexer import TrackDemultiplexer
from adapters.transport.retransmission import Retransmissions
from adapters.transport.rtcp.feedback import generic_nack
from adapters.transport.sdp.codecs import OpusPreferences
from adapters.transport.sdp.descriptions import AudioTrack, LocalTransport
from adapters.transport.sdp.parsing import parse_offer
from adapters.transport.sdp.writing import write_answer, write_offer
from domain.rtp.packets import parse_rtp
from tests.contracts.test_several_tracks import audio, offer, video

RTX = ["a=rtpmap:97 rtx/48000/2", "a=fmtp:97 apt=111"]
NACK = ["a=rtcp-fb:111 transport-cc", "a=rtcp-fb:111 nack pli", "a=rtcp-fb:111 nack"]
FID = ["a=ssrc-group:FID 1001 2002", "a=ssrc:1001 cname:x", "a=ssrc:2002 cname:x"]


# -- bytes -------------------------------------------------------------------------------------


@given(
    ssrc=st.integers(0, 2**32 - 1),
    start=st.integers(0, 2**16 - 1),
    distances=st.sets(st.integers(0, 400), min_size=1, max_size=60),
)
def test_aiortc_reads_our_nacks(ssrc: int, start: int, distances: set[int]) -> None:
    sequences = [(start + distance) % 2**16 for distance in sorted(distances)]
    (read,) = RtcpPacket.parse(generic_nack(ssrc, 9, sequences))
    assert isinstance(read, RtcpRtpfbPacket)
    assert (read.fmt, read.ssrc, read.media_ssrc) == (RTCP_RTPFB_NACK, ssrc, 9)
    assert [sequence % 2**16 for sequence in read.lost] == sequences


@given(start=st.integers(0, 65_000), distances=st.sets(st.integers(0, 400), min_size=1))
def test_our_nacks_are_those_of_aiortc(start: int, distances: set[int]) -> None:
    sequences = [start + distance for distance in sorted(distances)]
    theirs = RtcpRtpfbPacket(fmt=RTCP_RTPFB_NACK, ssrc=5, media_ssrc=9, lost=sequences)
    assert generic_nack(5, 9, sequences) == bytes(theirs)


def test_a_nack_for_a_burst_is_short() -> None:
    assert len(generic_nack(5, 9, range(17))) == 16


# -- SDP ---------------------------------------------------------------------------------------


def answered(*sections: list[str]) -> list[list[str]]:
    """The lines of each m-line of the answer."""
    parsed = parse_offer(offer(*sections))
    local = LocalTransport("abcd", "x" * 22, parsed.dtls.fingerprints[0])
    answer = write_answer(parsed, local, OpusPreferences())
    return [section.splitlines() for section in re.split(r"\r\n(?=m=)", answer)[1:]]


def with_rtx(mid: str, *, more: list[str]) -> list[str]:
    lines = audio(mid, more=[*RTX, *more])
    return [lines[0] + " 97", *lines[1:]]


def test_nacks_are_accepted_where_they_are_offered() -> None:
    (section,) = answered(audio("a", more=NACK))
    assert [line for line in section if "rtcp-fb" in line] == ["a=rtcp-fb:111 nack"]
    (section,) = answered(audio("a", more=["a=rtcp-fb:* nack"]))
    assert "a=rtcp-fb:111 nack" in section
    for refused in (NACK[:2], ["a=rtcp-fb:96 nack"], ["a=rtcp-fb:x nack"], []):
        (section,) = answered(audio("a", more=refused))
        assert not any("rtcp-fb" in line for line in section)


def test_a_retransmission_stream_is_accepted_where_it_is_offered() -> None:
    (section,) = answered(with_rtx("a", more=NACK))
    assert section[0] == "m=audio 9 UDP/TLS/RTP/SAVPF 111 97"
    assert "a=rtpmap:97 rtx/48000/2" in section
    assert "a=fmtp:97 apt=111" in section


@pytest.mark.parametrize(
    "lines",
    [
        ["a=rtpmap:97 rtx/48000", "a=fmtp:97 apt=96"],  # of a codec that is not there
        ["a=rtpmap:97 rtx/48000"],
        ["a=rtpmap:98 rtx/48000", "a=fmtp:98 apt=111"],  # not in the m-line
        ["a=rtpmap:97 other/48000", "a=fmtp:97 apt=111"],
    ],
)
def test_other_retransmission_streams_are_not(lines: list[str]) -> None:
    section = audio("a", more=lines)
    (answer,) = answered([section[0] + " 97", *section[1:]])
    assert answer[0] == "m=audio 9 UDP/TLS/RTP/SAVPF 111"
    assert not any("rtx" in line or "apt" in line for line in answer)


def test_the_answer_can_be_read_by_aiortc() -> None:
    parsed = parse_offer(offer(with_rtx("a", more=NACK), video("v")))
    local = LocalTransport("abcd", "x" * 22, parsed.dtls.fingerprints[0])
    description = aiortc.sdp.SessionDescription.parse(
        write_answer(parsed, local, OpusPreferences())
    )
    codecs = {codec.payloadType: codec for codec in description.media[0].rtp.codecs}
    assert [item.type for item in codecs[111].rtcpFeedback] == ["nack"]
    assert codecs[97].name == "rtx"
    assert codecs[97].parameters == {"apt": 111}


def test_our_client_offers_nacks() -> None:
    parsed = parse_offer(offer(audio("a")))
    local = LocalTransport("abcd", "x" * 22, parsed.dtls.fingerprints[0])
    assert parse_offer(write_offer(local, channels=1)).tracks[0].retransmission.nack == {111}


# -- retransmission streams ------------------------------------------------------------------------


def original(sequence: int) -> RtpPacket:
    packet = RtpPacket(payload_type=111, sequence_number=sequence, timestamp=960, ssrc=1001)
    packet.payload = b"sound"
    packet.marker = 1
    return packet


def repeated(sequence: int, *, ssrc: int = 2002) -> RtpPacket:
    """The packet in a retransmission stream, as aiortc wraps it."""
    return wrap_rtx(original(sequence), payload_type=97, sequence_number=7, ssrc=ssrc)


def offered(*more: str) -> list[AudioTrack]:
    return list(parse_offer(offer(with_rtx("a", more=[*NACK, *more]))).tracks)


def test_packets_of_an_announced_stream_are_restored() -> None:
    streams = Retransmissions(offered(*FID))
    assert streams.payload_types == {97}
    restored = streams.restored(parse_rtp(repeated(40_000).serialize()), 0)
    expected = parse_rtp(original(40_000).serialize())
    assert restored is not None
    for name in ("payload_type", "sequence", "timestamp", "ssrc", "payload", "marker"):
        assert getattr(restored, name) == getattr(expected, name)


def test_a_stream_that_was_not_announced_belongs_to_the_source_that_was_asked() -> None:
    streams = Retransmissions(offered())
    packet = parse_rtp(repeated(5, ssrc=77).serialize())
    assert streams.restored(packet, 0) is None
    streams.request(0, 1001)
    restored = streams.restored(packet, 0)
    assert restored is not None
    assert (restored.ssrc, restored.sequence) == (1001, 5)


@pytest.mark.parametrize("payload", [b"", b"\x00"])
def test_padding_and_truncated_packets_restore_nothing(payload: bytes) -> None:
    streams = Retransmissions(offered(*FID))
    packet = RtpPacket(payload_type=97, sequence_number=7, timestamp=960, ssrc=2002)
    packet.payload = payload
    assert streams.restored(parse_rtp(packet.serialize()), 0) is None


def test_each_track_has_retransmission_streams_of_its_own() -> None:
    second = ["a=ssrc-group:FID 3003 4004", "a=ssrc:3003 cname:x", "a=ssrc:4004 cname:x"]
    tracks = parse_offer(
        offer(with_rtx("a", more=[*NACK, *FID]), with_rtx("b", more=[*NACK, *second]))
    ).tracks
    demultiplexer = TrackDemultiplexer(tracks, mid_extension=None)
    streams = Retransmissions(tracks)
    for track, ssrc, source in ((0, 2002, 1001), (1, 4004, 3003)):
        data = repeated(9, ssrc=ssrc).serialize()
        packet = parse_rtp(data)
        assert demultiplexer.track_of(packet, data) == track
        restored = streams.restored(packet, track)
        assert restored is not None
        assert restored.ssrc == source
