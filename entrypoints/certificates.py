"""Gives a server the certificate that it makes for itself, and says at which addresses it is."""

from __future__ import annotations

import dataclasses
import datetime
import ipaddress
import re
import socket
from collections.abc import Sequence

from adapters.http.self_signed import self_signed
from adapters.transport.ice.options import IceOptions
from entrypoints.settings import SELF_SIGNED, ServerSettings
from entrypoints.state_folder import state_folder

_LOOPBACK = ("127.0.0.1", "::1")
_NAME = re.compile(r"[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*")


def with_certificate(settings: ServerSettings) -> tuple[ServerSettings, str | None]:
    """Return the settings with the files of a certificate, and its fingerprint.

    Without `--tls self-signed` the settings stay as they are. Raises `SettingInvalid`.
    """
    if settings.tls != SELF_SIGNED:
        return settings, None
    certificate = self_signed(
        state_folder("tls") / "tls",
        names=_names(settings.host),
        addresses=sorted({*_LOOPBACK, *private_addresses(), *_own(settings.host)}),
        now=datetime.datetime.now(tz=datetime.UTC),
    )
    with_files = dataclasses.replace(
        settings, tls=None, tls_cert=certificate.path, tls_key=certificate.path
    )
    return with_files, certificate.fingerprint


def urls_in_network(settings: ServerSettings, url: str) -> tuple[str, ...]:
    """Return at which addresses other machines of a network reach a server that has this URL.

    There are none if it listens on one address only.
    """
    if not _is_address(settings.host) or _own(settings.host):
        return ()
    scheme, port = url.partition("://")[0], url.rpartition(":")[2]
    return tuple(f"{scheme}://{address}:{port}" for address in private_addresses())


def private_addresses() -> Sequence[str]:
    """Return the private IPv4 addresses of this machine.

    IPv6 addresses change daily (RFC 8981), and with each of them the certificate would be another.
    """
    found = (ipaddress.ip_address(item) for item in IceOptions().host_addresses())
    return sorted(
        str(address)
        for address in found
        if address.version == 4
        and address.is_private
        and not (address.is_loopback or address.is_link_local)
    )


def _names(host: str) -> Sequence[str]:
    """Return the names of this machine, also in its network (RFC 6762), and what it listens on."""
    name = socket.gethostname().rstrip(".").lower()
    names = ["localhost", name, f"{name.partition('.')[0]}.local"]
    if not _is_address(host):
        names.append(host.rstrip(".").lower())
    return tuple(dict.fromkeys(name for name in names if _NAME.fullmatch(name)))


def _own(host: str) -> Sequence[str]:
    """Return the address that the server listens on, if it is one and not all of them."""
    if not _is_address(host) or ipaddress.ip_address(host).is_unspecified:
        return ()
    return (str(ipaddress.ip_address(host.partition("%")[0])),)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
