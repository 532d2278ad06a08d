"""Every route declares a role, and requests without that role are refused."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import aiohttp
import pytest

from adapters.http.routes import DECLARED
from domain.session.roles import ALL_ROLES, Role, is_allowed
from tests.fakes.http import FakeRestoring, FakeSessions, http_server

PUBLISH, WATCH, ADMIN, PUBLIC = Role.PUBLISH, Role.WATCH, Role.ADMIN, None
ROLES = {  # by their methods and paths
    ("POST", "/offer"): PUBLISH,
    ("POST", "/ice-candidate"): ADMIN,
    ("DELETE", "/sessions/{id}"): ADMIN,
    ("POST", "/whip"): PUBLISH,
    ("GET", "/whip"): PUBLISH,
    ("HEAD", "/whip"): PUBLISH,
    ("PATCH", "/whip/{secret}"): PUBLISH,
    ("DELETE", "/whip/{secret}"): PUBLISH,
    ("GET", "/whip/{secret}"): PUBLISH,
    ("HEAD", "/whip/{secret}"): PUBLISH,
    ("GET", "/health"): PUBLIC,
    ("HEAD", "/health"): PUBLIC,
    ("POST", "/api/sign-in"): PUBLIC,
    ("GET", "/api/sign-in"): WATCH,
    ("HEAD", "/api/sign-in"): WATCH,
    ("DELETE", "/api/sign-in"): PUBLIC,
}
SECRET_ONLY = {
    ("GET", "/sessions/{id}/wanted"),
    ("HEAD", "/sessions/{id}/wanted"),
    ("PUT", "/sessions/{id}/sound/{start}"),
    ("POST", "/sessions/{id}/captured"),
}
TOKENS = {
    "publisher": frozenset({Role.PUBLISH}),
    "watcher": frozenset({Role.WATCH}),
    "admin": frozenset({Role.ADMIN}),
    "all": ALL_ROLES,
    "none": frozenset[Role](),
}


def test_every_route_declares_its_role() -> None:
    app = http_server(FakeSessions()).make_application()
    declared = {
        (route.method, route.resource.canonical): app[DECLARED][route].role
        for route in app.router.routes()
        if route.resource is not None
    }
    preflights = {("OPTIONS", path): PUBLIC for _, path in [*ROLES, *SECRET_ONLY]}
    assert declared == ROLES | dict.fromkeys(SECRET_ONLY) | preflights
    secret_only = {
        (route.method, route.path) for route in app[DECLARED].values() if route.secret_only
    }
    assert secret_only | {("HEAD", "/sessions/{id}/wanted")} == SECRET_ONLY
    assert len(app.router.routes()) == len(declared)


@pytest.fixture
async def url() -> AsyncIterator[str]:
    server = http_server(FakeSessions(), tokens=TOKENS)
    yield await server.start()
    await server.stop()


@pytest.mark.parametrize(("method", "path"), ROLES)
async def test_a_request_needs_the_role_of_its_route(url: str, method: str, path: str) -> None:
    needed = ROLES[method, path]
    address = url + re.sub(r"{\w+}", "ab", path)
    async with aiohttp.ClientSession() as http:
        for token, roles in TOKENS.items():
            headers = {"Authorization": f"Bearer {token}"}
            async with http.request(method, address, headers=headers) as response:
                allowed = needed is None or is_allowed(roles, needed)
                assert (response.status == 403) is not allowed, token
                assert response.status != 401
                if not allowed and method != "HEAD":
                    assert needed is not None
                    body = await response.json(content_type=None)
                    error = body["detail" if path.startswith("/api") else "error"]
                    assert error.startswith(f"this token lacks the role '{needed.value}'")
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic all"}):
            async with http.request(method, address, headers=headers) as response:
                assert (response.status == 401) is (needed is not None)


@pytest.mark.parametrize("tokens", [TOKENS, {}], ids=["with tokens", "without tokens"])
@pytest.mark.parametrize(("method", "path"), sorted(SECRET_ONLY))
async def test_only_the_secret_of_its_session_opens_what_a_client_restores(
    tokens: dict[str, frozenset[Role]], method: str, path: str
) -> None:
    restoring = FakeRestoring({"1": "secret", "2": "other"})
    server = http_server(FakeSessions(), tokens=tokens, restoring=restoring)
    address = await server.start() + path.format(id="1", start="0")
    bearers = [f"Bearer {token}" for token in ("other", "wrong", "", *TOKENS)]
    async with aiohttp.ClientSession() as http:
        for header in (*bearers, "Basic secret", None):
            headers = {} if header is None else {"Authorization": header}
            async with http.request(method, address, headers=headers) as response:
                assert response.status == 401, header
                assert response.headers["WWW-Authenticate"] == 'Bearer realm="gapless"'
        headers = {"Authorization": "Bearer secret"}
        async with http.request(method, address, headers=headers) as response:
            assert response.status not in (401, 403)
    await server.stop()


async def test_only_bearers_of_a_token_learn_which_paths_exist(url: str) -> None:
    async with aiohttp.ClientSession() as http:
        for path, status in (("/nothing", 404), ("/offer", 405)):
            async with http.put(url + path) as response:
                assert response.status == 401
            async with http.put(url + path, headers={"Authorization": "Bearer none"}) as response:
                assert response.status == status


def test_an_administrator_needs_no_other_role() -> None:
    assert all(is_allowed({Role.ADMIN}, role) for role in Role)
    assert not is_allowed({Role.PUBLISH}, Role.WATCH)
    assert not is_allowed({Role.WATCH, Role.PUBLISH}, Role.ADMIN)
    assert not is_allowed(set(), Role.PUBLISH)
