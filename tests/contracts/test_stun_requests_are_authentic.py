"""Whether a STUN request is authentic is found out as aioice does, without parsing the rest."""

from __future__ import annotations

import struct

from aioice import stun
from hypothesis import given
from hypothesis import strategies as st

from adapters.transport.sockets.stun_requests import is_authentic, username_of

KEY = b"the password"


def request(*, is_signed: bool = True, has_fingerprint: bool = True) -> bytes:
    message = stun.Message(stun.Method.BINDING, stun.Class.REQUEST, transaction_id=bytes(12))
    message.attributes["USERNAME"] = "name:of the peer"
    message.attributes["PRIORITY"] = 7
    message.attributes["ICE-CONTROLLING"] = 9
    if is_signed:
        message.add_message_integrity(KEY)
    if has_fingerprint:
        message.add_fingerprint()
    return bytes(message)


def test_a_request_is_authentic_with_the_right_password_only() -> None:
    for data in (request(), request(has_fingerprint=False)):
        assert is_authentic(data, KEY)
        assert username_of(data) == b"name"
        assert not is_authentic(data, b"another password")
    assert not is_authentic(request(is_signed=False), KEY)
    assert not is_authentic(b"", KEY)


def test_what_follows_the_integrity_does_not_count() -> None:
    data = request(has_fingerprint=False)
    more = b"\x80\x22\x00\x04more"
    length = len(data) + len(more) - 20
    assert is_authentic(data[:2] + length.to_bytes(2, "big") + data[4:] + more, KEY)


@given(st.integers(0, len(request()) - 1), st.integers(1, 255))
def test_no_changed_request_is_authentic_that_aioice_would_refuse(at: int, change: int) -> None:
    data = bytearray(request())
    data[at] ^= change
    try:
        expected = stun.parse_message(bytes(data)).check_message_integrity(KEY)
    except (ValueError, struct.error):
        return  # aioice refuses it for another reason
    assert is_authentic(bytes(data), KEY) == expected


@given(st.binary(max_size=200))
def test_any_bytes_can_be_asked(data: bytes) -> None:
    assert not is_authentic(data, KEY)
    assert len(username_of(data)) <= len(data)
