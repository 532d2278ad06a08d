"""`CloseAlert` and OpenSSL accept each other's alerts, and nothing else."""

from __future__ import annotations

import itertools

import pytest
from aiortc import RTCCertificate
from aiortc.rtcdtlstransport import SRTP_PROFILES
from hypothesis import given
from hypothesis import strategies as st
from OpenSSL import SSL

from adapters.transport.dtls.close_alert import CloseAlert


class End:
    """One end of a DTLS connection in memory."""

    def __init__(self, *, role: str, ciphers: bytes | None = None) -> None:
        context = RTCCertificate.generateCertificate()._create_ssl_context(SRTP_PROFILES)
        if ciphers is not None:
            context.set_cipher_list(ciphers)
        self.role = role
        self.ssl = SSL.Connection(context)
        if role == "server":
            self.ssl.set_accept_state()
        else:
            self.ssl.set_connect_state()

    def handshake(self) -> bool:
        try:
            self.ssl.do_handshake()
        except SSL.WantReadError:
            return False
        return True

    def datagrams(self) -> list[bytes]:
        found = []
        try:
            while True:
                found.append(self.ssl.bio_read(1500))
        except SSL.WantReadError:
            return found

    def is_closed_by(self, datagram: bytes) -> bool:
        """Whether OpenSSL accepts a datagram as the peer's close."""
        self.ssl.bio_write(datagram)
        try:
            self.ssl.recv(1500)
        except SSL.ZeroReturnError:
            return True
        except SSL.WantReadError:
            pass
        return False

    def close_alert(self) -> CloseAlert | None:
        """What replaces this end's OpenSSL connection."""
        return CloseAlert.from_openssl(self.ssl, role=self.role)


def connected(ciphers: bytes | None = None) -> tuple[End, End]:
    """A client and a server after their handshake."""
    client, server = End(role="client", ciphers=ciphers), End(role="server")
    done: set[End] = set()
    for end, other in itertools.cycle(((client, server), (server, client))):
        if end.handshake():
            done.add(end)
        for datagram in end.datagrams():
            other.ssl.bio_write(datagram)
        if len(done) == 2:
            break
    return client, server


@pytest.fixture
def joined() -> tuple[CloseAlert, End]:
    client, server = connected()
    alert = client.close_alert()
    assert alert is not None
    return alert, server


def closing(end: End) -> bytes:
    end.ssl.shutdown()
    (datagram,) = end.datagrams()
    return datagram


async def test_openssl_accepts_the_alert(joined: tuple[CloseAlert, End]) -> None:
    alert, server = joined
    assert server.is_closed_by(alert.encode())


async def test_the_alert_of_openssl_is_recognized(joined: tuple[CloseAlert, End]) -> None:
    alert, server = joined
    assert alert.is_in(closing(server))


async def test_an_alert_after_other_records_is_recognized(joined: tuple[CloseAlert, End]) -> None:
    alert, server = joined
    server.ssl.send(b"data")
    (data,) = server.datagrams()
    assert not alert.is_in(data)
    assert alert.is_in(data + closing(server))


async def test_the_alert_of_another_connection_is_ignored(joined: tuple[CloseAlert, End]) -> None:
    alert, server = joined
    other, other_server = connected()
    assert not alert.is_in(closing(other_server))
    assert not alert.is_in(alert.encode())  # its own one, reflected
    other_alert = other.close_alert()
    assert other_alert is not None
    assert not server.is_closed_by(other_alert.encode())


async def test_an_altered_alert_is_ignored(joined: tuple[CloseAlert, End]) -> None:
    alert, server = joined
    datagram = closing(server)
    for at in range(len(datagram)):
        assert not alert.is_in(datagram[:at])
        assert not alert.is_in(datagram[:at] + bytes([datagram[at] ^ 1]) + datagram[at + 1 :])
    assert alert.is_in(datagram)


async def test_an_unencrypted_alert_is_ignored(joined: tuple[CloseAlert, End]) -> None:
    alert, _ = joined
    assert not alert.is_in(b"\x15\xfe\xfd" + bytes(8) + b"\x00\x02\x01\x00")


async def test_openssl_is_kept_for_servers_and_other_ciphers() -> None:
    client, server = connected(ciphers=b"ECDHE-ECDSA-CHACHA20-POLY1305")
    assert client.close_alert() is None
    _, server = connected()
    assert server.close_alert() is None


@given(st.binary(max_size=200))
def test_arbitrary_datagrams_raise_nothing(data: bytes) -> None:
    alert = CloseAlert(master_secret=b"m" * 48, client_random=b"c" * 32, server_random=b"s" * 32)
    header = b"\x15\xfe\xfd\x00\x01" + bytes(6)
    assert not alert.is_in(data)
    assert not alert.is_in(header + data)
    assert not alert.is_in(header + len(data).to_bytes(2, "big") + data)
