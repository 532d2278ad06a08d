"""Command line overrides environment, file and defaults; an error names setting and source."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

import click
import pytest

from domain.errors import SettingInvalid
from domain.session.ice import IceServer
from entrypoints.client_settings import USERS_STATE, ClientSettings
from entrypoints.config import resolve
from entrypoints.declaring import OptionalFolder
from entrypoints.options import settings_options
from entrypoints.settings import ServerSettings
from entrypoints.spooling import spool_folder

STRONG = "Zm9vYmFyYmF6cXV4"  # as short as it may be


def server(
    *, line: dict[str, object] | None = None, env: dict[str, str] | None = None,
    file: pathlib.Path | None = None,
) -> ServerSettings:  # fmt: skip
    return resolve(
        ServerSettings,
        command_line=line or {},
        environ=env or {},
        config_file=str(file) if file else None,
    )


@pytest.fixture
def file(tmp_path: pathlib.Path) -> pathlib.Path:
    path = tmp_path / "gapless.toml"
    path.write_text('port = 1\nrecordings = "from-file"\ncapture = "tone"\n')
    return path


def test_defaults_are_those_of_the_interface() -> None:
    settings = server()
    assert (settings.host, settings.port, settings.storage) == ("127.0.0.1", 8080, "wav")
    assert settings.inactivity_timeout_s == 30
    assert settings.ice_servers == ()


def test_each_source_wins_over_the_one_below(file: pathlib.Path) -> None:
    assert server(file=file).port == 1
    assert server(file=file, env={"GAPLESS_PORT": "2"}).port == 2
    assert server(file=file, env={"GAPLESS_PORT": "2"}, line={"port": "3"}).port == 3
    assert server(file=file, env={"GAPLESS_PORT": "2"}).recordings == "from-file"
    assert server(env={"GAPLESS_CONFIG": str(file)}).port == 1
    assert server(env={"GAPLESS_INACTIVITY_TIMEOUT_S": "2.5"}).inactivity_timeout_s == 2.5


@pytest.mark.parametrize(
    ("line", "env", "text", "message"),
    [
        ({"port": "x"}, {}, "", "port: 'x' is not a whole number (from --port)"),
        ({"port": "70000"}, {}, "", "port: 70000 is not between 0 and 65535 (from --port)"),
        ({}, {"GAPLESS_PORT": "-1"}, "", "port: -1 is not between 0 and 65535 (from GAPLESS_PORT)"),
        (
            {},
            {"GAPLESS_STORAGE": "tape"},
            "",
            "storage: 'tape' is not one of wav, opus, memory (from G",
        ),
        ({}, {"GAPLESS_PROT": "1"}, "", "prot: there is no such setting (from GAPLESS_PROT)"),
        ({}, {}, 'port = "x"', "port: 'x' is not a whole number (from {file})"),
        ({}, {}, "port = true", "port: True is not a whole number (from {file})"),
        ({}, {}, "prot = 1", "prot: there is no such setting (from {file})"),
        ({}, {}, "port 1", "config: {file} is not valid TOML"),
        ({"inactivity_timeout_s": "nan"}, {}, "", "inactivity_timeout_s: 'nan' is not a number"),
        ({"inactivity_timeout_s": "0"}, {}, "", "0 is not between 0.5 and 86400"),
        ({"ice_servers": "http://x"}, {}, "", "ice_servers: 'http://x' is not a stun: or turn:"),
        ({"ice_servers": "turn:x"}, {}, "", "ice_servers: turn:x needs a username"),
        ({}, {}, "token = 1234", "token: int is not text (from {file})"),
        (
            {"ice_servers": '[{"urls": "turn:x", "username": "u", "credential": 5}]'},
            {},
            "",
            "ice_servers: username and credential have to be text",
        ),
        ({"tls_cert": "a"}, {}, "", "tls_key: tls_cert and tls_key go together"),
        ({"host": "0.0.0.0"}, {}, "", "token: 0.0.0.0 can be reached from other machines"),
    ],
)
def test_a_wrong_setting_is_named_with_its_source(
    tmp_path: pathlib.Path, line: dict[str, object], env: dict[str, str], text: str, message: str
) -> None:
    path = tmp_path / "gapless.toml"
    path.write_text(text)
    with pytest.raises(SettingInvalid) as caught:
        server(line=line, env=env, file=path)
    assert message.format(file=path) in str(caught.value)


def test_error_messages_contain_no_secrets() -> None:
    servers = '[{"urls": "turn:x", "credential": "S3CRET", "credentialType": "password"}]'
    with pytest.raises(SettingInvalid) as caught:
        server(line={"ice_servers": servers})
    assert "S3CRET" not in str(caught.value)


def test_pages_are_named_by_their_origins() -> None:
    given = "https://studio.example, http://localhost:3000,https://[::1]:8443"
    assert server(line={"cors_origins": given}).cors_origins == (
        "https://studio.example", "http://localhost:3000", "https://[::1]:8443",
    )  # fmt: skip
    assert server().cors_origins == ()
    for wrong in ("*", "null", "studio.example", "https://a/", "https://A.example", "https://a b"):
        with pytest.raises(SettingInvalid, match="cors_origins: .* is not an origin"):
            server(line={"cors_origins": wrong})


def test_a_missing_file_is_named() -> None:
    with pytest.raises(SettingInvalid, match="cannot read /no/where.toml"):
        server(file=pathlib.Path("/no/where.toml"))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.9", "::1", "localhost"])
def test_loopback_needs_no_token(host: str) -> None:
    assert server(line={"host": host}).token is None


def test_beyond_loopback_a_token_or_an_explicit_option_is_needed() -> None:
    assert server(line={"host": "0.0.0.0", "token": STRONG}).token == STRONG
    assert server(line={"host": "0.0.0.0", "allow_anyone": True}).allow_anyone


@pytest.mark.parametrize("weak", ["s", STRONG[:15], "a" * 100, "abcdefg" * 5])
def test_beyond_loopback_a_token_cannot_be_guessed(weak: str, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "gapless.toml"
    sources: list[Any] = [
        ("--token", {"line": {"host": "0.0.0.0", "token": weak}}),
        ("--admin-token", {"line": {"host": "::", "token": STRONG, "admin_token": weak}}),
        ("GAPLESS_TOKEN", {"line": {"host": "0.0.0.0"}, "env": {"GAPLESS_TOKEN": weak}}),
        (str(path), {"line": {"host": "0.0.0.0", "allow_anyone": True}, "file": path}),
    ]
    path.write_text(f'token = "{weak}"')
    for source, given in sources:
        with pytest.raises(SettingInvalid, match=r"token: .* needs at least 16") as caught:
            server(**given)
        assert "secrets.token_urlsafe()" in str(caught.value)
        assert f"(from {source})" in str(caught.value)
        assert weak == "s" or weak not in str(caught.value)
    assert server(line={"token": weak, "admin_token": "x"}).token == weak  # loopback


@pytest.mark.parametrize("weak", ["", "s", STRONG[:31], "a" * 100, "abcdefg" * 9])
def test_a_secret_that_signs_tokens_is_long_everywhere(weak: str) -> None:
    for given in ({"line": {"token_secret": weak}}, {"env": {"GAPLESS_TOKEN_SECRET": weak}}):
        with pytest.raises(SettingInvalid, match="at least 32 characters") as caught:
            server(**given)  # type: ignore[arg-type]
        assert len(weak) < 2 or weak not in str(caught.value)
    strong = STRONG * 2
    assert server(line={"token_secret": strong}).token_secret == strong
    assert strong not in repr(server(line={"token_secret": strong}))


@pytest.mark.parametrize("name", ["token", "token_secret", "token_keys"])
def test_each_kind_of_token_is_enough_beyond_loopback(name: str) -> None:
    assert server(line={"host": "0.0.0.0", name: STRONG * 2}).needs_token
    assert not server().needs_token


def test_ice_servers_come_as_text_as_json_and_as_tables(tmp_path: pathlib.Path) -> None:
    stun = IceServer("stun:a:3478")
    turn = IceServer("turn:b", "u", "c")
    json = '[{"urls": ["stun:a:3478"]}, {"urls": "turn:b", "username": "u", "credential": "c"}]'
    path = tmp_path / "gapless.toml"
    path.write_text(
        'ice_servers = ["stun:a:3478", {urls = "turn:b", username = "u", credential = "c"}]'
    )
    assert server(env={"GAPLESS_ICE_SERVERS": "stun:a:3478"}).ice_servers == (stun,)
    assert server(env={"GAPLESS_ICE_SERVERS": json}).ice_servers == (stun, turn)
    assert server(file=path).ice_servers == (stun, turn)


def test_a_file_to_stream_has_to_be_named() -> None:
    with pytest.raises(SettingInvalid, match=r"input: --capture file needs"):
        resolve(ClientSettings, command_line={"capture": "file"}, environ={}, config_file=None)


def test_switches_are_read_as_words() -> None:
    for word, value in [("no", False), ("1", True), ("TRUE", True)]:
        settings = resolve(
            ClientSettings, command_line={}, environ={"GAPLESS_FEC": word}, config_file=None
        )
        assert settings.fec is value


def client(
    *, line: dict[str, object] | None = None, env: dict[str, str] | None = None,
    file: pathlib.Path | None = None,
) -> ClientSettings:  # fmt: skip
    return resolve(
        ClientSettings,
        command_line=line or {},
        environ=env or {},
        config_file=str(file) if file else None,
    )


def test_a_spool_has_a_folder_by_default_and_may_have_another_or_none(
    tmp_path: pathlib.Path,
) -> None:
    assert client().spool == USERS_STATE
    assert client(line={"spool": "/stick"}).spool == "/stick"
    assert client(line={"spool": False}).spool is None
    assert client(env={"GAPLESS_SPOOL": "/stick"}).spool == "/stick"
    assert client(env={"GAPLESS_SPOOL": "off"}).spool is None
    path = tmp_path / "gapless.toml"
    path.write_text("spool = false")
    assert client(file=path).spool is None
    assert client(file=path, line={"spool": "/stick"}).spool == "/stick"
    path.write_text("spool = 1")
    with pytest.raises(SettingInvalid, match="spool: int is not text"):
        client(file=path)
    with pytest.raises(SettingInvalid, match="spool: is empty"):
        client(env={"GAPLESS_SPOOL": ""})


def test_the_option_for_no_spool_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[ClientSettings] = []

    @click.command()
    @settings_options(ClientSettings)
    def command(settings: ClientSettings) -> None:
        given.append(settings)

    monkeypatch.delenv("GAPLESS_SPOOL", raising=False)
    for arguments in ([], ["--spool", "a"], ["--no-spool"], ["--spool", "a", "--no-spool"]):
        command.main(arguments, standalone_mode=False)
    assert [settings.spool for settings in given] == [USERS_STATE, "a", None, None]


@pytest.mark.parametrize(
    ("spool", "environ", "folder"),
    [
        (USERS_STATE, {"XDG_STATE_HOME": "/state"}, "/state/gapless/spool"),
        (USERS_STATE, {"HOME": "/home/me"}, "/home/me/.local/state/gapless/spool"),
        (USERS_STATE, {"HOME": "/me", "XDG_STATE_HOME": "no"}, "/me/.local/state/gapless/spool"),
        ("~/spool", {"HOME": "/home/me"}, "/home/me/spool"),
        ("spool", {}, "spool"),
    ],
)
def test_the_folder_of_spools_is_that_of_the_user(
    monkeypatch: pytest.MonkeyPatch, spool: str, environ: dict[str, str], folder: str
) -> None:
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert spool_folder(ClientSettings(spool=OptionalFolder(spool))) == folder


def test_the_link_of_an_invitation_is_a_server_and_a_token() -> None:
    settings = ClientSettings(server="https://recorder.example.org/#token=abc.def-_")
    assert (settings.server, settings.token) == ("https://recorder.example.org/", "abc.def-_")
    assert "abc" not in repr(settings)
    assert dataclasses.replace(settings, name="Ana").token == "abc.def-_"


@pytest.mark.parametrize(
    ("server", "token"),
    [("https://a/", None), ("https://a/#token=one", "one"), ("https://a", "one")],
)
def test_a_token_beside_a_link_has_to_be_the_same(server: str, token: str | None) -> None:
    assert ClientSettings(server=server, token=token).token == token


@pytest.mark.parametrize("fragment", ["x", "token=", "token=a&token=b", "other=a"])
def test_a_link_needs_its_token(fragment: str) -> None:
    with pytest.raises(SettingInvalid, match="no token behind the #"):
        ClientSettings(server=f"https://recorder.example.org/#{fragment}")
    with pytest.raises(SettingInvalid, match="--token is another one"):
        ClientSettings(server="https://recorder.example.org/#token=one", token="two")
