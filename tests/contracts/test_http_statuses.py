"""The HTTP status of each domain error, and what a status means for a client."""

from __future__ import annotations

import pytest
from aiohttp.test_utils import make_mocked_request

import domain.errors
from adapters.http.errors import STATUSES, answer_errors, refusal_of
from domain.errors import PeerError, Refusal

PEER_ERRORS = [
    found
    for found in vars(domain.errors).values()
    if isinstance(found, type) and issubclass(found, PeerError) and found is not PeerError
]


def test_every_error_of_a_peer_has_its_status() -> None:
    assert {kind.__name__: STATUSES.get(kind) for kind in PEER_ERRORS} == {
        "OfferRejected": 400,
        "CandidateRejected": 400,
        "QueryInvalid": 400,
        "Unauthorized": 401,
        "NotAllowed": 403,
        "SessionUnknown": 404,
        "RecordingUnknown": 404,
        "RecordingLive": 409,
        "PieceInvalid": 422,
        "CapturedInvalid": 422,
        "RecordingIncomplete": 500,
        "NoRelay": 502,
        "ServerFull": 503,
        "NodeUnavailable": 503,
        "StorageFull": 507,
    }


@pytest.mark.parametrize("kind", PEER_ERRORS)
async def test_an_error_is_answered_with_its_status_and_headers(kind: type[PeerError]) -> None:
    async def failing(_request: object) -> object:
        raise kind("in one line")

    response = await answer_errors(make_mocked_request("GET", "/"), failing)
    assert (response.status, response.text) == (STATUSES[kind], '{"error": "in one line"}')
    assert response.headers.get("Retry-After") == ("5" if response.status == 503 else None)
    challenge = 'Bearer realm="gapless"' if response.status == 401 else None
    assert response.headers.get("WWW-Authenticate") == challenge


@pytest.mark.parametrize(
    ("refusal", "statuses"),
    [
        (Refusal.FINAL, [400, 401, 403, 404, 409, 411, 412, 413, 415, 422, 428]),
        (Refusal.TEMPORARY, [408, 425, 429, 500, 502, 503, 504, 507]),
        (Refusal.UNCLEAR, [300, 302, 303, 307, 501, 505, 511, 522, 600]),
    ],
)
def test_a_status_says_whether_a_retry_may_help(refusal: Refusal, statuses: list[int]) -> None:
    assert {refusal_of(status) for status in statuses} == {refusal}
