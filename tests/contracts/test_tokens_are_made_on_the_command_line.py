"""`gapless token` and `gapless invite` ask a server for tokens, and print them once."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from click.testing import CliRunner, Result

from adapters.http.api.tokens import TokenHandlers
from domain.services.server.tokens import TokenService
from domain.session.roles import ALL_ROLES, Role
from entrypoints.cli import main
from tests.fakes.http import FakeSessions, http_server, token_service

ADMIN = "the administrator's token"


@dataclass
class Command:
    url: str
    tokens: TokenService

    async def run(self, *arguments: str, token: str = ADMIN) -> Result:
        return await asyncio.to_thread(
            CliRunner().invoke, main, [*arguments, "--server", self.url, "--token", token]
        )

    async def json(self, *arguments: str) -> Any:
        result = await self.run(*arguments, "--json")
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)


@pytest.fixture
async def command() -> AsyncIterator[Command]:
    signed = token_service()
    tokens = {ADMIN: ALL_ROLES, "a watcher": frozenset({Role.WATCH})}
    server = http_server(FakeSessions(), tokens=tokens, signed=signed, more=[TokenHandlers(signed)])
    yield Command(await server.start(), signed)
    await server.stop()
    signed.close()


async def test_a_new_token_is_printed_alone(command: Command) -> None:
    result = await command.run("token", "new", "--name", "Ana", "--room", "friday", "--once")
    assert result.exit_code == 0, result.output
    grant = await command.tokens.grant_of(result.stdout.strip())
    assert grant is not None
    assert (grant.name, grant.room, grant.once, grant.roles) == (
        "Ana", "friday", True, {Role.PUBLISH},
    )  # fmt: skip
    assert result.stderr == f"publish token {grant.id}, does not expire\n"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("1.5h", 5400), ("30m", 1800), ("2d", 172_800), ("1w", 604_800)],
)  # fmt: skip
async def test_a_token_is_valid_for_as_long_as_was_said(
    command: Command, text: str, seconds: int
) -> None:
    made = await command.json("token", "new", "--role", "watch", "--sub", "a", "--expires", text)
    grant = await command.tokens.grant_of(made["token"])
    assert grant is not None and grant.roles == {Role.WATCH} and grant.subject == "a"
    assert (grant.expires_at or 0) - (grant.issued_at or 0) == seconds


@pytest.mark.parametrize(
    "text", ["", "2", "d", "2 days", "-1d", "1e3s", "inf", "²s", "9" * 20 + "s"]
)
async def test_what_is_no_duration_is_wrong_usage(command: Command, text: str) -> None:
    for words in (("token", "new"), ("invite",)):
        result = await command.run(*words, "--expires", text)
        assert result.exit_code == 2
        assert "is not a duration, such as 90s" in result.stderr


async def test_tokens_are_listed_and_revoked(command: Command) -> None:
    assert (await command.run("token", "list")).stdout == "no tokens were issued\n"
    made = [await command.json("token", "new", "--name", f"guest {n}") for n in range(102)]
    listed = await command.json("token", "list")
    assert [item["id"] for item in listed["tokens"]] == [item["id"] for item in reversed(made)]
    first, second = made[0]["id"], made[1]["id"]
    result = await command.run("token", "revoke", first, "an id of others")
    assert result.exit_code == 0
    assert result.stdout == (
        f"revoked {first}\nrevoked an id of others; the server has not issued it itself\n"
    )
    table = (await command.run("token", "list")).stdout.splitlines()
    assert table[0].split() == ["ID", "SUB", "ROLE", "NAME", "ROOM", "EXPIRES", "STATE"]
    states = {line.split()[0]: line.split()[-1] for line in table}
    assert (states[first], states[second], states["an"]) == ("revoked", "valid", "revoked")
    assert not any(item["token"] in "\n".join(table) for item in made)


async def test_a_token_that_has_expired_is_listed_as_such(command: Command) -> None:
    made = await command.json("token", "new", "--expires", "1s")
    await asyncio.sleep(2)
    (line,) = [
        line
        for line in (await command.run("token", "list")).stdout.splitlines()
        if line.startswith(made["id"])
    ]
    assert line.endswith("  expired")


async def test_names_of_tokens_control_no_terminal(command: Command) -> None:
    await command.json("token", "new", "--name", "a\x1b[31m\u202e")
    table = (await command.run("token", "list")).stdout
    assert "\x1b" not in table and "\\x1b[31m\\u202e" in table


async def test_an_invitation_is_a_link(command: Command) -> None:
    result = await command.run("invite", "--name", "Ana", "--expires", "2d")
    link = re.fullmatch(rf"{re.escape(command.url)}/#token=([\w.-]+)\n", result.stdout)
    assert link is not None
    grant = await command.tokens.grant_of(link[1])
    assert grant is not None and grant.name == "Ana"
    assert re.fullmatch(
        rf"token {grant.id}, expires \S+ [0-9:]+\nthis link works on this machine only: .+\n",
        result.stderr,
    )
    found = await command.json("invite", "--room", "friday", "--once")
    assert found.keys() == {"url", "id", "expires", "qr"}


@pytest.mark.parametrize(
    "words", [("token", "new"), ("token", "list"), ("token", "revoke", "1"), ("invite",)]
)
async def test_only_administrators_are_answered(command: Command, words: tuple[str, ...]) -> None:
    result = await command.run(*words, token="a watcher")
    assert result.exit_code == 1
    assert "403" in result.stderr and "lacks the role 'admin'" in result.stderr
    assert await command.tokens.page(limit=9, before=None) == []


async def test_a_limit_that_a_role_does_not_know_is_refused(command: Command) -> None:
    result = await command.run("token", "new", "--role", "watch", "--room", "friday")
    assert result.exit_code == 1
    assert "only a token with the role 'publish'" in result.stderr
