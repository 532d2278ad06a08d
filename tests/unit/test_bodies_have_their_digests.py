"""A body is compared with its Content-Digest (RFC 9530)."""

from __future__ import annotations

import base64
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.http.digests import digest_of_content, has_digests, parse_digests


def b64(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


@given(st.binary(max_size=100), st.binary(max_size=100))
def test_a_digest_belongs_to_one_body(body: bytes, other: bytes) -> None:
    digests = parse_digests(digest_of_content(body))
    assert has_digests(body, digests)
    assert has_digests(other, digests) is (other == body)


def test_digests_are_read_as_structured_fields() -> None:
    body = b"sound"
    good, long = b64(hashlib.sha256(body).digest()), b64(hashlib.sha512(body).digest())
    for header in (
        f"sha-256=:{good}:",
        f" sha-512=:{long}: ",
        f"sha-256=:{good}:,sha-512=:{long}:",
        f"md5=:AAAA:, \t sha-256=:{good}:",
        f'sha-256=:{good}:;a="\\"x,";b=1; c, crc32c=:AA==:',
        f"sha-256=:AAAA:, sha-256=:{good}:",  # the last one counts (RFC 9651 § 3.2)
    ):
        assert has_digests(body, parse_digests(header)), header
    for header in (
        f"sha-256=:AAAA:, sha-512=:{long}:",
        f"sha-256=:{good}:, sha-512=:AAAA:",
        f"sha-256=:{long}:",
        "sha-256=::",
    ):
        assert not has_digests(body, parse_digests(header)), header


@pytest.mark.parametrize(
    "header",
    [
        "", " ", ",", "sha-256", "sha-256=", "sha-256=AAAA", 'sha-256="AAAA"', "sha-256=:AAAA",
        "sha-256=:AAA:", "sha-256=:A=AA:", "SHA-256=:AAAA:", "sha-256=:AAAA:,", "md5=:AAAA:",
        "sha-256 =:AAAA:", "sha-256=:AAAA: sha-512=:AAAA:", "sha-256=:A AA:", "sha-256=:AÄ==:",
        "sha-256=:AAAA:;", "x=:AAAA:, " * 500 + "sha-256=:AAAA:", "sha-256=:AAAA:" + ";a" * 499,
        'sha-256=:AAAA:;a="' + '\\"' * 400, "a" * 1000, "sha-256=:AAAA:;a=" + ";a=" * 300,
    ],
)  # fmt: skip
def test_a_digest_that_cannot_be_read_is_refused(header: str) -> None:
    with pytest.raises(ValueError, match="Content-Digest"):
        parse_digests(header)
