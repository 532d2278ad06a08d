"""A server tells a client what it wants of its spool, and confirms that it has all of it."""

from __future__ import annotations

import datetime
from collections.abc import AsyncIterator
from typing import Any

import pytest

from adapters.http.pieces import MAX_CAPTURED_BYTES
from adapters.http.restore_json import MAX_MISSING
from domain.errors import CapturedInvalid
from domain.ports.restoring import Confirmed, Wanted
from domain.recording.ranges import Range
from domain.recording.restoring import Captured
from tests.rigs.piece_requests import SHA256, Requests, in_chunks, served


@pytest.fixture(params=["one process", "another node"])
async def requests(request: pytest.FixtureRequest) -> AsyncIterator[Requests]:
    async with served(other_node=request.param == "another node") as found:
        yield found


# -- what is wanted ------------------------------------------------------------------------------


async def test_a_client_hears_what_is_wanted(requests: Requests) -> None:
    until = datetime.datetime(2026, 2, 1, 12, tzinfo=datetime.UTC)
    for wanted, text in (
        (Wanted((), "live"), {"ranges": [], "state": "live", "until": None}),
        (
            Wanted((Range(0, 5), Range(10, 2**40)), "waiting", until),
            {
                "ranges": [{"start": 0, "length": 5}, {"start": 10, "length": 2**40}],
                "state": "waiting",
                "until": "2026-02-01T12:00:00Z",
            },
        ),
    ):
        requests.restoring.wants = wanted
        assert (await requests.send("GET", "/sessions/session/wanted"))[:2] == (200, text)


@pytest.mark.parametrize(
    ("session", "bearer", "status"),
    [
        ("session", None, 401),
        ("session", "other secret", 401),
        ("session", "wrong", 401),
        ("session", "token", 401),
        ("nobody", "secret", 401),
    ],
)
async def test_strangers_learn_and_change_nothing(
    requests: Requests, session: str, bearer: str | None, status: int
) -> None:
    captured = {"json": {"length": 5, "sha256": SHA256}}
    path = f"/sessions/{session}"
    assert (await requests.send("GET", f"{path}/wanted", bearer=bearer))[0] == status
    assert (await requests.put(session=session, bearer=bearer))[0] == status
    sent = await requests.send("POST", f"{path}/captured", bearer=bearer, **captured)
    assert sent[0] == status
    assert requests.restoring.pieces == requests.restoring.captures == []


# -- all that was captured -----------------------------------------------------------------------


async def test_what_was_captured_is_confirmed(requests: Requests) -> None:
    missing = [{"start": 2 * n, "length": 1} for n in range(MAX_MISSING)]
    body = {"length": 2**53 - 1, "sha256": SHA256.upper(), "missing": missing}
    assert await requests.captured(body) == (200, {"state": "complete", "sha256": SHA256})
    (captured,) = requests.restoring.captures
    ranges = tuple(Range(2 * n, 1) for n in range(MAX_MISSING))
    assert captured == Captured(2**53 - 1, SHA256, ranges)
    requests.restoring.confirms = Confirmed("restoring", None)
    body = {"length": 0, "sha256": SHA256}
    assert await requests.captured(body) == (200, {"state": "restoring", "sha256": None})


@pytest.mark.parametrize(
    ("confirmed", "reason"),
    [
        (Confirmed("live", None), "the session has not ended"),
        (Confirmed("live", None, (Range(3, 4),)), "sound is still wanted"),
        (Confirmed("waiting", None, (Range(3, 4),)), "sound is still wanted"),
    ],
)
async def test_what_is_still_wanted_is_told(
    requests: Requests, confirmed: Confirmed, reason: str
) -> None:
    requests.restoring.confirms = confirmed
    ranges = [{"start": item.start, "length": item.length} for item in confirmed.ranges]
    assert await requests.captured({"length": 9, "sha256": SHA256}) == (
        409, {"error": reason, "state": confirmed.state, "ranges": ranges},
    )  # fmt: skip


async def test_what_cannot_have_been_captured_is_refused(requests: Requests) -> None:
    body: dict[str, Any] = {"length": 5, "sha256": SHA256}
    overlap = [{"start": 0, "length": 2}, {"start": 1, "length": 2}]
    assert (await requests.captured(body | {"missing": overlap}))[0] == 422
    for wrong in ({"length": -1}, {"sha256": "x"}, {"missing": 5}):
        assert (await requests.captured(body | wrong))[0] == 400
    requests.restoring.refusal = CapturedInvalid("it is not what was sent")
    assert await requests.captured(body) == (422, {"error": "it is not what was sent"})
    assert requests.restoring.captures == []


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"[]", 400),
        (b"\xff", 400),
        (b"[" * 600_000, 400),
        (b'{"a":' * 9000, 400),
        (b"[" + b"{}," * 20_000 + b"{}]", 400),
        (b" " * (MAX_CAPTURED_BYTES + 1), 413),
    ],
    ids=["empty", "cut off", "a list", "no text", "deep", "deep objects", "wide", "long"],
)
async def test_a_malformed_body_is_refused(requests: Requests, data: bytes, status: int) -> None:
    headers = {"Content-Type": "application/json", "Content-Length": str(len(data))}
    found = await requests.send(
        "POST", "/sessions/session/captured", data=in_chunks(data), headers=headers
    )
    assert found[0] == status
    assert found[1]["error"]


# -- pages ---------------------------------------------------------------------------------------


async def test_a_page_may_restore(requests: Requests) -> None:
    for path, method in (("wanted", "GET"), ("sound/0", "PUT"), ("captured", "POST")):
        headers = {"Origin": "https://page.example", "Access-Control-Request-Method": method}
        async with requests.http.options(
            f"{requests.url}/sessions/session/{path}", headers=headers
        ) as response:
            assert response.status == 200
            assert response.headers["Access-Control-Allow-Origin"] == "https://page.example"
            assert method in response.headers["Access-Control-Allow-Methods"].split(", ")
            allowed = response.headers["Access-Control-Allow-Headers"].split(", ")
            assert {"Authorization", "Content-Digest", "Content-Type"} <= set(allowed)
    status, _, headers = await requests.send(
        "GET", "/sessions/session/wanted", headers={"Origin": "https://page.example"}
    )
    assert (status, headers["Access-Control-Allow-Origin"]) == (200, "https://page.example")
