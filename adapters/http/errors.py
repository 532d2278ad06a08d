"""The domain's errors as HTTP statuses, both ways: what a server answers, what a client reads."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping

from aiohttp import hdrs, web

from adapters.http.api.problems import is_of_api, problem
from adapters.http.routes import Handler
from domain.errors import (
    CandidateRejected,
    CapturedInvalid,
    GrantInvalid,
    MessageInvalid,
    NodeUnavailable,
    NoRelay,
    NotAllowed,
    OfferRejected,
    OfferRepeated,
    PeaksPending,
    PeaksUnavailable,
    PeerError,
    PieceInvalid,
    QueryInvalid,
    RecordingIncomplete,
    RecordingLive,
    RecordingUnknown,
    Refusal,
    ServerFull,
    SessionCutOff,
    SessionUnknown,
    StorageFailed,
    StorageFull,
    TooManyRequests,
    Unauthorized,
)

_log = logging.getLogger("gapless")

STATUSES: Mapping[type[PeerError], int] = {
    OfferRejected: 400,
    CandidateRejected: 400,
    QueryInvalid: 400,
    GrantInvalid: 400,
    MessageInvalid: 400,
    Unauthorized: 401,
    NotAllowed: 403,
    SessionUnknown: 404,
    RecordingUnknown: 404,
    RecordingLive: 409,
    OfferRepeated: 409,
    SessionCutOff: 410,
    PieceInvalid: 422,
    CapturedInvalid: 422,
    TooManyRequests: 429,
    RecordingIncomplete: 500,
    PeaksUnavailable: 500,
    NoRelay: 502,
    ServerFull: 503,
    NodeUnavailable: 503,
    PeaksPending: 503,
    StorageFull: 507,
}
RETRY_AFTER_S = 5
REALM = 'realm="gapless"'
_HEADERS: Mapping[type[PeerError], Mapping[str, str]] = {
    Unauthorized: {hdrs.WWW_AUTHENTICATE: f"Bearer {REALM}"},
    ServerFull: {hdrs.RETRY_AFTER: str(RETRY_AFTER_S)},
    NodeUnavailable: {hdrs.RETRY_AFTER: str(RETRY_AFTER_S)},
    PeaksPending: {hdrs.RETRY_AFTER: str(RETRY_AFTER_S)},
}
_KEPT_HEADERS = (
    "Accept-Encoding",
    "Accept-Patch",
    "Accept-Post",
    "Accept-Put",
    "Allow",
    "Content-Range",
    "Retry-After",
    "Upgrade",
)

_TEMPORARY = (408, 425, 429, 500, 502, 503, 504, 507)
"""Statuses of a server or gateway that is busy, full or restarting."""


@web.middleware
async def answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer every error with its status: as ``{"error": "…"}``, or as a problem of the API."""
    try:
        return await handler(request)
    except TooManyRequests as error:
        seconds = str(math.ceil(error.retry_after_s))
        return answer_refusal(
            request, STATUSES[TooManyRequests], str(error), {hdrs.RETRY_AFTER: seconds}
        )
    except PeerError as error:
        return answer_refusal(
            request, STATUSES.get(type(error), 400), str(error), _HEADERS.get(type(error), {})
        )
    except StorageFailed as error:
        return answer_refusal(request, 507, str(error), {})
    except web.HTTPException as error:
        headers = {name: error.headers[name] for name in _KEPT_HEADERS if name in error.headers}
        return answer_refusal(request, error.status, error.text or error.reason, headers)
    except Exception:
        # log the route: a path may hold a session's secret
        resource = request.match_info.route.resource
        where = resource.canonical if resource is not None else "a request"
        _log.exception("%s %s failed", request.method, where)
        return answer_refusal(request, 500, "internal error of the server; see its log", {})


def refusal_of(status: int) -> Refusal:
    """Return what an error status means for a client."""
    if status in _TEMPORARY:
        return Refusal.TEMPORARY
    # a captive portal redirects; gateways have 5xx statuses of their own
    return Refusal.FINAL if 400 <= status < 500 else Refusal.UNCLEAR


def answer_refusal(
    request: web.Request, status: int, text: str, headers: Mapping[str, str]
) -> web.Response:
    """Answer an error, as a problem if the path belongs to the API."""
    if is_of_api(request.path):
        return problem(status, text, headers)
    return web.json_response({"error": text}, status=status, headers=headers)
