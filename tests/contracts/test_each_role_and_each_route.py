"""Each role against each route of the server that `gapless serve` runs.

A route without a row here fails, so that nobody adds one whose role was not thought about.
"""

from __future__ import annotations

import pathlib
import re
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

import aiohttp
import pytest
from dependency_injector import providers

from adapters.events.dispatcher import EventDispatcher
from adapters.http.routes import DECLARED
from domain.session.grants import Grant
from domain.session.roles import Role
from entrypoints.container import ServerContainer
from entrypoints.settings import ServerSettings
from tests.rigs.tokens import EC, RSA, SECRET, jwk_of, sign, sign_by_hand, unsigned, write_keys

PUBLISH, WATCH, ADMIN, PUBLIC = Role.PUBLISH, Role.WATCH, Role.ADMIN, None
ROUTES: dict[tuple[str, str], Role | None] = {
    ("POST", "/offer"): PUBLISH,
    ("POST", "/ice-candidate"): ADMIN,
    ("DELETE", "/sessions/{id}"): ADMIN,
    ("POST", "/whip"): PUBLISH,
    ("GET", "/whip"): PUBLISH,
    ("PATCH", "/whip/{secret}"): PUBLISH,
    ("DELETE", "/whip/{secret}"): PUBLISH,
    ("GET", "/whip/{secret}"): PUBLISH,
    ("GET", "/health"): PUBLIC,
    ("GET", "/"): PUBLIC,
    ("GET", "/studio"): PUBLIC,
    ("GET", "/pages/{path:.+}"): PUBLIC,
    ("GET", "/api/openapi.json"): PUBLIC,
    ("POST", "/api/sign-in"): PUBLIC,
    ("GET", "/api/sign-in"): WATCH,
    ("DELETE", "/api/sign-in"): PUBLIC,
    ("GET", "/api/recordings"): WATCH,
    ("GET", "/api/recordings/{id}"): WATCH,
    ("DELETE", "/api/recordings/{id}"): ADMIN,
    ("GET", "/api/recordings/{id}/audio"): WATCH,
    ("GET", "/api/recordings/{id}/ledger"): WATCH,
    ("GET", "/api/recordings/{id}/verdict"): WATCH,
    ("GET", "/api/recordings/{id}/peaks"): WATCH,
    ("GET", "/api/sessions"): WATCH,
    ("GET", "/api/sessions/{id}"): WATCH,
    ("DELETE", "/api/sessions/{id}"): ADMIN,
    ("POST", "/api/sessions/{id}/messages"): ADMIN,
    ("GET", "/api/sessions/{id}/pcm"): WATCH,
    ("GET", "/api/events"): WATCH,
    ("GET", "/api/alarms"): WATCH,
    ("GET", "/api/storage"): WATCH,
    ("POST", "/api/tokens"): ADMIN,
    ("GET", "/api/tokens"): ADMIN,
    ("DELETE", "/api/tokens/{id}"): ADMIN,
    ("POST", "/api/invitations"): ADMIN,
}
PUBLIC_STATUSES = {("POST", "/api/sign-in"): 415, ("DELETE", "/api/sign-in"): 204}
"""What a request without a body gets from those that do not answer 200."""
OFFERS = {("POST", "/offer"), ("POST", "/whip")}
RESUMES = OFFERS | {route for route in ROUTES if "{secret}" in route[1]}
"""Routes where the secret of a session may be in the request: a token may have expired since."""
SECRET_ONLY = {
    ("GET", "/sessions/{id}/wanted"),
    ("PUT", "/sessions/{id}/sound/{start}"),
    ("POST", "/sessions/{id}/captured"),
    ("POST", "/sessions/{id}/capture-events"),
    ("GET", "/sessions/{id}/messages"),
}
"""Routes that no token opens, but the secret of a session."""
NODES_ONLY = {
    ("GET", "/nodes/events"),
    ("POST", "/nodes/events/past"),
    ("GET", "/nodes/alarms"),
    ("GET", "/nodes/storage"),
    ("GET", "/nodes/sessions"),
}
"""Routes that the workers of a server ask of each other; for all others there is no such path."""
SHARED, ADMINISTRATORS = "the token of all clients", "the administrators' token"
FOREIGN_TEXT = "a bearer token is needed, and this one is wrong"


@dataclass
class Served:
    url: str
    http: aiohttp.ClientSession
    container: ServerContainer
    count: int = 0

    async def send(self, method: str, path: str, bearer: str | None) -> tuple[int, str]:
        """Send a request, each from an address of its own: nobody has to wait for guesses."""
        self.count += 1
        headers = {"X-Forwarded-For": f"2001:db8:{self.count:x}::1"}
        if bearer is not None:
            headers["Authorization"] = f"Bearer {bearer}"
        address = self.url + re.sub(r"{\w+}", "0", path.replace("{path:.+}", "icon.svg"))
        async with self.http.request(method, address, headers=headers) as answer:
            # what is let in may go on without an end
            return answer.status, await answer.text() if answer.status in (401, 403) else ""


@pytest.fixture
async def served(tmp_path: pathlib.Path) -> AsyncIterator[Served]:
    settings = ServerSettings(
        port=0,
        udp_port=0,
        recordings=str(tmp_path / "recordings"),
        token=SHARED,
        admin_token=ADMINISTRATORS,
        token_secret=SECRET,
        token_keys=write_keys(tmp_path / "keys.json", jwk_of(RSA), jwk_of(EC)),
        trusted_proxies=("127.0.0.1",),
    )
    container = ServerContainer(settings=settings, events=EventDispatcher(()))
    container.worker.override(providers.Object(None))
    container.store().check()
    url = await container.signaling().start()
    async with aiohttp.ClientSession() as http:
        yield Served(url, http, container)
    await container.signaling().stop()
    container.tokens().close()
    container.store().close()
    container.catalogue().close()


async def test_every_route_of_the_server_has_a_row(served: Served) -> None:
    declared = served.container.signaling().make_application()[DECLARED].values()
    found = {
        (route.method, route.path): route.role
        for route in declared
        if route.method != "OPTIONS" and not route.secret_only and not route.nodes_only
    }
    assert found == ROUTES
    assert {(route.method, route.path) for route in declared if route.secret_only} == SECRET_ONLY
    assert {(route.method, route.path) for route in declared if route.nodes_only} == NODES_ONLY


async def _issued(served: Served, *roles: Role) -> str:
    grant = Grant(id="new", roles=frozenset(roles), subject="somebody")
    return (await served.container.tokens().issue(grant, expires_s=600)).text


async def tokens(served: Served) -> dict[str, tuple[str, set[Role]]]:
    """Return tokens with the roles that they have."""
    return {
        "shared": (SHARED, {PUBLISH, WATCH}),
        "administrators": (ADMINISTRATORS, {*Role}),
        **{f"issued {role}": (await _issued(served, role), {role}) for role in Role},
        "issued two": (await _issued(served, PUBLISH, WATCH), {PUBLISH, WATCH}),
        "by HS256": (sign(role="watch"), {WATCH}),
        "by RS256": (sign(RSA, "RS256", role="watch"), {WATCH}),
        "by ES256": (sign(EC, "ES256", role=["publish"]), {PUBLISH}),
        "for one name": (sign(name="Ana"), {PUBLISH}),
    }


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_a_token_opens_the_routes_of_its_roles(
    served: Served, method: str, path: str
) -> None:
    needed = ROUTES[method, path]
    for name, (text, roles) in (await tokens(served)).items():
        status, _ = await served.send(method, path, text)
        allowed = needed is None or needed in roles or ADMIN in roles
        assert (status == 403) is not allowed, name
        assert status != 401, name


async def _bad(served: Served) -> dict[str, str | None]:
    now = int(time.time())
    revoked = await _issued(served, ADMIN)
    known = await served.container.tokens().page(limit=1, before=None)
    await served.container.tokens().revoke(known[0].id)
    admin = {"role": "admin"}
    return {
        "expired": sign(exp=now - 1, **admin),
        "revoked": revoked,
        "no token": None,
        "wrong": "a wrong token",
        "another key": sign("another secret that is as long as it", **admin),
        "alg none": unsigned(**admin),
        "no end": sign(exp=None, **admin),
        "not issued": sign(iss="gapless", **admin),
        "another service": sign(aud="mail", **admin),
        "a key in its header": sign_by_hand({"alg": "HS256", "jwk": {"kty": "oct"}}, {}, b"key"),
        "oversized": sign(x="a" * 5000, **admin),
        "malformed": "a.b.c",
        "cut off": sign(**admin)[:-1],
    }


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_what_is_no_valid_token_opens_nothing_and_looks_the_same(
    served: Served, method: str, path: str
) -> None:
    texts = {}
    for name, bearer in (await _bad(served)).items():
        status, text = await served.send(method, path, bearer)
        if ROUTES[method, path] is None:
            assert status == PUBLIC_STATUSES.get((method, path), 200), name
            continue
        if name == "expired" and (method, path) in RESUMES:
            assert status == (415 if (method, path) in OFFERS else 404)
            continue
        # these routes also take the secret of a session, which any text might be
        assert status == 401, name
        texts[name] = text
    if texts:
        assert "expired" in texts.pop("expired", "expired")
        assert "revoked" in texts.pop("revoked")
        nobody = texts.pop("no token")
        assert FOREIGN_TEXT in nobody
        assert len({*texts.values()}) == 1


@pytest.mark.parametrize(("method", "path"), [*sorted(NODES_ONLY), ("GET", "/nodes/nothing")])
async def test_what_nodes_ask_looks_to_others_as_if_it_did_not_exist(
    served: Served, method: str, path: str
) -> None:
    for name, (text, _) in (await tokens(served)).items():
        assert (await served.send(method, path, text))[0] == 404, name
    for name, bearer in (await _bad(served)).items():
        assert (await served.send(method, path, bearer))[0] == 401, name


@pytest.mark.parametrize(("method", "path"), sorted(SECRET_ONLY))
async def test_no_token_opens_what_belongs_to_a_session(
    served: Served, method: str, path: str
) -> None:
    good = {name: text for name, (text, _) in (await tokens(served)).items()}
    answers = {
        name: await served.send(method, path, bearer)
        for name, bearer in (good | await _bad(served)).items()
        if bearer is not None
    }
    assert {status for status, _ in answers.values()} == {401}
    assert len({*answers.values()}) == 1
