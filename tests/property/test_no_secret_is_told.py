"""Whatever is done with tokens: their text and the server's secret are told to nobody else."""

from __future__ import annotations

import asyncio
import contextlib
import io
import logging
import pathlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.events.audit import AuditLog
from adapters.http.api.tokens import TokenHandlers
from domain.events import Event
from domain.events.server import SessionOpened
from domain.services.server.tokens import Issued
from domain.session.caller import UNKNOWN, Caller
from domain.session.grants import Grant
from domain.session.roles import ALL_ROLES, Role, Token
from entrypoints.server_view import ServerView
from entrypoints.settings import ServerSettings
from tests.fakes.http import Accepted, FakeSessions, http_server, token_service
from tests.rigs.tokens import SECRET, sign

ADMIN = "admin"  # the fake server calls it by its text
ROUTES = [
    ("GET", "/whip"), ("POST", "/whip"), ("POST", "/offer"), ("POST", "/ice-candidate"),
    ("DELETE", "/sessions/a"), ("DELETE", "/whip/a"), ("GET", "/sessions/a/wanted"),
    ("GET", "/health"), ("GET", "/api/tokens"), ("POST", "/api/tokens"), ("PUT", "/nothing"),
    ("DELETE", "/api/tokens/{id}"), ("POST", "/api/invitations"),
]  # fmt: skip
texts = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=20)
bodies = st.fixed_dictionaries(
    {"sdp": st.sampled_from(["v=0", "v=0", "bad", "fails"]), "type": st.just("offer")},
    optional={
        "role": st.sampled_from(["publish", "watch", "admin", "owner"]),
        "sub": texts,
        "name": texts,
        "room": texts,
        "once": st.booleans(),
        "expires_s": st.sampled_from([0.001, 60, 1e6]),
    },
)
spoiled = st.sampled_from(
    ["as it is", "as it is", "as it is", "cut", "other key", "lower", "in the scheme"]
)
steps = st.lists(
    st.tuples(st.sampled_from(ROUTES), bodies, st.integers(0, 9), spoiled), min_size=8, max_size=20
)


@dataclass
class Told:
    """Keeps all that is told of what happens."""

    audit: AuditLog
    view: ServerView = field(default_factory=ServerView)
    lines: list[str] = field(default_factory=list)

    def publish(self, event: Event) -> None:
        self.lines.append(repr(event))
        self.audit.handle(event)
        self.view.handle(event)


class Sessions(FakeSessions):
    """Publishes who opens a session, and may fail for a reason of its own."""

    def __init__(self, told: Told) -> None:
        super().__init__()
        self.told = told

    async def offer(self, sdp: str, **more: Any) -> Accepted:
        if sdp == "fails":
            raise RuntimeError("there is a fault in the program")
        accepted = await super().offer(sdp, **more)
        caller: Caller = more.get("caller", UNKNOWN)
        self.told.publish(SessionOpened("a", more["name"], caller))
        return accepted


@contextlib.contextmanager
def logged() -> Iterator[io.StringIO]:
    """Collect all that is logged, whatever its level, and what is printed."""
    found = io.StringIO()
    handler = logging.StreamHandler(found)
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        with contextlib.redirect_stdout(found), contextlib.redirect_stderr(found):
            yield found
    finally:
        root.removeHandler(handler)
        root.setLevel(level)


async def play(found: list[Any], folder: pathlib.Path, told: Told) -> tuple[set[str], list[str]]:
    """Send the requests; return all tokens, and what was said to others than their bearers."""
    service = token_service(str(folder), secret=SECRET.encode())
    server = http_server(
        Sessions(told), tokens={ADMIN: ALL_ROLES}, signed=service, more=[TokenHandlers(service)],
        events=told,
    )  # fmt: skip
    url = await server.start()
    tokens, ids, said = [ADMIN], ["unknown"], list[str]()
    used: set[str] = set()
    for role in Role:
        issued = await service.issue(Grant(id="new", roles=frozenset({role})), expires_s=None)
        tokens += [issued.text, sign(role=role.value)]
        ids.append(issued.grant.id)
    async with aiohttp.ClientSession() as http:
        for (method, path), body, number, way in found:
            bearer = tokens[number % len(tokens)]
            scheme = "Bearer"
            if way == "cut":
                bearer = bearer[:-1]
            elif way == "other key":
                bearer = sign("another secret that is as long as it", jti=str(number))
            elif way == "in the scheme":
                scheme = bearer
            header = f"{scheme} {bearer}"
            address = url + path.format(id=ids[number % len(ids)])
            headers = {"Authorization": header.lower() if way == "lower" else header}
            if path.startswith("/api"):
                body = {name: value for name, value in body.items() if name not in ("sdp", "type")}
            request: dict[str, Any] = {"json": body} if method == "POST" else {}
            if path == "/whip" and method == "POST":
                request = {"data": body["sdp"]}
                headers["Content-Type"] = "application/sdp"
            async with http.request(method, address, headers=headers, **request) as answer:
                content = await answer.text()
                used.add(bearer)
                if answer.status == 201 and path.startswith("/api"):
                    made = await answer.json()
                    ids.append(made["id"])
                    text = made.get("token") or made["url"].partition("/#token=")[2]
                    assert content.count(text) == 1
                    tokens.append(text)
                    content = content.replace(text, "")
                said += [content, *map(repr, answer.headers.items())]
    said += [repr(known) for known in await service.page(limit=100, before=None)]
    await server.stop()
    service.close()
    return {*tokens} | used, said


@settings(max_examples=20, deadline=None)
@given(found=steps)
def test_no_token_and_no_secret_is_in_what_is_logged_told_kept_or_answered(
    found: list[Any],
) -> None:
    with tempfile.TemporaryDirectory() as name, logged() as log:
        folder = pathlib.Path(name)
        audit = AuditLog(str(folder / "audit"))
        told = Told(audit)
        tokens, said = asyncio.run(play(found, folder, told), debug=False)
        audit.close()
        kept = [path.read_bytes() for path in folder.iterdir()]
    everything = "\n".join([log.getvalue(), *told.lines, *said])
    # a signature is enough to recognize a token, and no text is part of an id
    for secret in (SECRET, *tokens, *(token.rpartition(".")[2] for token in tokens)):
        if len(secret) < 16:  # no token, but what was left of one
            continue
        for spelling in (secret, secret.lower()):
            assert spelling not in everything
            assert not any(spelling.encode() in content for content in kept)


@given(secret=st.text("abcdefghijklmnop0123456789", min_size=32, max_size=64))
def test_no_repr_has_a_secret(secret: str) -> None:
    try:
        made = repr(ServerSettings(token=secret, token_secret=secret, turn_secret=secret))
    except Exception as error:
        made = f"{error!r} {error}"  # a secret that is too simple
    grant = Grant(id="1", roles=ALL_ROLES)
    service = token_service(secret=secret.encode())
    shown = [made, repr(Issued(grant, secret)), repr(Token("token", secret, ALL_ROLES))]
    assert not any(
        secret in text for text in [*shown, repr(service), repr(vars(service)["_signer"])]
    )
