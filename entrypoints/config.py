"""Reads settings: the command line overrides the environment, then the TOML file, then defaults.

Every value is parsed here, whatever its source. An error names the setting and the source of its
value. Each of these sources may name a file that holds a secret, instead of the secret.
"""

from __future__ import annotations

import json
import logging
import math
import pathlib
import tomllib
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar

from domain.errors import SettingInvalid
from domain.session.ice import IceServer
from entrypoints.client_settings import ClientSettings
from entrypoints.declaring import OptionalFolder, file_setting, secrets_of
from entrypoints.secret_files import read_secret
from entrypoints.settings import ServerSettings

ENVIRONMENT_PREFIX = "GAPLESS_"
CONFIG_VARIABLE = "GAPLESS_CONFIG"

_NO = ("0", "false", "no", "off")

S = TypeVar("S", ServerSettings, ClientSettings)

SECRET_FILES = {
    file_setting(name): name
    for kind in (ServerSettings, ClientSettings)
    for name in secrets_of(kind)
}
"""The settings that name a file with a secret, and which secret that is."""
KNOWN = SECRET_FILES.keys() | {
    item.name for kind in (ServerSettings, ClientSettings) for item in fields(kind)
}
"""Names of all settings of both commands: one file may hold the settings of both."""
_log = logging.getLogger("gapless")


@dataclass(frozen=True, slots=True)
class _Given:
    value: Any = field(repr=False)
    origin: str
    is_file: bool = False
    """Whether the value is the path of a file with a secret."""


def resolve(
    kind: type[S],
    *,
    command_line: Mapping[str, Any],
    environ: Mapping[str, str],
    config_file: str | None,
) -> S:
    """Collect the settings of one command.

    `command_line` maps names to values; None for options that were not given. Raises
    `SettingInvalid`.
    """
    given: dict[str, _Given] = {}
    path = config_file or environ.get(CONFIG_VARIABLE)
    if path is not None:
        given |= _by_setting(_from_file(path))
    given |= _by_setting(_from_environment(environ))
    shown = _by_setting(
        {
            name: _Given(value, _flag(name))
            for name, value in command_line.items()
            if value is not None
        }
    )
    given |= shown
    hints = typing.get_type_hints(kind)
    own = {item.name for item in fields(kind)}
    values = {name: _read(name, entry, hints[name]) for name, entry in given.items() if name in own}
    try:
        settings = kind(**values)
    except SettingInvalid as error:
        origin = given[error.name].origin if error.name in given else None
        raise SettingInvalid(error.name, error.problem, origin=origin) from None
    _warn_of_shown(
        name for name in secrets_of(kind)
        if name in shown and not shown[name].is_file and _is_secret(values[name])
    )  # fmt: skip
    return settings


def given_type(hint: Any) -> Any:
    """Return the type of a setting that is given: X for X | None."""
    if isinstance(hint, types.UnionType):
        return next(option for option in typing.get_args(hint) if option is not types.NoneType)
    return hint


def _from_file(path: str) -> dict[str, _Given]:
    try:
        table = tomllib.loads(pathlib.Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingInvalid("config", f"cannot read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingInvalid("config", f"{path} is not valid TOML: {error}") from error
    for name in table:
        if name not in KNOWN:
            raise SettingInvalid(name, "there is no such setting", origin=path)
    return {name: _Given(value, path) for name, value in table.items()}


def _from_environment(environ: Mapping[str, str]) -> dict[str, _Given]:
    given: dict[str, _Given] = {}
    for key, value in environ.items():
        if not key.startswith(ENVIRONMENT_PREFIX) or key == CONFIG_VARIABLE:
            continue
        name = key.removeprefix(ENVIRONMENT_PREFIX).lower()
        if name not in KNOWN:
            raise SettingInvalid(name, "there is no such setting", origin=key)
        given[name] = _Given(value, key)
    return given


def _by_setting(source: Mapping[str, _Given]) -> dict[str, _Given]:
    """Return what one source gives, by the settings that it is for.

    Raises `SettingInvalid` if it gives a secret and also a file with it.
    """
    found: dict[str, _Given] = {}
    for name, entry in source.items():
        setting = SECRET_FILES.get(name, name)
        if setting in found:
            problem = f"{setting} and {file_setting(setting)} are both given; leave one of them out"
            raise SettingInvalid(setting, problem, origin=entry.origin)
        found[setting] = replace(entry, is_file=name in SECRET_FILES)
    return found


def _warn_of_shown(names: Iterable[str]) -> None:
    """Say that others can read secrets, if some were given on the command line."""
    if listed := list(names):
        _log.warning(
            "other users of this machine can read %s in the list of processes; use %s in the "
            "environment or %s FILE instead",
            " and ".join(map(_flag, listed)),
            f"{ENVIRONMENT_PREFIX}{listed[0].upper()}",
            _flag(file_setting(listed[0])),
        )


def _is_secret(value: Any) -> bool:
    """Return whether the value of a secret setting holds a secret: not all ICE servers have one."""
    if isinstance(value, tuple):
        return any(isinstance(item, IceServer) and item.credential for item in value)
    return True


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _read(name: str, entry: _Given, hint: Any) -> Any:
    """Convert a value to the type of its setting."""
    try:
        if entry.is_file:
            entry = replace(entry, value=read_secret(_text(entry.value)))
        return _READERS[given_type(hint)](entry.value)
    except SettingInvalid as error:
        raise SettingInvalid(name, error.problem, origin=entry.origin) from None
    except (ValueError, TypeError) as error:
        raise SettingInvalid(name, str(error), origin=entry.origin) from None


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(
            f"{type(value).__name__} is not text"
        )  # do not show the value: it may be a secret
    return value


def _whole_number(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise TypeError(f"{value!r} is not a whole number")
    try:
        return int(value)
    except ValueError:
        raise ValueError(f"{value!r} is not a whole number") from None


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise TypeError(f"{value!r} is not a number")
    try:
        number = float(value)
    except ValueError:
        raise ValueError(f"{value!r} is not a number") from None
    if not math.isfinite(number):
        raise ValueError(f"{value!r} is not a number")
    return number


def _truth(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    word = str(value).lower()
    if word in ("1", "true", "yes", "on"):
        return True
    if word in _NO:
        return False
    raise ValueError(f"{value!r} is neither true nor false")


def _optional_folder(value: Any) -> OptionalFolder | None:
    """Read the path of a folder, or a word that says that there is none."""
    if value is False or (isinstance(value, str) and value.lower() in _NO):
        return None
    if not _text(value):
        raise ValueError("is empty")
    return OptionalFolder(value)


def _words(value: Any) -> tuple[str, ...]:
    """Read words separated by commas, or a list of them."""
    items = value.split(",") if isinstance(value, str) else value
    if not isinstance(items, list | tuple):
        raise TypeError(f"{value!r} is not a list of words")
    return tuple(word for item in items if (word := _text(item).strip()))


def _ice_servers(value: Any) -> tuple[IceServer, ...]:
    """Read URLs separated by commas, or RTCIceServer objects (as JSON in text)."""
    if isinstance(value, str):
        text = value.strip()
        value = json.loads(text) if text.startswith("[") else text.split(",")
    if not isinstance(value, list | tuple):
        raise TypeError(f"{type(value).__name__} is not a list of servers")  # do not show secrets
    return tuple(server for item in value for server in _ice_server(item))


def _ice_server(item: Any) -> list[IceServer]:
    if isinstance(item, str):
        return [IceServer(item.strip())] if item.strip() else []
    if not isinstance(item, dict) or not item.keys() <= {"urls", "username", "credential"}:
        raise TypeError("a server has urls, optionally username and credential, and nothing else")
    username, credential = item.get("username"), item.get("credential")
    if not all(isinstance(value, str | None) for value in (username, credential)):
        raise TypeError("username and credential have to be text")  # do not show them
    urls = item.get("urls", [])
    return [
        IceServer(_text(url), username, credential)
        for url in ([urls] if isinstance(urls, str) else urls)
    ]


_READERS: dict[Any, Callable[[Any], Any]] = {
    str: _text,
    int: _whole_number,
    float: _number,
    bool: _truth,
    tuple[IceServer, ...]: _ice_servers,
    tuple[str, ...]: _words,
    OptionalFolder: _optional_folder,
}
