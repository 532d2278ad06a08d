"""How settings are declared: name, default, help text and limits, and what several of them need."""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from dataclasses import field, fields
from typing import Any

from domain.errors import SettingInvalid
from domain.session.addresses import is_loopback
from domain.session.ice import IceServer


def check_turn_credentials(servers: tuple[IceServer, ...]) -> None:
    for server in servers:
        if server.is_turn and server.username is None:
            raise SettingInvalid("ice_servers", f"{server.url} needs a username and a credential")


MIN_TOKEN_CHARACTERS = 16
MIN_TOKEN_VARIETY = 8
"""Different characters of a token."""
MIN_SECRET_CHARACTERS = 32
"""HS256 needs a key of 256 bits (RFC 7518 § 3.2)."""
_NEW_TOKEN = 'python3 -c "import secrets; print(secrets.token_urlsafe())"'  # noqa: S105


def check_strength(name: str, token: str | None, host: str) -> None:
    """Raise `SettingInvalid` if others can reach a server and could guess a token of it."""
    if token is None or is_loopback(host):
        return
    if len(token) < MIN_TOKEN_CHARACTERS or len({*token}) < MIN_TOKEN_VARIETY:
        raise SettingInvalid(
            name,
            f"{host} can be reached from other machines, so a token needs at least "
            f"{MIN_TOKEN_CHARACTERS} characters, {MIN_TOKEN_VARIETY} of them different; "
            f"this makes one: {_NEW_TOKEN}",
        )


def check_signing_secret(name: str, secret: str | None) -> None:
    """Raise `SettingInvalid` if others could find out a secret that signs tokens.

    Whoever has a token can try secrets on it, as fast as they like.
    """
    if secret is None:
        return
    if len(secret) < MIN_SECRET_CHARACTERS or len({*secret}) < MIN_TOKEN_VARIETY:
        raise SettingInvalid(
            name,
            f"needs at least {MIN_SECRET_CHARACTERS} characters, {MIN_TOKEN_VARIETY} of them "
            f"different; this makes one: {_NEW_TOKEN}",
        )


_ORIGIN = re.compile(r"https?://([a-z0-9.-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?", re.ASCII)


def check_origins(name: str, origins: tuple[str, ...]) -> None:
    """Raise `SettingInvalid` for what no browser sends as the origin of a page."""
    for origin in origins:
        if _ORIGIN.fullmatch(origin) is None:
            raise SettingInvalid(
                name, f"{origin!r} is not an origin such as https://studio.example:8443"
            )


def setting(
    default: Any,
    text: str,
    *,
    choices: tuple[str | int, ...] = (),
    low: float = -math.inf,
    high: float = math.inf,
    is_secret: bool = False,
) -> Any:
    """Declare a setting with its help text, and its choices or limits.

    The `repr` of the settings leaves out secrets. A secret NAME may also be in a file, which the
    setting NAME_file names.
    """
    return field(
        default=default,
        repr=not is_secret,
        metadata={
            "help": text,
            "choices": choices,
            "low": low,
            "high": high,
            "is_secret": is_secret,
        },
    )


def file_setting(name: str) -> str:
    """Return the name of the setting that names the file with a secret."""
    return f"{name}_file"


def secrets_of(kind: Any) -> Collection[str]:
    """Return the names of the settings of a class that are secret."""
    return [item.name for item in fields(kind) if item.metadata["is_secret"]]


def check_limits(settings: Any) -> None:
    for item in fields(settings):
        value, meta = getattr(settings, item.name), item.metadata
        if value is None:
            continue
        if meta["choices"] and value not in meta["choices"]:
            listing = ", ".join(map(str, meta["choices"]))
            raise SettingInvalid(item.name, f"{value!r} is not one of {listing}")
        if isinstance(value, int | float) and not meta["low"] <= value <= meta["high"]:
            limits = f"between {meta['low']:g} and {meta['high']:g}"
            if meta["high"] == math.inf:
                limits = f"at least {meta['low']:g}"
            raise SettingInvalid(item.name, f"{value:g} is not {limits}")


class OptionalFolder(str):
    """The path of a folder, in a setting that may also say that there is none."""

    __slots__ = ()
