"""TLS of the server: its profile, certificates that change, keys that are encrypted."""

from __future__ import annotations

import asyncio
import logging
import pathlib
import socket
import ssl

import pytest
from cryptography.hazmat.primitives import serialization

from adapters.http import tls
from adapters.http.tls import PassphraseNeeded, TlsFiles
from domain.errors import SettingInvalid
from tests.fakes.http import FakeSessions, http_server
from tests.rigs.tls import self_signed, trusting_anybody


def folder(path: pathlib.Path) -> pathlib.Path:
    path.mkdir()
    return path


def certificate_at(port: int, context: ssl.SSLContext | None = None) -> tuple[bytes, str]:
    """Return the certificate that a server shows, and the cipher that it chose."""
    with (
        socket.create_connection(("127.0.0.1", port), timeout=20) as plain,
        (context or trusting_anybody()).wrap_socket(plain) as secure,
    ):
        certificate, cipher = secure.getpeercert(binary_form=True), secure.cipher()
        assert certificate is not None
        assert cipher is not None
        return certificate, cipher[0]


def der(path: str) -> bytes:
    return ssl.PEM_cert_to_DER_cert(pathlib.Path(path).read_text())


def encrypt(key: str, passphrase: str) -> None:
    """Encrypt a key in its file."""
    path = pathlib.Path(key)
    loaded = serialization.load_pem_private_key(path.read_bytes(), None)
    path.write_bytes(
        loaded.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(passphrase.encode()),
        )
    )


async def test_new_connections_get_the_new_certificate(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls, "POLL_S", 0.0)
    certificate, key = self_signed(folder(tmp_path / "used"))
    new = self_signed(folder(tmp_path / "new"))
    server = http_server(FakeSessions(), tls=TlsFiles(certificate, key))
    port = int((await server.start()).rpartition(":")[2])
    try:
        first, _ = await asyncio.to_thread(certificate_at, port)
        assert first == der(certificate)
        pathlib.Path(new[0]).replace(certificate)
        pathlib.Path(new[1]).replace(key)
        async with asyncio.timeout(30):
            while (await asyncio.to_thread(certificate_at, port))[0] == first:
                await asyncio.sleep(0.1)
        assert (await asyncio.to_thread(certificate_at, port))[0] == der(certificate)
    finally:
        await server.stop()


def test_what_cannot_be_used_is_told_once_and_changes_nothing(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    certificate, key = self_signed(tmp_path)
    files = TlsFiles(certificate, key)
    used = files.context
    caplog.set_level(logging.WARNING)
    for content in ("no certificate", None):
        path = pathlib.Path(certificate)
        path.unlink() if content is None else path.write_text(content)
        for _ in range(4):
            files.reload_if_changed()
        assert files.context is used
    assert [record.getMessage() for record in caplog.records] == [
        f"the certificate of before stays in use: tls_cert: cannot use {certificate} with {key}: "
        + reason
        for reason in (
            "a certificate chain and a private key in PEM are needed",
            "No such file or directory",
        )
    ]
    self_signed(tmp_path)
    files.reload_if_changed()
    assert files.context is used, "the key may not have been replaced yet"
    files.reload_if_changed()
    assert files.context is not used


def test_a_certificate_without_its_key_yet_is_no_reason_for_a_warning(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    certificate, key = self_signed(tmp_path)
    files = TlsFiles(certificate, key)
    new = self_signed(folder(tmp_path / "new"))
    pathlib.Path(new[0]).replace(certificate)
    files.reload_if_changed()
    pathlib.Path(new[1]).replace(key)
    used = files.context
    for _ in range(2):
        files.reload_if_changed()
    assert files.context is not used
    assert caplog.records == []


def test_an_encrypted_key_needs_its_passphrase(tmp_path: pathlib.Path) -> None:
    certificate, key = self_signed(tmp_path)
    encrypt(key, "right")
    with pytest.raises(PassphraseNeeded, match=f"{key} is encrypted: set its passphrase"):
        TlsFiles(certificate, key)
    with pytest.raises(SettingInvalid, match=f"tls_passphrase: does not decrypt {key}"):
        TlsFiles(certificate, key, passphrase="wrong")
    TlsFiles(certificate, key, passphrase="right")


def test_a_key_of_another_certificate_is_told(tmp_path: pathlib.Path) -> None:
    certificate, _ = self_signed(folder(tmp_path / "a"))
    _, key = self_signed(folder(tmp_path / "b"))
    with pytest.raises(SettingInvalid, match="they do not belong together"):
        TlsFiles(certificate, key)


async def test_old_versions_and_ciphers_are_refused(tmp_path: pathlib.Path) -> None:
    server = http_server(FakeSessions(), tls=TlsFiles(*self_signed(tmp_path)))
    port = int((await server.start()).rpartition(":")[2])

    def client(version: ssl.TLSVersion, ciphers: str) -> ssl.SSLContext:
        context = trusting_anybody()
        context.minimum_version = context.maximum_version = version
        context.set_ciphers(ciphers)
        return context

    try:
        new, old = ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_2
        for version, ciphers in (
            (new, "ALL"),
            (old, "ECDHE+AESGCM"),
            (old, "ECDHE+CHACHA20"),
        ):
            await asyncio.to_thread(certificate_at, port, client(version, ciphers))
        for version, ciphers in (
            (old, "AES128-SHA256:AES128-GCM-SHA256"),
            (old, "ECDHE-ECDSA-AES128-SHA256:ECDHE-ECDSA-AES256-SHA"),
            (old, "ECDHE-ECDSA-AES128-CCM"),
        ):
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await asyncio.to_thread(certificate_at, port, client(version, ciphers))
    finally:
        await server.stop()
    context = TlsFiles(*self_signed(tmp_path)).context
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.options & ssl.OP_NO_RENEGOTIATION
    assert context.options & ssl.OP_NO_COMPRESSION


def test_sessions_of_tls_do_not_pile_up(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls, "MAX_CACHED_SESSIONS", 1)
    files = TlsFiles(*self_signed(tmp_path))
    client = trusting_anybody()
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    client.options |= ssl.OP_NO_TICKET
    used = files.context
    files.reload_if_changed()
    assert files.context is used
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        files.context.wrap_bio(to_server, to_client, server_side=True),
        client.wrap_bio(to_client, to_server),
    )
    for _ in range(4):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    assert files.context.session_stats()["number"] == 1
    files.reload_if_changed()
    assert files.context is not used
