"""What an answer accepts of an offer, how it says so, and why an offer is refused."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest

from adapters.runtime.asyncio_runtime import BackgroundTasks
from adapters.transport.sdp.codecs import OpusPreferences, with_stereo
from adapters.transport.sdp.descriptions import LocalTransport, RemoteDescription
from adapters.transport.sdp.limits import MAX_MEDIA_LINES
from adapters.transport.sdp.parsing import parse_answer, parse_offer
from adapters.transport.sdp.writing import write_answer
from domain.errors import OfferRejected
from domain.rtp.packets import RtpPacket
from domain.sound.detection import Stereo
from tests.contracts.test_several_tracks import Tracks
from tests.contracts.test_transport_contract import connect, real_publisher, real_server

TRANSPORT = (
    "a=ice-ufrag:abcd",
    f"a=ice-pwd:{'x' * 22}",
    f"a=fingerprint:sha-256 {':'.join(['AB'] * 32)}",
    "a=setup:actpass",
)
OPUS = ("a=rtpmap:111 opus/48000/2", "a=fmtp:111 minptime=10;useinbandfec=1")
RED = ("a=rtpmap:63 red/48000/2", "a=fmtp:63 111/111")
TELEPHONE = ("a=rtpmap:9 G722/8000", "a=rtpmap:0 PCMU/8000", "a=rtpmap:8 PCMA/8000")
UNWANTED = ("a=rtpmap:13 CN/8000", "a=rtpmap:110 telephone-event/48000")


def media(
    first: str = "m=audio 9 UDP/TLS/RTP/SAVPF 111",
    *lines: str,
    mid: str | None = "0",
    direction: str | None = "sendonly",
    codecs: Sequence[str] = OPUS,
    transport: Sequence[str] = TRANSPORT,
) -> list[str]:
    return [
        first,
        *([f"a=mid:{mid}"] if mid is not None else []),
        *([f"a={direction}"] if direction else []),
        "a=rtcp-mux",
        *codecs,
        *transport,
        *lines,
    ]


def offer(*sections: Sequence[str], session: Sequence[str] = ()) -> str:
    lines = ["v=0", "o=- 1 1 IN IP4 0.0.0.0", "s=-", "t=0 0", *session]
    return "\r\n".join([*lines, *(line for section in sections for line in section), ""])


def answered(text: str) -> tuple[list[str], list[list[str]]]:
    """The lines of the answer: those of the session, and those of each m-line."""
    return split(answer_to(parse_offer(text)))


def answer_to(offered: RemoteDescription) -> str:
    local = LocalTransport("abcd", "x" * 22, offered.dtls.fingerprints[0])
    return write_answer(offered, local, OpusPreferences())


def split(text: str) -> tuple[list[str], list[list[str]]]:
    session, *sections = text.replace("\r\nm=", "\r\n\0m=").split("\0")
    return session.splitlines(), [section.splitlines() for section in sections]


# -- one codec ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("formats", "lines", "chosen"),
    [
        ("111 63 9 0 8 13 110", (*OPUS, *RED, *TELEPHONE, *UNWANTED), "63 111"),
        ("0 8 9 111", (*OPUS, *TELEPHONE), "111"),
        ("0 9 8", TELEPHONE, "9"),
        ("8 0", TELEPHONE, "8"),
        ("0", (), "0"),
        ("96 111 97 63", (*OPUS, *RED, "a=rtpmap:96 opus/48000/2", "a=rtpmap:97 L16/48000"), "96"),
    ],
)
def test_an_answer_has_one_codec_and_red_only_if_it_wraps_that_one(
    formats: str, lines: Sequence[str], chosen: str
) -> None:
    text = offer(media(f"m=audio 9 UDP/TLS/RTP/SAVPF {formats}", codecs=lines))
    _, (section,) = answered(text)
    assert section[0] == f"m=audio 9 UDP/TLS/RTP/SAVPF {chosen}"
    mapped = [line[9:].split()[0] for line in section if line.startswith("a=rtpmap:")]
    assert mapped == chosen.split()
    assert list(parse_offer(text).tracks[0].codecs) == [int(item) for item in chosen.split()]


def test_a_recording_continues_with_its_codec_though_a_better_one_is_offered() -> None:
    both = media("m=audio 9 UDP/TLS/RTP/SAVPF 111 0", codecs=(*OPUS, *TELEPHONE))
    text = offer(both, [*both, "a=mid:1"], session=["a=group:BUNDLE 0 1"])
    names = [None, "pcmu"]
    tracks = parse_offer(text, codecs=names).tracks
    assert [[codec.name for codec in track.codecs.values()] for track in tracks] == [
        ["opus"],
        ["pcmu"],
    ]
    assert list(parse_offer(text, codecs=["g722"]).tracks[0].codecs) == [111]


def test_audio_that_cannot_be_recorded_does_not_hide_the_audio_that_can() -> None:
    strange = media("m=audio 9 UDP/TLS/RTP/SAVPF 96", mid="a", codecs=["a=rtpmap:96 MP4A/48000/2"])
    text = offer(strange, media(mid="b"))
    parsed = parse_offer(text)
    assert [track.mid for track in parsed.tracks] == ["b"]
    assert parsed.declined == {"without a codec that can be recorded": 1}


def test_types_of_an_accepted_line_are_not_ignored_but_those_of_other_lines_are() -> None:
    text = offer(
        media("m=audio 9 UDP/TLS/RTP/SAVPF 111 0 110", codecs=(*OPUS, *TELEPHONE, *UNWANTED)),
        media("m=video 9 UDP/TLS/RTP/SAVPF 96 0", mid="1", codecs=["a=rtpmap:96 VP8/90000"]),
    )
    assert parse_offer(text).unwanted == {96}


async def test_packets_of_a_codec_that_was_not_answered_are_rejected_and_counted() -> None:
    """Also of several tracks: the track of their source counts them."""
    spawner, sink, publisher = BackgroundTasks(), Tracks(), real_publisher()
    first, section = publisher.offer_sdp.partition("m=audio")[::2]
    section = "m=audio" + section.replace("SAVPF 111", "SAVPF 111 0")
    second = section.replace("a=mid:0", "a=mid:1")
    text = first.replace("BUNDLE 0", "BUNDLE 0 1") + section + second + "a=ssrc:7 cname:x\r\n"
    server = await real_server(spawner).accept(text, ice_servers=())
    assert [list(track.codecs) for track in server.tracks] == [[111], [111]]
    server.start(sink)
    await connect(publisher, server)
    for payload_type in (111, 0, 110):
        publisher.send(RtpPacket(payload_type, 1 + payload_type, 0, 7, b"\x78x"))
    await sink.until(lambda: len(sink.packets[1]) == 3)
    assert not sink.packets[0]
    assert server.unassigned == 0  # type: ignore[attr-defined]
    await publisher.close()
    await server.close()
    await spawner.join()


@pytest.mark.parametrize("fmtp", ["a=fmtp:111", "a=fmtp:111 ", "a=fmtp:111 ;"])
def test_a_format_may_have_no_parameters(fmtp: str) -> None:
    (track,) = parse_offer(offer(media(codecs=("a=rtpmap:111 opus/48000/2", fmtp)))).tracks
    assert track.codecs[111].fmtp == {}


def test_a_format_without_parameters_is_not_answered() -> None:
    """An m-line that is no track, but describes the transport of one, is repeated."""
    codecs = ("a=rtpmap:96 VP8/90000", "a=fmtp:96")
    video = media("m=video 9 UDP/TLS/RTP/SAVPF 96", direction="sendrecv", codecs=codecs)
    text = offer(video, media(mid="1"), session=["a=group:BUNDLE 0 1"])
    _, (line, _) = answered(text)
    assert [item for item in line if item.startswith(("a=rtpmap", "a=fmtp"))] == [codecs[0]]


# -- stereo (RFC 7587 § 6.1) -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fmtp", "asked", "negotiated"),
    [
        ("useinbandfec=1", False, Stereo.UNINVITED),
        ("stereo=1", False, Stereo.UNCERTAIN),  # Firefox, whatever its microphone is
        ("stereo=0", False, Stereo.UNINVITED),
        ("stereo=1;sprop-stereo=1", False, Stereo.EXPECTED),
        ("Sprop-Stereo=1", False, Stereo.EXPECTED),
        ("stereo=1;sprop-stereo=0", False, Stereo.UNINVITED),
        ("sprop-stereo=0", True, Stereo.EXPECTED),
        ("useinbandfec=1", True, Stereo.EXPECTED),
    ],
)
def test_two_channels_are_invited_from_senders_that_may_have_them(
    fmtp: str, asked: bool, negotiated: Stereo
) -> None:
    preferences = OpusPreferences(stereo=asked)
    text = offer(media(codecs=("a=rtpmap:111 opus/48000/2", f"a=fmtp:111 {fmtp}")))
    offered = parse_offer(text)
    codecs = with_stereo(offered.tracks[0].codecs, preferences)
    assert codecs[111].stereo is negotiated
    local = LocalTransport("abcd", "x" * 22, offered.dtls.fingerprints[0])
    stereo = int(negotiated is not Stereo.UNINVITED)
    assert f";stereo={stereo}\r\n" in write_answer(offered, local, preferences)


# -- declined m-lines --------------------------------------------------------------------------


def test_a_declined_line_keeps_what_defines_its_formats() -> None:
    data = ["m=application 9 UDP/DTLS/SCTP webrtc-datachannel", "a=mid:1", "a=sctp-port:5000"]
    old = ["m=application 9 DTLS/SCTP 5000", "a=mid:2", "a=sctpmap:5000 webrtc-datachannel 1024"]
    video = media("m=video 9 UDP/TLS/RTP/SAVPF 96", mid="3", codecs=["a=rtpmap:96 VP8/90000"])
    limit = "a=max-message-size:262144"
    text = offer(media(), [*data, limit], old, video, session=["a=group:BUNDLE 0 1 2 3"])
    session, (_, *declined) = answered(text)
    assert "a=group:BUNDLE 0" in session
    for section, offered in zip(declined, (data, old, video), strict=True):
        assert section[0] == offered[0].replace(" 9 ", " 0 ")
        assert "a=inactive" in section
        assert offered[1] in section
        # werift would take an m-line without them for a bundle without credentials
        assert {"a=ice-ufrag:abcd", f"a=ice-pwd:{'x' * 22}"} < {*section}
    assert {"a=sctp-port:5000", limit} < {*declined[0]}
    assert old[2] in declined[1]
    assert "a=rtpmap:96 VP8/90000" in declined[2]


def test_a_declined_line_beside_the_bundle_has_no_credentials() -> None:
    _, (_, *declined) = answered(
        offer(media(), media(mid="1"), media(mid="2"), session=["a=group:BUNDLE 0 2"])
    )
    assert ["a=ice-ufrag:abcd" in section for section in declined] == [False, True]
    _, (_, section) = answered(offer(media(), media(mid="1")))
    assert "a=ice-ufrag:abcd" not in section


# -- BUNDLE (RFC 9143) -------------------------------------------------------------------------


def bundle_in(text: str) -> list[str]:
    session, _ = answered(text)
    return [line for line in session if line.startswith("a=group")]


def test_a_bundle_is_answered_only_where_it_is_offered() -> None:
    assert bundle_in(offer(media())) == []
    assert bundle_in(offer(media(), media(mid="1"))) == []
    assert bundle_in(offer(media(), session=["a=group:BUNDLE 0"])) == ["a=group:BUNDLE 0"]
    assert bundle_in(offer(media(), session=["a=group:LS 0"])) == []
    assert bundle_in(offer(media(), session=["a=group:BUNDLE"])) == []
    assert bundle_in(offer(media(mid=None), session=["a=group:BUNDLE 0"])) == []


def test_a_bundle_is_answered_with_accepted_lines_of_the_group_only() -> None:
    text = offer(*(media(mid=mid) for mid in "0123"), session=["a=group:BUNDLE 1 3 9"])
    assert bundle_in(text) == []  # the first line is recorded, and in no group
    text = offer(*(media(mid=mid) for mid in "1023"), session=["a=group:BUNDLE 1 3 9"])
    assert bundle_in(text) == ["a=group:BUNDLE 1 3"]


def test_of_two_bundles_the_one_of_the_first_audio_is_answered() -> None:
    video = media("m=video 9 UDP/TLS/RTP/SAVPF 96", mid="v", codecs=["a=rtpmap:96 VP8/90000"])
    groups = ["a=group:BUNDLE v c", "a=group:BUNDLE a b"]
    text = offer(video, *(media(mid=mid) for mid in "abc"), session=groups)
    assert bundle_in(text) == ["a=group:BUNDLE a b"]
    ports = [section[0].split()[1] for section in answered(text)[1]]
    assert ports == ["0", "9", "9", "0"]


@pytest.mark.parametrize("port", [0, 9])
def test_a_bundle_only_line_needs_a_bundle(port: int) -> None:
    first = f"m=audio {port} UDP/TLS/RTP/SAVPF 111"
    text = offer(media(first, "a=bundle-only"))
    if port:
        assert bundle_in(text) == []
    else:
        with pytest.raises(OfferRejected, match="no audio"):
            parse_offer(text)


# -- what the session part says ----------------------------------------------------------------


@pytest.mark.parametrize("direction", ["recvonly", "inactive"])
def test_the_direction_of_the_session_is_the_default(direction: str) -> None:
    silent = [f"a={direction}"]
    with pytest.raises(OfferRejected, match="no audio to record"):
        parse_offer(offer(media(direction=None), session=silent))
    text = offer(media(direction=None), media(mid="1"), session=[*silent, "a=group:BUNDLE 0 1"])
    assert [track.mid for track in parse_offer(text).tracks] == ["1"]
    assert len(parse_offer(offer(media(), session=silent)).tracks) == 1


def test_a_session_that_sends_only_or_says_nothing_is_recorded() -> None:
    for session in ([], ["a=sendonly"], ["a=sendrecv"]):
        assert len(parse_offer(offer(media(direction=None), session=session)).tracks) == 1
    with pytest.raises(OfferRejected):  # the answer has to receive
        parse_answer(offer(media(direction=None), session=["a=sendonly"]))


def test_transport_attributes_of_the_session_are_the_default() -> None:
    parsed = parse_offer(offer(media(transport=()), session=[*TRANSPORT, "a=end-of-candidates"]))
    assert (parsed.username, parsed.password) == ("abcd", "x" * 22)
    assert parsed.dtls.role == "auto"
    assert len(parsed.dtls.fingerprints) == 1
    assert parsed.candidates_complete
    other = ["a=ice-ufrag:1234", "a=setup:passive", "a=fingerprint:sha-256 AA"]
    parsed = parse_offer(offer(media(transport=other), session=TRANSPORT))
    assert (parsed.username, parsed.dtls.role) == ("1234", "server")
    assert [item.value for item in parsed.dtls.fingerprints] == ["AA"]


def test_ice_lite_is_seen() -> None:
    assert parse_offer(offer(media(), session=["a=ice-lite"])).is_ice_lite
    assert not parse_offer(offer(media(), session=["a=ice-options:trickle"])).is_ice_lite


# -- other properties of m-lines ---------------------------------------------------------------


@pytest.mark.parametrize(
    "profile",
    ["UDP/TLS/RTP/SAVPF", "UDP/TLS/RTP/SAVP", "RTP/SAVPF", "RTP/SAVP", "RTP/AVP", "RTP/AVPF"],
)
def test_the_profile_is_answered_as_it_was_offered(profile: str) -> None:
    _, (section,) = answered(offer(media(f"m=audio 9 {profile} 111")))
    assert section[0] == f"m=audio 9 {profile} 111"


@pytest.mark.parametrize("profile", ["udp", "TCP/MRCPv2", "UDPTL", "UDP/TLS/RTP/SAVPF2"])
def test_audio_over_something_else_is_declined(profile: str) -> None:
    strange = media(f"m=audio 9 {profile} 111", mid="a")
    with pytest.raises(OfferRejected, match=f"no audio over DTLS .*{profile}"):
        parse_offer(offer(strange))
    _, sections = answered(offer(strange, media(mid="b")))
    assert [section[0].split()[1] for section in sections] == ["0", "9"]


def test_multiplexing_of_rtcp_is_answered_only_where_it_is_offered() -> None:
    without = [line for line in media() if line != "a=rtcp-mux"]
    assert "a=rtcp-mux" not in answered(offer(without))[1][0]
    assert "a=rtcp-mux" in answered(offer(media()))[1][0]


def test_a_line_without_mid_is_answered_without() -> None:
    _, (section,) = answered(offer(media(mid=None)))
    assert not any(line.startswith("a=mid") for line in section)


def test_the_number_of_lines_is_limited() -> None:
    data = ["m=application 9 UDP/DTLS/SCTP webrtc-datachannel"]
    many = [data] * (MAX_MEDIA_LINES - 1)
    assert len(answered(offer(media(), *many))[1]) == MAX_MEDIA_LINES
    with pytest.raises(OfferRejected, match="more than 128 m-lines"):
        parse_offer(offer(media(), *many, data))


# -- what cannot be read -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "where"),
    [
        ("m=audio 9 ", "m=audio nine ", "line 5 (m=audio nine UDP/TLS/RTP/SAVPF 111)"),
        ("m=audio 9 ", "m=audio 70000 ", "line 5 (m=audio 70000 UDP/TLS/RTP/SAVPF 111)"),
        (" UDP/TLS/RTP/SAVPF 111", "", "line 5 (m=audio 9)"),
        ("rtpmap:111 opus", "rtpmap:opus", "line 9 (a=rtpmap:opus/48000/2)"),
        ("rtpmap:111 opus/48000", "rtpmap:111 opus/fast", "line 9 (a=rtpmap:111 opus/fast/2)"),
        ("fmtp:111 ", "fmtp:", "line 10 (a=fmtp:minptime=10;useinbandfec=1)"),
        ("fingerprint:sha-256 ", "fingerprint:", "line 13 (a=fingerprint:AB:"),
        ("setup:actpass", "setup:holdconn", "line 14 (a=setup:holdconn)"),
        ("a=rtcp-mux", "a=candidate:1 1 x", "line 8 (a=candidate:1 1 x)"),
        ("a=rtcp-mux", "a=candidate", "line 8 (a=candidate)"),
    ],
)
def test_the_line_that_cannot_be_read_is_named(old: str, new: str, where: str) -> None:
    text = offer(media())
    assert len(parse_offer(text).tracks) == 1
    with pytest.raises(OfferRejected, match=f"cannot be read: {re.escape(where)}"):
        parse_offer(text.replace(old, new, 1))


def test_what_is_shown_of_a_line_is_short_and_printable() -> None:
    with pytest.raises(OfferRejected) as raised:
        parse_offer(offer(media(f"m=audio \x1b[2Jnine {'x' * 5000}")))
    assert len(str(raised.value)) < 200
    assert str(raised.value).isprintable()


def test_lines_that_are_not_needed_may_say_anything() -> None:
    strange = ["a=rtpmap:nonsense", "a=fmtp:", "a=candidate:x", "a=setup:sideways", "a=ssrc:x"]
    video = ["m=video 9 UDP/TLS/RTP/SAVPF 96 x", "a=mid:1", *strange]
    text = offer(media("m=audio 9 UDP/TLS/RTP/SAVPF 111", "a=ssrc:²", "a=x"), video)
    assert len(parse_offer(text).tracks) == 1
    assert len(answered(text)[1]) == 2
