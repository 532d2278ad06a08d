"""The HTTP status of each domain error, and what a status means for a client."""

from __future__ import annotations

import pytest
from aiohttp.test_utils import make_mocked_request

import domain.errors
from adapters.http.calls import Response, checked
from adapters.http.errors import STATUSES, answer_errors, refusal_of
from domain.errors import PeerError, Refusal, ServerRefused, TooManyRequests

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
        "GrantInvalid": 400,
        "MessageInvalid": 400,
        "Unauthorized": 401,
        "NotAllowed": 403,
        "SessionUnknown": 404,
        "RecordingUnknown": 404,
        "RecordingLive": 409,
        "OfferRepeated": 409,
        "SessionCutOff": 410,
        "PieceInvalid": 422,
        "CapturedInvalid": 422,
        "TooManyRequests": 429,
        "RecordingIncomplete": 500,
        "PeaksUnavailable": 500,
        "NoRelay": 502,
        "ServerFull": 503,
        "NodeUnavailable": 503,
        "PeaksPending": 503,
        "StorageFull": 507,
    }


@pytest.mark.parametrize("kind", PEER_ERRORS)
async def test_an_error_is_answered_with_its_status_and_headers(kind: type[PeerError]) -> None:
    async def failing(_request: object) -> object:
        raise kind("in one line")

    response = await answer_errors(make_mocked_request("GET", "/"), failing)
    assert (response.status, response.text) == (STATUSES[kind], '{"error": "in one line"}')
    after = {503: "5", 429: "1"}.get(response.status)
    assert response.headers.get("Retry-After") == after
    challenge = 'Bearer realm="gapless"' if response.status == 401 else None
    assert response.headers.get("WWW-Authenticate") == challenge


@pytest.mark.parametrize(("seconds", "answered"), [(0.2, "1"), (1.0, "1"), (41.5, "42")])
async def test_who_asks_too_often_is_told_when_to_come_again(seconds: float, answered: str) -> None:
    async def failing(_request: object) -> object:
        raise TooManyRequests("too many", retry_after_s=seconds)

    response = await answer_errors(make_mocked_request("GET", "/"), failing)
    assert (response.status, response.headers["Retry-After"]) == (429, answered)


@pytest.mark.parametrize(
    ("status", "header", "asked_s"),
    [(429, "7", 7.0), (429, "9" * 30, 60.0), (429, "soon", None), (429, "²", None),
     (429, None, None), (503, "5", None)],
)  # fmt: skip
def test_a_client_waits_as_long_as_it_is_told(
    status: int, header: str | None, asked_s: float | None
) -> None:
    headers = {} if header is None else {"Retry-After": header}
    with pytest.raises(ServerRefused) as refused:
        checked(Response(status, "busy", headers, ""))
    assert refused.value.retry_after_s == asked_s


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
