"""Which web pages may use a server from a browser, and what they may send and read."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

import aiohttp
import pytest

from adapters.http.api.audio import AudioHandlers
from adapters.storage.converting import begin_file
from domain.session.roles import Role
from tests.fakes.http import FakeSessions, http_server
from tests.rigs.api import TOKENS, api_of
from tests.rigs.recordings import close, info, open_folder

STUDIO, OTHER, LOCAL = "https://studio.example", "https://other.example", "http://localhost:3000"
AUDIO = f"/api/recordings/{info(1).id}/audio"


@pytest.mark.parametrize(
    ("pages", "token", "allowed"),
    [
        ((), None, {LOCAL}),
        ((), "a token", {STUDIO, OTHER, LOCAL}),
        ((STUDIO,), None, {STUDIO}),
        ((STUDIO,), "a token", {STUDIO}),
        ((STUDIO, LOCAL), "a token", {STUDIO, LOCAL}),
    ],
)
async def test_pages_are_allowed_by_their_origin(
    pages: Sequence[str], token: str | None, allowed: set[str]
) -> None:
    server = http_server(FakeSessions(), token=token, pages=pages)
    url = await server.start()
    found = set()
    try:
        async with aiohttp.ClientSession() as http:
            for origin in (STUDIO, OTHER, LOCAL, f"{STUDIO}:8443", f"{STUDIO}.evil.example"):
                async with http.get(f"{url}/health", headers={"Origin": origin}) as answer:
                    header = answer.headers.get("Access-Control-Allow-Origin")
                    assert "Origin" in answer.headers["Vary"]
                assert header in (None, origin)
                if header is not None and origin in (STUDIO, OTHER, LOCAL):
                    found.add(origin)
    finally:
        await server.stop()
    assert found == allowed


async def test_pages_may_ask_for_ranges_and_read_what_describes_them(
    tmp_path: pathlib.Path,
) -> None:
    rig = open_folder(tmp_path / "recordings")
    await rig.record(1)
    handlers = [AudioHandlers(rig.catalogue, begin_file, max_conversions=2)]
    async with api_of(handlers, pages=[STUDIO]) as api:
        async with api.http.options(api.url + AUDIO, headers={"Origin": STUDIO}) as preflight:
            assert preflight.status == 200
            headers = preflight.headers["Access-Control-Allow-Headers"].split(", ")
        assert {"Range", "If-Range", "Authorization"} <= set(headers)
        for query, wanted in (("", 206), ("?format=flac", 200)):
            given = {"Range": "bytes=0-9", "Authorization": f"Bearer {TOKENS[Role.WATCH]}"}
            for origin, allowed in ((STUDIO, STUDIO), (OTHER, None)):
                given["Origin"] = origin
                # the headers of a body that is made while it is sent have them, too
                async with api.http.get(api.url + AUDIO + query, headers=given) as answer:
                    assert answer.status == wanted
                    assert answer.headers.get("Access-Control-Allow-Origin") == allowed
                    exposed = answer.headers.get("Access-Control-Expose-Headers", "").split(", ")
                if allowed:
                    assert {"Content-Range", "ETag", "Accept-Ranges", "Content-Disposition"} <= set(
                        exposed
                    )
    close(rig)
