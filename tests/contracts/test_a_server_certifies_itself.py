"""A server makes a certificate, keeps it, and clients that know its fingerprint accept it alone."""

from __future__ import annotations

import asyncio
import datetime
import hashlib
import ipaddress
import logging
import os
import pathlib
import ssl
import stat
from collections.abc import AsyncIterator

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from adapters.http.api_client import ApiClient
from adapters.http.client import HttpSignaling
from adapters.http.restoring import HttpRestoring
from adapters.http.self_signed import FILE, RENEWED_BEFORE, VALID, SelfSigned, self_signed
from adapters.http.tls import TlsFiles
from domain.errors import SettingInvalid, WrongServer
from domain.session.fingerprints import parse_fingerprint
from entrypoints import certificates
from entrypoints.certificates import urls_in_network, with_certificate
from entrypoints.settings import ServerSettings
from tests.fakes.http import FakeSessions, http_server

NOW = datetime.datetime(2026, 3, 1, 12, tzinfo=datetime.UTC)
NAMES = ("localhost", "recorder", "recorder.local")
ADDRESSES = ("127.0.0.1", "::1", "192.168.1.20")


def make(
    folder: pathlib.Path,
    *,
    names: tuple[str, ...] = NAMES,
    addresses: tuple[str, ...] = ADDRESSES,
    now: datetime.datetime = NOW,
) -> SelfSigned:
    return self_signed(folder, names=names, addresses=addresses, now=now)


def read(made: SelfSigned) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pathlib.Path(made.path).read_bytes())


def test_it_names_the_machine_and_is_accepted_by_browsers(tmp_path: pathlib.Path) -> None:
    made = make(tmp_path / "state" / "tls")
    certificate = read(made)
    subjects = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert tuple(subjects.get_values_for_type(x509.DNSName)) == NAMES
    assert tuple(subjects.get_values_for_type(x509.IPAddress)) == tuple(
        map(ipaddress.ip_address, ADDRESSES)
    )
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]
    lasts = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    assert datetime.timedelta(days=800) < lasts < datetime.timedelta(days=825)
    _, begin, rest = pathlib.Path(made.path).read_text().partition("-----BEGIN CERT")
    der = ssl.PEM_cert_to_DER_cert(begin + rest)
    assert parse_fingerprint(made.fingerprint) == hashlib.sha256(der).digest()


def test_only_its_owner_can_read_the_key(tmp_path: pathlib.Path) -> None:
    before = os.umask(0)
    try:
        made = pathlib.Path(make(tmp_path / "state" / "tls").path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(made.stat().st_mode) == 0o600
    assert stat.S_IMODE(made.parent.stat().st_mode) == 0o700
    assert [path.name for path in made.parent.iterdir()] == [FILE]


def test_it_is_kept_as_long_as_it_fits(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    first = make(tmp_path)
    late = NOW + VALID - RENEWED_BEFORE - datetime.timedelta(days=1)
    assert make(tmp_path, now=late) == first
    assert make(tmp_path, addresses=ADDRESSES[:2]) == first, "an address less does no harm"
    assert caplog.records == []


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"now": NOW + VALID}, "expires on 2028-05-29"),
        ({"addresses": (*ADDRESSES, "10.0.0.7")}, "was not for 10.0.0.7"),
        ({"names": (*NAMES, "other.local")}, "was not for other.local"),
    ],
)
def test_a_new_one_is_made_and_told(
    tmp_path: pathlib.Path,
    caplog: pytest.LogCaptureFixture,
    changed: dict[str, object],
    why: str,
) -> None:
    first = make(tmp_path)
    caplog.set_level(logging.WARNING)
    second = make(tmp_path, **changed)  # type: ignore[arg-type]
    assert second.fingerprint != first.fingerprint
    (record,) = caplog.records
    assert f"{why}: its fingerprint has changed" in record.getMessage()
    TlsFiles(second.path, second.path)


@pytest.mark.parametrize("content", [b"", b"no certificate", "half"])
def test_what_cannot_be_read_is_replaced(tmp_path: pathlib.Path, content: bytes | str) -> None:
    first = make(tmp_path)
    path = pathlib.Path(first.path)
    if content == "half":  # a key whose certificate is missing
        path.write_bytes(path.read_bytes().partition(b"-----BEGIN CERT")[0])
    else:
        path.write_bytes(bytes(content))  # type: ignore[arg-type]
    second = make(tmp_path)
    assert second.fingerprint != first.fingerprint
    TlsFiles(second.path, second.path)


def test_a_link_in_its_place_is_not_followed(tmp_path: pathlib.Path) -> None:
    other = tmp_path / "other"
    other.write_text("somebody's")
    (tmp_path / FILE).symlink_to(other)
    with pytest.raises(SettingInvalid, match="tls: cannot keep a certificate in"):
        make(tmp_path)
    assert other.read_text() == "somebody's"


def test_a_folder_that_cannot_be_written_is_told(tmp_path: pathlib.Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingInvalid, match="tls: cannot keep a certificate in"):
        make(tmp_path / "file" / "tls")


async def test_servers_that_start_together_have_the_same_one(tmp_path: pathlib.Path) -> None:
    made = await asyncio.gather(*(asyncio.to_thread(make, tmp_path) for _ in range(8)))
    assert len({one.fingerprint for one in made}) == 1


def test_the_settings_get_its_files(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr(certificates, "private_addresses", lambda: ("192.168.1.20",))
    given = ServerSettings(host="0.0.0.0", token="Zm9vYmFyYmF6cXV4", tls="self-signed")
    settings, fingerprint = with_certificate(given)
    path = str(tmp_path / "gapless" / "tls" / FILE)
    assert (settings.tls, settings.tls_cert, settings.tls_key) == (None, path, path)
    assert fingerprint is not None
    assert with_certificate(given) == (settings, fingerprint)
    assert urls_in_network(given, "https://0.0.0.0:80") == ("https://192.168.1.20:80",)
    assert urls_in_network(ServerSettings(), "https://127.0.0.1:80") == ()
    certificate = x509.load_pem_x509_certificate(pathlib.Path(path).read_bytes())
    subjects = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert ipaddress.ip_address("192.168.1.20") in subjects.get_values_for_type(x509.IPAddress)
    assert "localhost" in subjects.get_values_for_type(x509.DNSName)


def test_a_user_without_a_home_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> pathlib.Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setattr(pathlib.Path, "home", no_home)
    with pytest.raises(SettingInvalid, match="tls: this user has no home folder"):
        with_certificate(ServerSettings(tls="self-signed"))


@pytest.mark.parametrize("option", ["hsts", "tls_cert"])
def test_options_of_other_certificates_do_not_fit(option: str) -> None:
    given = {"hsts": {"hsts": True}, "tls_cert": {"tls_cert": "a", "tls_key": "b"}}[option]
    with pytest.raises(SettingInvalid, match=r"tls_cert"):
        ServerSettings(tls="self-signed", **given)  # type: ignore[arg-type]


# -- clients ------------------------------------------------------------------------------------


@pytest.fixture
async def server(tmp_path: pathlib.Path) -> AsyncIterator[tuple[str, str]]:
    """A server with such a certificate: its address, and the fingerprint."""
    # the certificate is for other addresses than the server's
    now = datetime.datetime.now(datetime.UTC)
    made = self_signed(tmp_path, names=("localhost",), addresses=("192.0.2.1",), now=now)
    running = http_server(FakeSessions(), tls=TlsFiles(made.path, made.path))
    yield await running.start(), made.fingerprint
    await running.stop()


async def test_whoever_knows_the_fingerprint_is_a_client(server: tuple[str, str]) -> None:
    url, fingerprint = server
    pinned = parse_fingerprint(fingerprint)
    signaling = HttpSignaling(server=url, token=None, fingerprint=pinned)
    api = ApiClient(url, fingerprint=pinned)
    assert (await signaling.offer("v=0", name="")).session_id == "session"
    assert (await api.get("/health"))["status"] == "ok"
    await signaling.close()
    await api.close()


async def test_another_certificate_is_refused_before_anything_is_sent(
    server: tuple[str, str],
) -> None:
    url, fingerprint = server
    wrong = bytes(32)
    signaling = HttpSignaling(server=url, token="secret", fingerprint=wrong)
    restoring = HttpRestoring(url, fingerprint=wrong)
    api = ApiClient(url, token="secret", fingerprint=wrong)
    for request in (
        signaling.offer("v=0", name=""),
        restoring.wanted("session", "secret"),
        api.get("/health"),
    ):
        with pytest.raises(WrongServer, match=f"has another fingerprint .*: {fingerprint}"):
            await request
    for client in (signaling, restoring, api):
        await client.close()


async def test_without_a_fingerprint_it_is_not_trusted(server: tuple[str, str]) -> None:
    client = HttpSignaling(server=server[0], token=None)
    with pytest.raises(WrongServer, match="is not trusted"):
        await client.offer("v=0", name="")
    await client.close()
