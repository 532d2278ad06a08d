"""A goodbye without OpenSSL, against OpenSSL: each understands the other, and nothing else."""

from __future__ import annotations

import itertools

import pytest
from aiortc import RTCCertificate, RTCDtlsTransport
from aiortc.rtcdtlstransport import SRTP_PROFILES
from hypothesis import given
from hypothesis import strategies as st
from OpenSSL import SSL

from adapters.transport.dtls.close_alert import CloseAlert
from adapters.transport.ice.agent import IceOptions
from adapters.transport.ice.transport import IceTransport


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

    def hears(self, datagram: bytes) -> bool:
        """Whether OpenSSL takes it for the end."""
        self.ssl.bio_write(datagram)
        try:
            self.ssl.recv(1500)
        except SSL.ZeroReturnError:
            return True
        except SSL.WantReadError:
            pass
        return False

    def goodbye(self) -> CloseAlert | None:
        """What would stand in for this end."""
        ice = IceTransport(IceOptions(), controlling=True)
        dtls = RTCDtlsTransport(ice, [RTCCertificate.generateCertificate()])  # type: ignore[arg-type]
        dtls._set_role(self.role)
        dtls._ssl = self.ssl
        return CloseAlert.of(dtls)


def connected(ciphers: bytes | None = None) -> tuple[End, End]:
    """A client and a server that have shaken hands."""
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
    goodbye = client.goodbye()
    assert goodbye is not None
    return goodbye, server


def closing(end: End) -> bytes:
    end.ssl.shutdown()
    (datagram,) = end.datagrams()
    return datagram


async def test_openssl_hears_it_said(joined: tuple[CloseAlert, End]) -> None:
    goodbye, server = joined
    assert server.hears(goodbye.say())


async def test_it_hears_openssl_say_it(joined: tuple[CloseAlert, End]) -> None:
    goodbye, server = joined
    assert goodbye.is_in(closing(server))


async def test_it_hears_it_behind_other_records(joined: tuple[CloseAlert, End]) -> None:
    goodbye, server = joined
    server.ssl.send(b"data")
    (data,) = server.datagrams()
    assert not goodbye.is_in(data)
    assert goodbye.is_in(data + closing(server))


async def test_a_goodbye_of_another_connection_is_none(joined: tuple[CloseAlert, End]) -> None:
    goodbye, server = joined
    other, other_server = connected()
    assert not goodbye.is_in(closing(other_server))
    assert not goodbye.is_in(goodbye.say())  # nor is one's own, sent back
    stranger = other.goodbye()
    assert stranger is not None
    assert not server.hears(stranger.say())


async def test_what_was_changed_on_its_way_is_none(joined: tuple[CloseAlert, End]) -> None:
    goodbye, server = joined
    datagram = closing(server)
    for at in range(len(datagram)):
        assert not goodbye.is_in(datagram[:at])
        assert not goodbye.is_in(datagram[:at] + bytes([datagram[at] ^ 1]) + datagram[at + 1 :])
    assert goodbye.is_in(datagram)


async def test_an_alert_of_an_unprotected_epoch_is_none(joined: tuple[CloseAlert, End]) -> None:
    goodbye, _ = joined
    assert not goodbye.is_in(b"\x15\xfe\xfd" + bytes(8) + b"\x00\x02\x01\x00")


async def test_a_server_and_another_cipher_keep_openssl() -> None:
    client, server = connected(ciphers=b"ECDHE-ECDSA-CHACHA20-POLY1305")
    assert client.goodbye() is None
    _, server = connected()
    assert server.goodbye() is None


@given(st.binary(max_size=200))
def test_whatever_comes_raises_nothing(data: bytes) -> None:
    goodbye = CloseAlert(master_secret=b"m" * 48, client_random=b"c" * 32, server_random=b"s" * 32)
    header = b"\x15\xfe\xfd\x00\x01" + bytes(6)
    assert not goodbye.is_in(data)
    assert not goodbye.is_in(header + data)
    assert not goodbye.is_in(header + len(data).to_bytes(2, "big") + data)
