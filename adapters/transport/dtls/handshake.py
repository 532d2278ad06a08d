"""The DTLS handshake (RFC 6347, RFC 8827 § 6.5), and the keys for SRTP that it gives (RFC 5764)."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import Iterator, Sequence
from typing import TypeAlias
from weakref import WeakKeyDictionary

import pylibsrtp
from aiortc import RTCCertificate, RTCDtlsFingerprint
from aiortc.rtcdtlstransport import SRTP_PROFILES, SRTPProtectionProfile
from OpenSSL import SSL

from adapters.transport.ice.transport import IceTransport
from domain.errors import ConnectionFailed

CIPHERS = ":".join(
    f"ECDHE-{authentication}-{cipher}"
    for cipher in (
        "AES128-GCM-SHA256", "CHACHA20-POLY1305", "AES256-GCM-SHA384", "AES128-SHA", "AES256-SHA"
    )
    for authentication in ("ECDSA", "RSA")
)  # fmt: skip
"""The suites that are offered and accepted, the best first. This end's certificate is ECDSA, that
of the peer may be RSA (GStreamer; pages that ask for RSASSA-PKCS1-v1_5)."""
SUPPORTED_HASHES = {"sha-256": "sha256", "sha-384": "sha384", "sha-512": "sha512"}
"""The hashes of fingerprints, as SDP (RFC 8122 § 5) and OpenSSL name them."""
REPLAY_WINDOW = 1024
"""Packets that may arrive in any order, each of them once."""
_DATAGRAM_BYTES = 1200
_RECORD = struct.Struct("!11xH")
_NEEDED = "an ECDSA certificate with P-256, P-384 or P-521, or an RSA certificate, is needed"
_HINTS = {
    "no shared cipher": "the peer offers no cipher suite that this end supports",
    "wrong curve": f"the peer's certificate has an unsupported curve; {_NEEDED}",
    "unsupported elliptic curve": f"the peer's certificate has an unsupported curve; {_NEEDED}",
    "ee key too small": f"the key of the peer's certificate is too weak; {_NEEDED}",
    "unknown certificate type": f"the peer's certificate has an unsupported key; {_NEEDED}",
    "peer did not return a certificate": "the peer has sent no certificate",
    "alert handshake failure": "the peer refuses this end's suites, perhaps because its own "
    f"certificate fits none of them; {_NEEDED}",
    "alert bad certificate": "the peer refuses this end's certificate: does it check another "
    "fingerprint?",
}
"""What the reasons of OpenSSL mean here, by a part of their text."""

SrtpSessions: TypeAlias = tuple[pylibsrtp.Session, pylibsrtp.Session]
"""The sessions that unprotect packets of the peer, and protect those of this end."""


class DtlsSession:
    """One end of a DTLS connection, by OpenSSL."""

    def __init__(self, certificate: RTCCertificate, *, role: str) -> None:
        context = _context_of(certificate)
        self.role = role
        self.has_heard = False
        """Whether the peer has sent any DTLS record."""
        self._ssl = SSL.Connection(context)
        self._ssl.set_ciphertext_mtu(_DATAGRAM_BYTES)
        if role == "server":
            self._ssl.set_accept_state()
        else:
            self._ssl.set_connect_state()

    @property
    def openssl(self) -> SSL.Connection:
        return self._ssl

    async def handshake(
        self, ice: IceTransport, fingerprints: Sequence[RTCDtlsFingerprint]
    ) -> None:
        """Do the handshake over a connected `ice`, and check the peer's certificate.

        There is no time-out: cancel the call. Raises `ConnectionFailed` with the reason.
        """
        try:
            await self._handshake(ice)
        except SSL.Error as error:
            self._flush(ice)  # the alert that tells the peer
            raise ConnectionFailed(f"the DTLS handshake failed: {reason_of(error)}") from error
        self._flush(ice)
        self._check_certificate(fingerprints, ice)

    def srtp_sessions(self) -> SrtpSessions:
        """The SRTP sessions of a connection after its handshake; raises `ConnectionFailed`."""
        chosen = self._ssl.get_selected_srtp_profile()
        profile = next((item for item in SRTP_PROFILES if item.openssl_profile == chosen), None)
        if profile is None:
            raise ConnectionFailed("the DTLS handshake failed: no SRTP profile was negotiated")
        keys = self._ssl.export_keying_material(
            b"EXTRACTOR-dtls_srtp", 2 * (profile.key_length + profile.salt_length)
        )
        is_server = self.role == "server"
        return (
            _srtp_session(profile, keys, by_server=not is_server, is_inbound=True),
            _srtp_session(profile, keys, by_server=is_server, is_inbound=False),
        )

    def received(self, data: bytes, ice: IceTransport) -> bool:
        """Process a datagram after the handshake; return whether the peer closes the connection.

        If the peer repeats its last flight, that of this end was lost, and is sent again.
        """
        if not _is_dtls(data):
            return False
        self._ssl.bio_write(data)
        try:
            self._ssl.recv(_DATAGRAM_BYTES)
        except SSL.ZeroReturnError:
            return True
        except SSL.Error:
            pass  # the usual WantReadError, or a record that is not valid
        self._flush(ice)
        return False

    def shut_down(self, ice: IceTransport) -> None:
        """Send a ``close_notify`` alert."""
        with contextlib.suppress(SSL.Error):
            self._ssl.shutdown()
        self._flush(ice)

    async def _handshake(self, ice: IceTransport) -> None:
        while True:
            try:
                self._ssl.do_handshake()
            except SSL.WantReadError:
                pass
            else:
                break
            self._flush(ice)
            await self._receive(ice)

    def _check_certificate(
        self, fingerprints: Sequence[RTCDtlsFingerprint], ice: IceTransport
    ) -> None:
        """Compare the peer's certificate with the fingerprints of its SDP (RFC 8122 § 5)."""
        # OpenSSL computes the digests: cryptography would first parse the certificate, and raise
        # for some that OpenSSL accepts
        certificate = self._ssl.get_peer_certificate()
        supported: dict[str, set[str]] = {}
        for item in fingerprints:
            if (algorithm := item.algorithm.lower()) in SUPPORTED_HASHES:
                supported.setdefault(algorithm, set()).add(item.value.upper())
        if certificate is None or not supported:
            raise ConnectionFailed("the DTLS handshake failed: there is no fingerprint to check")
        for algorithm, values in supported.items():
            # several values of one hash are those of several certificates, of which one is used
            if certificate.digest(SUPPORTED_HASHES[algorithm]).decode() not in values:
                self.shut_down(ice)
                raise ConnectionFailed(
                    f"the DTLS handshake failed: the {algorithm} fingerprint of the peer's "
                    "certificate is not the one in its SDP"
                )

    async def _receive(self, ice: IceTransport) -> None:
        """Wait for the next DTLS datagram, or until a flight has to be sent again."""
        timeout = self._ssl.DTLSv1_get_timeout()
        try:
            async with asyncio.timeout(timeout):
                while not _is_dtls(data := await ice.receive_dtls()):
                    pass  # SRTP that came before the handshake was complete
        except TimeoutError:
            self._ssl.DTLSv1_handle_timeout()
            return
        except ConnectionError as error:
            raise ConnectionFailed(
                "the DTLS handshake failed: the network path was lost"
            ) from error
        self.has_heard = True
        self._ssl.bio_write(data)

    def _flush(self, ice: IceTransport) -> None:
        """Send what OpenSSL has written."""
        written = b""
        with contextlib.suppress(SSL.Error):  # WantReadError when there is nothing left
            while True:
                written += self._ssl.bio_read(65_536)
        for datagram in _datagrams(written):
            ice.send(datagram)


_contexts: WeakKeyDictionary[RTCCertificate, SSL.Context] = WeakKeyDictionary()


def _context_of(certificate: RTCCertificate) -> SSL.Context:
    """Return OpenSSL's context for the connections with a certificate.

    One for each connection would take time and memory, and only the garbage collector would free
    it: pyOpenSSL's callback refers to itself.
    """
    context = _contexts.get(certificate)
    if context is None:
        context = _contexts[certificate] = certificate._create_ssl_context(SRTP_PROFILES)
        context.set_cipher_list(CIPHERS.encode())
        # each connection has keys of its own, and shows its certificate
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    return context


def reason_of(error: SSL.Error) -> str:
    """The reason for which OpenSSL has failed, with what it means here."""
    queue = error.args[0] if error.args and isinstance(error.args[0], list) else []
    reasons = [str(entry[-1]) for entry in queue] or [str(error) or type(error).__name__]
    reason = "; ".join(reasons)
    for text, meaning in _HINTS.items():
        if text in reason:
            return f"{reason} ({meaning})"
    return f"the peer has sent an alert: {reason}" if " alert " in reason else reason


def _is_dtls(data: bytes) -> bool:
    return bool(data) and 20 <= data[0] <= 63  # RFC 7983 § 7


def _datagrams(records: bytes) -> Iterator[bytes]:
    """Pack DTLS records into datagrams: a record must not be divided."""
    start = end = 0
    while end < len(records):
        (length,) = _RECORD.unpack_from(records, end)
        following = end + _RECORD.size + length
        if following - start > _DATAGRAM_BYTES and end > start:
            yield records[start:end]
            start = end
        end = following
    if end > start:
        yield records[start:end]


def _srtp_session(
    profile: SRTPProtectionProfile, keys: bytes, *, by_server: bool, is_inbound: bool
) -> pylibsrtp.Session:
    """A session with the keys of the DTLS client or server (RFC 5764 § 4.2)."""
    kind = pylibsrtp.Policy.SSRC_ANY_INBOUND if is_inbound else pylibsrtp.Policy.SSRC_ANY_OUTBOUND
    policy = pylibsrtp.Policy(
        key=profile.get_key_and_salt(keys, int(by_server)),
        ssrc_type=kind,
        srtp_profile=profile.libsrtp_profile,
    )
    policy.allow_repeat_tx = True
    policy.window_size = REPLAY_WINDOW
    return pylibsrtp.Session(policy)
