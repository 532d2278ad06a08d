"""The speaker's page writes offers and reads answers: session descriptions, in Node."""

from __future__ import annotations

from typing import Any

import pytest

from tests.rigs.node import NODE, run_in_node

pytestmark = pytest.mark.skipif(NODE is None, reason="node is not installed")

CHROMIUM = [
    "v=0",
    "m=audio 9 UDP/TLS/RTP/SAVPF 111 63 9",
    "a=ice-ufrag:abcd",
    "a=ice-pwd:0123456789abcdefghijklmn",
    "a=mid:0",
    "a=rtpmap:111 opus/48000/2",
    "a=rtcp-fb:111 transport-cc",
    "a=fmtp:111 minptime=10;useinbandfec=1",
    "a=rtpmap:63 red/48000/2",
    "a=fmtp:63 111/111",
    "a=rtpmap:9 G722/8000",
    "",
]
FIREFOX = [
    "v=0",
    "m=audio 9 UDP/TLS/RTP/SAVPF 109 9",
    "a=fmtp:109 maxplaybackrate=48000;stereo=1;useinbandfec=1",
    "a=rtcp-fb:109 nack",
    "a=rtpmap:109 opus/48000/2",
    "a=rtpmap:9 G722/8000",
    "",
]


def called(function: str, *arguments: Any) -> Any:
    script = f'return (await load("speaker/sdp.js")).{function}(...argument);'
    return run_in_node(script, list(arguments))


def parameters(sdp: str, payload_type: int) -> dict[str, str]:
    (line,) = (one for one in sdp.split("\r\n") if one.startswith(f"a=fmtp:{payload_type} "))
    return dict(pair.split("=") for pair in line.split(" ")[1].split(";"))


@pytest.mark.parametrize(("lines", "opus"), [(CHROMIUM, 111), (FIREFOX, 109)])
def test_music_is_offered_in_stereo_with_retransmission(lines: list[str], opus: int) -> None:
    offered = called("withOpus", "\r\n".join(lines), "music")
    assert offered.count(f"a=rtcp-fb:{opus} nack") == 1
    found = parameters(offered, opus)
    assert (found["stereo"], found["sprop-stereo"], found["useinbandfec"]) == ("1", "1", "1")
    assert found["maxaveragebitrate"] == "128000"
    untouched = [one for one in lines if f":{opus} " not in one]
    assert [one for one in offered.split("\r\n") if f":{opus} " not in one] == untouched


@pytest.mark.parametrize(("lines", "opus"), [(CHROMIUM, 111), (FIREFOX, 109)])
def test_voice_is_offered_in_mono(lines: list[str], opus: int) -> None:
    found = parameters(called("withOpus", "\r\n".join(lines), "voice"), opus)
    assert (found["stereo"], found["sprop-stereo"], found["useinbandfec"]) == ("0", "0", "1")
    assert "maxaveragebitrate" not in found


def test_what_was_offered_once_is_offered_again_as_it_was() -> None:
    once = called("withOpus", "\r\n".join(CHROMIUM), "music")
    assert called("withOpus", once, "music") == once


def test_an_ice_session_is_read_from_an_offer_and_written_with_its_candidates() -> None:
    ice = called("iceOf", "\r\n".join(CHROMIUM))
    assert ice == {"ufrag": "abcd", "pwd": "0123456789abcdefghijklmn", "mid": "0"}
    written = called("fragmentOf", ice, ["candidate:1 1 udp 1 192.0.2.1 5000 typ host", None])
    assert written.split("\r\n") == [
        "a=ice-ufrag:abcd",
        "a=ice-pwd:0123456789abcdefghijklmn",
        "m=audio 9 UDP/TLS/RTP/SAVPF 0",
        "a=mid:0",
        "a=candidate:1 1 udp 1 192.0.2.1 5000 typ host",
        "a=end-of-candidates",
        "",
    ]


def test_a_restarted_answer_has_the_new_ice_session_and_nothing_of_the_old() -> None:
    answer = [
        "m=audio 9 UDP/TLS/RTP/SAVPF 111",
        "a=candidate:1 1 udp 1 192.0.2.1 5000 typ host",
        "a=end-of-candidates",
        "a=ice-ufrag:old",
        "a=ice-pwd:oldoldoldoldoldoldoldold",
        "a=setup:passive",
        "",
    ]
    fragment = [
        "m=audio 9 UDP/TLS/RTP/SAVPF 0",
        "a=ice-ufrag:new",
        "a=ice-pwd:newnewnewnewnewnewnewnew",
        "a=candidate:2 1 udp 1 192.0.2.2 5000 typ host",
        "a=end-of-candidates",
        "",
    ]
    assert called("withIceOf", "\r\n".join(answer), "\r\n".join(fragment)).split("\r\n") == [
        "m=audio 9 UDP/TLS/RTP/SAVPF 111",
        "a=ice-ufrag:new",
        "a=ice-pwd:newnewnewnewnewnewnewnew",
        "a=candidate:2 1 udp 1 192.0.2.2 5000 typ host",
        "a=end-of-candidates",
        "a=setup:passive",
        "",
    ]


def test_servers_are_read_from_links() -> None:
    header = ", ".join(
        [
            '<stun:stun.example.org>; rel="ice-server"',
            '<turn:turn.example.org?transport=udp>; rel="ice-server"; username="a, \\"b\\""; '
            'credential="c;d"',
            '</whip>; rel="self"',
        ]
    )
    assert called("iceServersOf", header) == [
        {"urls": "stun:stun.example.org"},
        {
            "urls": "turn:turn.example.org?transport=udp",
            "username": 'a, "b"',
            "credential": "c;d",
        },
    ]
    assert called("iceServersOf", None) == []
