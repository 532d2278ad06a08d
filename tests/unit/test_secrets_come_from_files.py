"""Each secret can be in a file, whichever source of settings names it, and is shown nowhere."""

from __future__ import annotations

import logging
import os
import pathlib
from collections.abc import Mapping
from dataclasses import fields

import click
import pytest
from click.testing import CliRunner

from domain.errors import SettingInvalid
from domain.session.ice import IceServer
from entrypoints.client_settings import ClientSettings
from entrypoints.config import SECRET_FILES, resolve
from entrypoints.declaring import secrets_of
from entrypoints.options import settings_options
from entrypoints.secret_files import MAX_BYTES
from entrypoints.settings import ServerSettings

SECRET = "Zm9vYmFyYmF6cXV4Zm9vYmFyYmF6cXV5"
TURN = '[{"urls": "turn:x", "username": "u", "credential": "Zm9vYmFyYmF6cXV4Zm9vYmFyYmF6cXV5"}]'


def server(
    *,
    line: Mapping[str, object] | None = None,
    env: Mapping[str, str] | None = None,
    toml: pathlib.Path | None = None,
) -> ServerSettings:
    return resolve(
        ServerSettings,
        command_line=line or {},
        environ=env or {},
        config_file=None if toml is None else str(toml),
    )


@pytest.fixture
def secret(tmp_path: pathlib.Path) -> str:
    path = tmp_path / "secret"
    path.write_text(f"  {SECRET} \nwhat else is there\n")
    return str(path)


def test_every_source_may_name_a_file(tmp_path: pathlib.Path, secret: str) -> None:
    toml = tmp_path / "gapless.toml"
    toml.write_text(f'token_file = "{secret}"')
    for given in (
        server(line={"token_file": secret}),
        server(env={"GAPLESS_TOKEN_FILE": secret}),
        server(toml=toml),
    ):
        assert given.token == SECRET


@pytest.mark.parametrize("name", sorted({*secrets_of(ServerSettings), *secrets_of(ClientSettings)}))
def test_every_secret_has_an_option_for_a_file_and_is_in_no_repr(
    name: str, tmp_path: pathlib.Path
) -> None:
    kind = ServerSettings if name in secrets_of(ServerSettings) else ClientSettings
    path = tmp_path / "file"
    path.write_text(TURN if name == "ice_servers" else SECRET)
    given: list[object] = []

    @click.command()
    @settings_options(kind)
    def command(settings: object) -> None:
        given.append(settings)

    environ = {key: None for key in os.environ if key.startswith("GAPLESS_")}
    arguments = [f"--{name.replace('_', '-')}-file", str(path)]
    others = {"admin_token": ["--token", "of the clients"]}.get(name, [])
    CliRunner(env=environ).invoke(command, [*arguments, *others], catch_exceptions=False)
    (settings,) = given
    value = getattr(settings, name)
    if name == "ice_servers":
        assert value == (IceServer("turn:x", "u", SECRET),)
    else:
        assert value == SECRET
    assert SECRET not in repr(settings)
    assert SECRET not in str(settings)


def test_a_stronger_source_wins_whichever_way_it_gives_a_secret(
    tmp_path: pathlib.Path, secret: str
) -> None:
    other = tmp_path / "other"
    other.write_text("another")
    assert server(env={"GAPLESS_TOKEN": "x"}, line={"token_file": secret}).token == SECRET
    assert server(env={"GAPLESS_TOKEN_FILE": secret}, line={"token": "x"}).token == "x"
    assert server(env={"GAPLESS_TOKEN_FILE": "/no"}, line={"token_file": secret}).token == SECRET


def test_a_secret_and_its_file_in_one_source_are_refused(
    tmp_path: pathlib.Path, secret: str
) -> None:
    toml = tmp_path / "gapless.toml"
    toml.write_text(f'token = "a"\ntoken_file = "{secret}"')
    for given in (
        {"line": {"token": "a", "token_file": secret}},
        {"env": {"GAPLESS_TOKEN": "a", "GAPLESS_TOKEN_FILE": secret}},
        {"toml": toml},
    ):
        with pytest.raises(SettingInvalid, match="token: token and token_file are both given"):
            server(**given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "the first line of {path} is empty"),
        (b" \nsecond\n", "the first line of {path} is empty"),
        (b"x" * (MAX_BYTES + 1), f"cannot read {{path}}: it has more than {MAX_BYTES} bytes"),
        (b"\xff\xfe", "cannot read {path}: it is not text in UTF-8"),
        (None, "cannot read {path}: No such file or directory"),
    ],
)
def test_a_file_without_a_secret_is_named(
    tmp_path: pathlib.Path, content: bytes | None, problem: str
) -> None:
    path = tmp_path / "file"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SettingInvalid) as caught:
        server(env={"GAPLESS_TOKEN_FILE": str(path)})
    said = problem.format(path=path)
    assert str(caught.value) == f"token: {said} (from GAPLESS_TOKEN_FILE)"


def test_only_a_file_is_read(tmp_path: pathlib.Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path, kind in ((pipe, "a named pipe"), (tmp_path, "a folder"), ("/dev/zero", "a device")):
        with pytest.raises(SettingInvalid, match=f"it is {kind}, not a file"):
            server(line={"token_file": str(path)})


def test_a_link_is_followed(tmp_path: pathlib.Path, secret: str) -> None:
    (tmp_path / "link").symlink_to(secret)
    assert server(line={"token_file": str(tmp_path / "link")}).token == SECRET


def test_a_weak_secret_is_blamed_on_the_file(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "weak"
    path.write_text("weak-one")
    with pytest.raises(SettingInvalid, match="needs at least 16") as caught:
        server(line={"host": "0.0.0.0", "token_file": str(path)})
    assert str(caught.value).endswith(" (from --token-file)")
    assert "weak-one" not in str(caught.value)


def test_what_is_not_read_is_not_opened() -> None:
    """One TOML file serves both commands; a client need not be able to read the server's files."""
    settings = resolve(
        ClientSettings,
        command_line={},
        environ={"GAPLESS_ADMIN_TOKEN_FILE": "/no/such"},
        config_file=None,
    )
    assert settings.token is None


def test_a_secret_on_the_command_line_is_warned_of_once(
    caplog: pytest.LogCaptureFixture, secret: str
) -> None:
    caplog.set_level(logging.WARNING)
    server(line={"token": SECRET, "admin_token": "other"})
    (record,) = caplog.records
    said = record.getMessage()
    assert "--token and --admin-token" in said
    assert "GAPLESS_TOKEN in the environment or --token-file FILE" in said
    assert SECRET not in said
    caplog.clear()
    server(line={"token_file": secret, "ice_servers": "stun:x"}, env={"GAPLESS_TURN_SECRET": "y"})
    assert caplog.records == []
    server(line={"ice_servers": TURN})
    assert "--ice-servers" in caplog.text


def test_a_wrong_list_of_servers_shows_no_credential(tmp_path: pathlib.Path) -> None:
    toml = tmp_path / "gapless.toml"
    toml.write_text(f'ice_servers = {{urls = "turn:x", username = "u", credential = "{SECRET}"}}')
    with pytest.raises(SettingInvalid, match="dict is not a list of servers") as caught:
        server(toml=toml)
    assert SECRET not in str(caught.value)


def test_no_setting_has_the_name_of_a_file_with_a_secret() -> None:
    names = {item.name for kind in (ServerSettings, ClientSettings) for item in fields(kind)}
    assert not names & SECRET_FILES.keys()
