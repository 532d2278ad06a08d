"""Certificates that a server makes for itself, for clients that know their fingerprint."""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import ipaddress
import logging
import os
import pathlib
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from adapters.descriptors import RESERVE
from adapters.opening import create_file, make_folder, open_folder, read_found
from domain.errors import SettingInvalid
from domain.session.fingerprints import fingerprint_text

FILE = "self-signed.pem"
"""The key and its certificate, in one file: so they are replaced at the same moment."""
VALID = datetime.timedelta(days=820)
"""Nobody vouches for the certificate, and each new one costs all clients a new fingerprint: so it
is valid for as long as can be. Browsers on Apple's systems refuse what is valid for more than 825
days, and do not let the user go on."""
RENEWED_BEFORE = datetime.timedelta(days=30)
_MAX_BYTES = 64 * 1024
_COMMON_NAME = "Gapless"
_log = logging.getLogger("gapless")


@dataclass(frozen=True, slots=True)
class SelfSigned:
    """A certificate that is kept in a file, together with its key."""

    path: str
    fingerprint: str
    """SHA-256, as ``AA:BB:…``."""


def self_signed(
    folder: pathlib.Path, *, names: Sequence[str], addresses: Sequence[str], now: datetime.datetime
) -> SelfSigned:
    """Return the certificate that is kept in `folder`; make one if there is none of use.

    It is made again when it is about to expire, or when it lacks one of the DNS names or IP
    addresses; what it has beside them does no harm. Raises `SettingInvalid`.
    """
    path = folder / FILE
    try:
        make_folder(folder)
        with _locked(folder):  # several servers may start at the same time
            kept, problem = _read(path, names, addresses, now)
            if kept is None:
                kept = _make(path, names, addresses, now)
                if problem:
                    _log.warning(
                        "a new certificate was made, because the one in %s %s: its fingerprint has "
                        "changed, and clients that were given it need the new one",
                        path,
                        problem,
                    )
    except OSError as error:
        raise SettingInvalid(
            "tls", f"cannot keep a certificate in {folder}: {error.strerror}"
        ) from error
    return SelfSigned(str(path), fingerprint_text(kept.fingerprint(hashes.SHA256())))


def _read(
    path: pathlib.Path, names: Sequence[str], addresses: Sequence[str], now: datetime.datetime
) -> tuple[x509.Certificate | None, str]:
    """Return the certificate of a file, or else why it is of no use; empty if there is none."""
    try:
        content = read_found(path, _MAX_BYTES)
    except FileNotFoundError:
        return None, ""
    try:
        key = serialization.load_pem_private_key(content, None)
        certificate = x509.load_pem_x509_certificate(content)
        subjects = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, TypeError, x509.ExtensionNotFound):
        return None, "could not be read"
    if key.public_key() != certificate.public_key():
        return None, "could not be read"
    if certificate.not_valid_after_utc - RENEWED_BEFORE <= now:
        return None, f"expires on {certificate.not_valid_after_utc:%Y-%m-%d}"
    known = {
        *subjects.get_values_for_type(x509.DNSName),
        *map(str, subjects.get_values_for_type(x509.IPAddress)),
    }
    if missing := [item for item in (*names, *addresses) if item not in known]:
        return None, f"was not for {', '.join(missing)}"
    return certificate, ""


def _make(
    path: pathlib.Path, names: Sequence[str], addresses: Sequence[str], now: datetime.datetime
) -> x509.Certificate:
    """Make a key and a certificate, and write them. Raises `OSError`."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, _COMMON_NAME)])
    subjects: list[x509.GeneralName] = [x509.DNSName(name) for name in names]
    subjects += [x509.IPAddress(ipaddress.ip_address(address)) for address in addresses]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))  # clocks of clients may be slow
        .not_valid_after(now + VALID)
        .add_extension(x509.SubjectAlternativeName(subjects), critical=False)
        # whoever trusts it trusts this server, and nothing that its key could sign
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    content = key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ) + certificate.public_bytes(pem)
    _replace(path, content)
    return certificate


def _replace(path: pathlib.Path, content: bytes) -> None:
    """Write a file that only its owner can read, whole or not at all."""
    new = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = create_file(new)
    try:
        try:
            os.write(descriptor, content)
            os.fsync(descriptor)
        finally:
            RESERVE.close(descriptor)
        new.replace(path)
    except OSError:
        new.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def _locked(folder: pathlib.Path) -> Iterator[None]:
    descriptor = open_folder(folder)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        RESERVE.close(descriptor)
