"""Administrators issue, list and revoke tokens; what one node knows, all know, also later."""

from __future__ import annotations

import asyncio
import datetime
import pathlib
import sqlite3
import stat
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest
import segno
from aiohttp.test_utils import make_mocked_request
from jsonschema import Draft202012Validator

from adapters.http.access import GRANT
from adapters.http.api.problems import PROBLEM
from adapters.http.api.tokens import INVITATION, NEW_TOKEN, TOKEN_PAGE, TokenHandlers
from adapters.http.offers import granted
from adapters.http.tls import TlsFiles
from adapters.tokens.register import REGISTER, FileTokens
from domain.errors import OfferRepeated, StorageFailed, StorageFull, Unauthorized
from domain.session.grants import MAX_TEXT_CHARACTERS, Grant
from domain.session.roles import ALL_ROLES, Role
from domain.session.rooms import MAX_ROOM_CHARACTERS
from tests.fakes.http import FakeSessions, http_server, token_service
from tests.fakes.time import FakeClock
from tests.rigs.tls import self_signed
from tests.rigs.tokens import SECRET, sign

ADMIN = "the administrator's token"
OFFER = {"sdp": "v=0", "type": "offer"}
SDP = {"Content-Type": "application/sdp"}


@dataclass
class Server:
    """One of the nodes of a server."""

    url: str
    http: aiohttp.ClientSession
    sessions: FakeSessions

    async def send(
        self, method: str, path: str, bearer: str | None = ADMIN, **request: Any
    ) -> tuple[int, Any]:
        headers = dict(request.pop("headers", {}))
        if bearer is not None:
            headers["Authorization"] = f"Bearer {bearer}"
        async with self.http.request(method, self.url + path, headers=headers, **request) as answer:
            is_json = answer.content_type.endswith("json")
            return answer.status, await answer.json() if is_json else await answer.text()

    async def issue(self, **body: Any) -> dict[str, Any]:
        status, token = await self.send("POST", "/api/tokens", json={"role": "publish", **body})
        assert status == 201, token
        check(NEW_TOKEN, token)
        return dict(token)

    async def listed(self, query: str = "") -> dict[str, dict[str, Any]]:
        status, page = await self.send("GET", f"/api/tokens{query}")
        assert status == 200
        check(TOKEN_PAGE, page)
        return {token["id"]: token for token in page["tokens"]}

    async def offer(self, bearer: str | None, **more: Any) -> int:
        return (await self.send("POST", "/offer", bearer, json=OFFER | more))[0]


def check(schema: Mapping[str, Any], value: Any) -> None:
    checker = Draft202012Validator.FORMAT_CHECKER
    Draft202012Validator(schema, format_checker=checker).validate(value)


@asynccontextmanager
async def node(folder: pathlib.Path | str | None, **options: Any) -> AsyncIterator[Server]:
    signed = token_service(
        None if folder is None else str(folder),
        **{name: options.pop(name) for name in ("secret", "clock") if name in options},
    )
    sessions = FakeSessions()
    tokens = {ADMIN: ALL_ROLES} if options.pop("needs_token", True) else {}
    server = http_server(
        sessions, tokens=tokens, signed=signed, more=[TokenHandlers(signed)], **options
    )
    url = await server.start()
    async with aiohttp.ClientSession() as http:
        yield Server(url, http, sessions)
    await server.stop()
    signed.close()


@pytest.fixture
async def nodes(tmp_path: pathlib.Path) -> AsyncIterator[tuple[Server, Server]]:
    async with node(tmp_path) as first, node(tmp_path) as second:
        yield first, second


async def test_a_token_works_on_every_node_and_after_a_restart(
    nodes: tuple[Server, Server], tmp_path: pathlib.Path
) -> None:
    issued = await nodes[0].issue(name="Ana")
    assert [await server.offer(issued["token"]) for server in nodes] == [200, 200]
    assert nodes[1].sessions.offers == [("v=0", "Ana")]
    async with node(tmp_path) as later:
        assert await later.offer(issued["token"]) == 200
        assert await later.offer((await later.issue())["token"]) == 200


async def test_a_revoked_token_is_refused_at_once_by_every_node_and_after_a_restart(
    nodes: tuple[Server, Server], tmp_path: pathlib.Path
) -> None:
    first, second = nodes
    revoked, kept = await first.issue(), await second.issue()
    assert await second.offer(revoked["token"]) == 200
    assert await first.send("DELETE", f"/api/tokens/{revoked['id']}") == (204, "")
    async with node(tmp_path) as later:
        for server in (first, second, later):
            assert await server.offer(revoked["token"]) == 401
            assert await server.offer(kept["token"]) == 200
        listed = await later.listed()
    assert listed[revoked["id"]]["revoked"] and listed[kept["id"]]["revoked"] is None
    # once more changes nothing, not even the time
    assert await first.send("DELETE", f"/api/tokens/{revoked['id']}") == (204, "")
    assert await second.listed() == listed


async def test_a_token_of_others_is_revoked_by_its_id(tmp_path: pathlib.Path) -> None:
    async with node(tmp_path, secret=SECRET.encode()) as server:
        token, other = sign(jti="of others"), sign(jti="another")
        assert await server.offer(token) == 200
        assert await server.send("DELETE", "/api/tokens/of%20others") == (204, "")
        assert [await server.offer(text) for text in (token, other)] == [401, 200]
        assert (await server.listed())["of others"]["role"] is None


async def test_tokens_are_listed_by_pages_without_their_text(
    nodes: tuple[Server, Server],
) -> None:
    made = [
        await nodes[0].issue(role="watch", sub="a page"),
        await nodes[1].issue(name="Ana", room="friday", once=True, expires_s=60),
        await nodes[0].issue(role="admin"),
    ]
    listed = await nodes[1].listed()
    assert [*listed] == [token["id"] for token in reversed(made)]
    for token in made:
        assert listed[token["id"]] == {k: v for k, v in token.items() if k != "token"}
    ana = made[1]
    assert (ana["sub"], ana["name"], ana["room"], ana["once"]) == ("Ana", "Ana", "friday", True)
    times = [datetime.datetime.fromisoformat(ana[name]) for name in ("issued", "expires")]
    assert (times[1] - times[0]).total_seconds() == 60
    assert made[0]["expires"] is None
    first = (await nodes[0].send("GET", "/api/tokens?limit=2"))[1]
    second = (await nodes[0].send("GET", f"/api/tokens?limit=2&before={first['next']}"))[1]
    pages = [[token["id"] for token in page["tokens"]] for page in (first, second)]
    assert [*pages[0], *pages[1]] == [*listed]
    assert second["next"] is None


async def test_a_server_that_has_issued_nothing_makes_no_file(tmp_path: pathlib.Path) -> None:
    async with node(tmp_path) as server:
        assert await server.listed() == {}
        assert await server.offer(sign()) == 401
        assert not list(tmp_path.iterdir())
        await server.issue()
        assert [path.name for path in tmp_path.iterdir()] == [REGISTER]
        assert stat.S_IMODE((tmp_path / REGISTER).stat().st_mode) == 0o600


WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("tokens", {}, "role has to be"),
    ("tokens", {"role": 1}, "role has to be"),
    ("tokens", {"role": "owner"}, "the roles are"),
    ("tokens", {"role": "watch", "name": "Ana"}, "only a token with the role 'publish'"),
    ("tokens", {"role": "admin", "once": True}, "only a token with the role 'publish'"),
    ("tokens", {"role": "publish", "name": ""}, "must not be empty"),
    ("tokens", {"role": "publish", "name": 1}, "name has to be text"),
    ("tokens", {"role": "publish", "room": "a" * 101}, "room has to be text of at most 100"),
    ("tokens", {"role": "publish", "room": "fri\nday"}, "without control characters"),
    ("tokens", {"role": "publish", "room": "fri\u2028day"}, "without control characters"),
    ("tokens", {"role": "publish", "sub": ["a"]}, "sub has to be text"),
    ("tokens", {"role": "publish", "once": 1}, "once has to be"),
    ("tokens", {"role": "publish", "expires_s": 0}, "a token expires after"),
    ("tokens", {"role": "publish", "expires_s": 1e300}, "a token expires after"),
    ("tokens", {"role": "publish", "expires_s": True}, "expires_s has to be"),
    ("tokens", {"role": "publish", "expires_s": 10**400}, "expires_s has to be"),
    ("tokens", {"role": "publish", "expires_s": "2d"}, "expires_s has to be"),
    ("tokens", {"role": "publish", "rom": "friday"}, "there is no field 'rom'"),
    ("invitations", {"role": "admin"}, "there is no field 'role'"),
    ("invitations", {"room": 5}, "room has to be text"),
    ("invitations", {"expires_s": -1}, "a token expires after"),
]


@pytest.mark.parametrize(("what", "body", "problem"), WRONG)
async def test_what_cannot_be_issued_is_refused_with_the_reason(
    tmp_path: pathlib.Path, what: str, body: dict[str, Any], problem: str
) -> None:
    async with node(tmp_path) as server:
        status, answer = await server.send("POST", f"/api/{what}", json=body)
        assert status == 400 and problem in answer["detail"]
        check(PROBLEM, answer)
        assert await server.listed() == {}


@pytest.mark.parametrize(
    "path", ["?limit=0", "?limit=101", "?limit=x", "?limit=%C2%B2", "?before=" + 65 * "a"]
)
async def test_a_wrong_query_is_refused(tmp_path: pathlib.Path, path: str) -> None:
    async with node(tmp_path) as server:
        assert (await server.send("GET", f"/api/tokens{path}"))[0] == 400


# -- name, once ----------------------------------------------------------------------------------


async def test_a_token_for_a_name_gives_and_keeps_it(tmp_path: pathlib.Path) -> None:
    async with node(tmp_path) as server:
        token = (await server.issue(name="Ana"))["token"]
        assert [await server.offer(token, **more) for more in ({}, {"name": "Ana"})] == [200, 200]
        status, answer = await server.send("POST", "/offer", token, json=OFFER | {"name": "Bo"})
        assert (status, answer) == (403, {"error": "this token is for another name"})
        whip = [
            (await server.send("POST", f"/whip{query}", token, data="v=0", headers=SDP))[0]
            for query in ("", "?name=Ana", "?name=Bo")
        ]
        assert whip == [201, 201, 403]
        assert {name for _, name in server.sessions.offers} == {"Ana"}
        assert {caller.token for caller in server.sessions.callers} == {
            f"Ana ({next(iter(await server.listed()))})"
        }


async def test_a_token_for_a_room_opens_no_other_one(tmp_path: pathlib.Path) -> None:
    async with node(tmp_path) as server:
        token = (await server.issue(room="friday", name="Ana"))["token"]
        rooms: list[dict[str, Any]] = [{}, {"room": "friday"}, {"room": "monday"}, {"room": 5}]
        assert [await server.offer(token, **more) for more in rooms] == [200, 200, 403, 400]
        whip = [
            (await server.send("POST", f"/whip{query}", token, data="v=0", headers=SDP))[0]
            for query in ("", "?room=friday", "?room=monday&name=Ana", "?room=" + 201 * "a")
        ]
        assert whip == [201, 201, 403, 400]
        status, answer = await server.send("POST", "/offer", token, json=OFFER | {"room": "a"})
        assert (status, answer) == (403, {"error": "this token is for another room"})
        assert len(server.sessions.offers) == 4


@pytest.mark.parametrize(
    ("given", "room", "expected"),
    [("", "friday", "friday"), ("FRIDAY", "friday", "friday"), ("a", None, "a"), ("", None, "")],
)
def test_a_session_has_the_room_of_its_token(given: str, room: str | None, expected: str) -> None:
    request = make_mocked_request("POST", "/offer")
    request[GRANT] = Grant(id="1", roles=frozenset({Role.PUBLISH}), room=room)
    assert granted(request, name="", room=given) == (request[GRANT], "", expected)


async def test_a_token_gives_its_name_also_where_none_is_needed(tmp_path: pathlib.Path) -> None:
    async with node(tmp_path, needs_token=False) as server:
        token = (await server.issue(name="Ana"))["token"]
        assert [await server.offer(token), await server.offer(token, name="Bo")] == [200, 403]
        assert [await server.offer(text) for text in ("wrong", None)] == [200, 200]
        assert server.sessions.offers == [("v=0", name) for name in ("Ana", "", "")]


async def test_a_token_opens_one_session_on_all_nodes_together(
    nodes: tuple[Server, Server], tmp_path: pathlib.Path
) -> None:
    token = await nodes[0].issue(once=True)
    found = await asyncio.gather(*(
        nodes[number % 2].offer(token["token"], sdp=f"v={number}") for number in range(20)
    ))  # fmt: skip
    assert sorted(found) == [200] + [403] * 19
    assert sum(len(server.sessions.offers) for server in nodes) == 1
    assert (await nodes[1].listed())[token["id"]]["used"]
    async with node(tmp_path) as later:
        assert await later.offer(token["token"], sdp="v=20") == 403
        # the offer that has opened the session is none that this process knows
        opened = next(server.sessions.offers[0][0] for server in nodes if server.sessions.offers)
        assert await later.offer(token["token"], sdp=opened) == 403


async def test_a_used_token_resumes_by_the_secret_of_a_session(tmp_path: pathlib.Path) -> None:
    async with node(tmp_path) as server:
        token = (await server.issue(once=True))["token"]
        assert await server.offer(token) == 200
        assert await server.offer(token, sdp="v=1", resume="secret") == 200
        assert server.sessions.resumed == [None, "secret"]
        assert (await server.send("GET", "/whip", token))[0] == 204


async def test_a_session_goes_on_by_its_secret_when_its_token_has_expired(
    tmp_path: pathlib.Path,
) -> None:
    clock = FakeClock()
    async with node(tmp_path, clock=clock) as server:
        issued = await server.issue(expires_s=60)
        token = issued["token"]
        assert await server.offer(token) == 200
        clock.advance(61)
        assert await server.offer(token, sdp="v=1", resume="secret") == 200
        # it opens nothing new, neither here nor by WHIP, and nothing else
        assert await server.offer(token, sdp="v=2") == 401
        assert (await server.send("POST", "/whip", token, data="v=0", headers=SDP))[0] == 401
        assert (await server.send("GET", "/whip", token))[0] == 401
        assert (await server.send("GET", "/whip/unknown", token))[0] == 404
        assert server.sessions.offers == [("v=0", ""), ("v=1", "")]
        # but a revoked one is refused
        await server.send("DELETE", f"/api/tokens/{issued['id']}")
        assert await server.offer(token, sdp="v=3", resume="secret") == 401
        assert (await server.send("GET", "/whip/unknown", token))[0] == 401


async def test_an_answer_that_was_lost_is_given_again(tmp_path: pathlib.Path) -> None:
    clock = FakeClock()
    async with node(tmp_path, clock=clock) as server:
        token = (await server.issue(once=True))["token"]
        assert [await server.offer(token) for _ in range(3)] == [200] * 3
        clock.advance(61)
        assert await server.offer(token) == 403


async def test_an_offer_that_is_refused_uses_nothing(tmp_path: pathlib.Path) -> None:
    async with node(tmp_path) as server, node(tmp_path) as other:
        token = (await server.issue(once=True))["token"]
        assert await server.offer(token, sdp="bad") == 400
        assert await other.offer(token, sdp="v=1") == 200
        assert await server.offer(token, sdp="bad") == 403


async def test_an_offer_that_is_repeated_frees_nothing(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with node(tmp_path) as server:
        token = (await server.issue(once=True))["token"]
        assert await server.offer(token) == 200

        async def repeated(*_: Any, **__: Any) -> None:
            raise OfferRepeated("it was answered to another client")

        monkeypatch.setattr(server.sessions, "offer", repeated)
        assert await server.offer(token) == 409
        assert await server.offer(token, sdp="v=1") == 403


async def test_a_token_of_others_is_used_once_too(tmp_path: pathlib.Path) -> None:
    token = sign(once=True)
    for expected in (200, 403):
        async with node(tmp_path, secret=SECRET.encode()) as server:
            assert await server.offer(token, sdp=f"v={expected}") == expected


# -- invitations ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("proxies", "headers", "url"),
    [
        ((), {"Host": "rec.example:8443"}, "http://rec.example:8443"),
        ((), {"Host": "[2001:db8::1]:80"}, "http://[2001:db8::1]:80"),
        ((), {"Host": "a.b", "X-Forwarded-Host": "evil", "X-Forwarded-Proto": "https"}, "http://a.b"),
        (
            ("127.0.0.1",),
            {"Host": "in", "X-Forwarded-Host": "rec.example, b", "X-Forwarded-Proto": "https,http"},
            "https://rec.example",
        ),
        (("127.0.0.1",), {"Host": "in", "X-Forwarded-Proto": "https"}, "https://in"),
    ],
)  # fmt: skip
async def test_an_invitation_is_a_link_to_where_the_server_was_found(
    tmp_path: pathlib.Path, proxies: tuple[str, ...], headers: dict[str, str], url: str
) -> None:
    async with node(tmp_path, trusted_proxies=proxies) as server:
        body = {"name": "Ana", "expires_s": 60}
        status, found = await server.send("POST", "/api/invitations", json=body, headers=headers)
        assert status == 201
        check(INVITATION, found)
        assert found["url"].startswith(f"{url}/#token=")
        token = found["url"].partition("#token=")[2]
        assert await server.offer(token) == 200
        assert server.sessions.offers == [("v=0", "Ana")]
        assert (await server.send("GET", "/api/tokens", token))[0] == 403
        await server.send("DELETE", f"/api/tokens/{found['id']}")
        assert await server.offer(token) == 401


async def test_an_invitation_has_its_link_as_a_qr_code(tmp_path: pathlib.Path) -> None:
    async with node(tmp_path) as server:
        _, found = await server.send("POST", "/api/invitations", json={"name": "Ana"})
        check(INVITATION, found)
        rows = found["qr"]
        size = len(rows)
        assert {len(row) for row in rows} == {size}
        assert (size - 17) % 4 == 0
        # the patterns by which a camera finds it, in three corners and beginning at the edge
        finder = ["1111111", "1000001", "1011101", "1011101", "1011101", "1000001", "1111111"]
        assert [row[:7] for row in rows[:7]] == finder
        assert [row[-7:] for row in rows[:7]] == finder
        assert [row[:7] for row in rows[-7:]] == finder
        assert rows == [
            "".join(map(str, row)) for row in segno.make_qr(found["url"], error="l").matrix
        ]
        # the longest that there may be: each character takes four bytes
        body = {
            "name": "\U0001f399" * MAX_TEXT_CHARACTERS,
            "room": "\U0001f399" * MAX_ROOM_CHARACTERS,
        }
        headers = {"Host": "a" * 253}
        status, found = await server.send("POST", "/api/invitations", json=body, headers=headers)
        check(INVITATION, found)
        assert (status, found["qr"]) == (201, None)
        assert await server.offer(found["url"].partition("#token=")[2]) == 200


async def test_an_invitation_of_a_server_with_a_certificate_is_https(
    tmp_path: pathlib.Path,
) -> None:
    async with node(tmp_path, tls=TlsFiles(*self_signed(tmp_path))) as server:
        answer = await server.send("POST", "/api/invitations", json={}, ssl=False)
        assert answer[1]["url"].startswith(f"{server.url}/#token=")
        assert server.url.startswith("https://")


@pytest.mark.parametrize("host", ["a b", "user@host", "host/path", "<b>", "a:b", "a" * 300, "é"])
async def test_no_link_leads_to_what_is_no_host(tmp_path: pathlib.Path, host: str) -> None:
    async with node(tmp_path, trusted_proxies=("127.0.0.1",)) as server:
        headers = {"X-Forwarded-Host": host}
        answer = await server.send("POST", "/api/invitations", json={}, headers=headers)
        assert answer[0] == 400


# -- the register --------------------------------------------------------------------------------


def grant(number: int, **more: Any) -> Grant:
    return Grant(id=f"id {number}", roles=frozenset({Role.PUBLISH}), **more)


async def test_the_register_is_bounded_and_forgets_what_has_expired_long_ago(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapters.tokens.register.MAX_TOKENS", 3)
    register = FileTokens(str(tmp_path))
    for number in range(3):
        await register.add(grant(number, expires_at=100.0 + number), now=50)
    with pytest.raises(StorageFull, match="3 tokens are kept"):
        await register.add(grant(3), now=50)
    with pytest.raises(StorageFull):
        await register.revoke("of others", now=50)
    await register.revoke("id 2", now=50)
    month_s = 30 * 86_400
    await register.add(grant(3), now=101.5 + month_s)
    kept = await register.page(limit=9, before=None)
    assert [known.id for known in kept] == ["id 3", "id 2"]
    register.close()


@pytest.mark.parametrize("kind", ["damaged", "of another program", "a folder", "a link"])
async def test_a_register_that_cannot_be_read_lets_no_signed_token_in(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    path = tmp_path / REGISTER
    if kind == "damaged":
        path.write_bytes(b"junk" * 1000)
    elif kind == "of another program":
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA user_version = 9")
    elif kind == "a folder":
        path.mkdir()
    else:
        path.symlink_to(tmp_path / "elsewhere")
    async with node(tmp_path, secret=SECRET.encode()) as server:
        assert await server.offer(sign()) == 507
        status, answer = await server.send("POST", "/api/tokens", json={"role": "watch"})
        assert status == 507 and "cannot be used" in answer["detail"]
        assert str(tmp_path) not in answer["detail"] and str(tmp_path) in caplog.text
        assert caplog.text.count("cannot be used") == 1
        assert await server.offer(ADMIN) == 200
    assert not (tmp_path / "elsewhere").exists()


async def test_a_register_that_was_lost_revokes_what_it_knew(tmp_path: pathlib.Path) -> None:
    async with node(tmp_path, secret=SECRET.encode()) as server:
        token = (await server.issue())["token"]
    (tmp_path / REGISTER).unlink()
    async with node(tmp_path, secret=SECRET.encode()) as server:
        assert await server.offer(token) == 401


@pytest.mark.parametrize("is_deleted", [True, False])
async def test_what_is_revoked_is_written_to_the_file_that_is_there(
    tmp_path: pathlib.Path, is_deleted: bool
) -> None:
    """An operator has deleted the file, or put back a copy, while the server runs."""
    register, path = FileTokens(str(tmp_path)), tmp_path / REGISTER
    await register.add(grant(1), now=0)
    copy = path.read_bytes()
    await register.add(grant(2), now=0)
    path.unlink()
    if not is_deleted:
        path.write_bytes(copy)
        assert await register.find("id 2") is None
    await register.revoke("id 1", now=50)
    register.close()
    afterwards = FileTokens(str(tmp_path))
    found = await afterwards.find("id 1")
    assert found is not None and found.revoked_at == 50
    afterwards.close()


async def test_a_register_in_memory_ends_with_its_server() -> None:
    async with node(None) as server:
        token = (await server.issue(once=True))["token"]
        assert [await server.offer(token), await server.offer(token, sdp="v=1")] == [200, 403]
    async with node(None) as server:
        await server.issue()
        assert await server.offer(token) == 401


async def test_all_processes_get_one_secret(tmp_path: pathlib.Path) -> None:
    registers = [FileTokens(str(tmp_path)) for _ in range(4)]
    assert await registers[0].secret() is None
    made = await asyncio.gather(*(register.make_secret() for register in registers))
    assert len({*made}) == 1 and len(made[0]) == 32
    for register in registers:
        register.close()


async def test_a_folder_that_is_not_there_is_an_error_of_the_store(tmp_path: pathlib.Path) -> None:
    register = FileTokens(str(tmp_path / "nothing"))
    with pytest.raises(StorageFailed, match="cannot be used"):
        await register.add(grant(1), now=0)
    register.close()


async def test_expired_and_revoked_tokens_say_so_to_their_bearer() -> None:
    clock = FakeClock()
    service = token_service(clock=clock)
    publish = Grant(id="new", roles=frozenset({Role.PUBLISH}))
    first = await service.issue(publish, expires_s=60)
    second = await service.issue(publish, expires_s=None)
    await service.revoke(second.grant.id)
    clock.advance(61)
    for issued, problem in ((first, "expired"), (second, "revoked")):
        with pytest.raises(Unauthorized, match=problem):
            await service.grant_of(issued.text)
    service.close()
