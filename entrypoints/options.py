"""Makes the command-line options from the settings."""

from __future__ import annotations

import dataclasses
import inspect
import os
import typing
from collections.abc import Callable, Collection
from typing import Any, Concatenate, TypeVar

import click

from entrypoints.client_settings import ClientSettings
from entrypoints.config import given_type, resolve
from entrypoints.declaring import OptionalFolder, file_setting
from entrypoints.settings import ServerSettings

_NOT = "no_"
"""Begins the name of an option that says that there is none of something."""

F = TypeVar("F", bound=Callable[..., Any])
S = TypeVar("S", ServerSettings, ClientSettings)


def settings_options(
    kind: type[S], *, only: Collection[str] | None = None
) -> Callable[[Callable[Concatenate[S, ...], None]], Callable[..., None]]:
    """Add the settings of `kind` (or `only` some) as options; pass all settings to the command.

    The further parameters of the command are options of its own, which `click.option` adds above.
    """

    def decorate(command: Callable[Concatenate[S, ...], None]) -> Callable[..., None]:
        own = [*inspect.signature(command).parameters][1:]

        def run(config: str | None, **command_line: Any) -> None:
            given = {name: command_line.pop(name) for name in own}
            for name in [name for name in command_line if name.startswith(_NOT)]:
                if command_line.pop(name):
                    command_line[name.removeprefix(_NOT)] = False
            settings = resolve(
                kind, command_line=command_line, environ=os.environ, config_file=config
            )
            command(settings, **given)

        run.__name__, run.__doc__ = command.__name__, command.__doc__
        decorated: Callable[..., None] = run
        hints = typing.get_type_hints(kind)
        shown = [item for item in dataclasses.fields(kind) if only is None or item.name in only]
        for item in reversed(shown):
            decorated = _option(item, hints[item.name])(decorated)
        return click.option("--config", metavar="FILE", help="TOML file with settings.")(decorated)

    return decorate


def _option(item: dataclasses.Field[Any], hint: Any) -> Callable[[F], F]:
    """Make an option. Its value stays text, because `config` parses the values of all sources."""
    flag = f"--{item.name.replace('_', '-')}"
    choices = item.metadata["choices"]
    text = item.metadata["help"]
    if item.default not in (None, "", ()) and hint is not bool:
        text += f" [default: {item.default}]"
    if hint is bool:
        declaration = f"{flag}/--no-{flag[2:]}" if item.default else flag
        return click.option(declaration, item.name, is_flag=True, default=None, help=text)
    if given_type(hint) is OptionalFolder:
        text_without = f"No {flag}: keep nothing on this machine."
        command_without = click.option(
            f"--no-{flag[2:]}", f"{_NOT}{item.name}", is_flag=True, help=text_without
        )
        with_folder = click.option(flag, item.name, metavar="DIR", default=None, help=text)
        return lambda command: with_folder(command_without(command))
    metavar = "|".join(map(str, choices)) if choices else _metavar(item.name, given_type(hint))
    given = click.option(flag, item.name, metavar=metavar, default=None, help=text)
    if not item.metadata["is_secret"]:
        return given
    in_file = click.option(
        f"{flag}-file",
        file_setting(item.name),
        metavar="FILE",
        default=None,
        help=f"File whose first line is {flag}; others cannot read it in the list of processes.",
    )
    return lambda command: given(in_file(command))


def _metavar(name: str, hint: Any) -> str:
    if name in ("device",):
        return "NAME_OR_INDEX"
    if name in ("server",):
        return "URL"
    if name in ("recordings",):
        return "DIR"
    if name in ("audit_log", "input", "tls_cert", "tls_key", "token_keys"):
        return "FILE"
    if name == "ice_servers":
        return "URL,..."
    if name == "cors_origins":
        return "ORIGIN,..."
    if name in ("public_address", "trusted_proxies"):
        return "ADDRESS,..."
    if name == "duration" or (name.endswith("_s") and not name.endswith("_per_s")):
        return "SECONDS"
    return "NUMBER" if hint in (int, float) else "TEXT"
