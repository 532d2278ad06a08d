"""Certificates of other peers than ours, and an aiortc peer with one of them."""

from __future__ import annotations

import datetime
from typing import Any

from aiortc import RTCCertificate, RTCConfiguration, RTCPeerConnection
from aiortc.rtcdtlstransport import SRTPProtectionProfile
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from OpenSSL import SSL

from tests.rigs.loopback import loopback_for_aiortc
from tests.rigs.tones import Tone


class AnyCertificate(RTCCertificate):
    """A certificate with any key, used with all cipher suites that OpenSSL has."""

    def __init__(self, key: Any, *, valid_days: int = 2) -> None:
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "peer")])
        now = datetime.datetime.now(tz=datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=10))
            .not_valid_after(now + datetime.timedelta(days=valid_days))
        )
        super().__init__(key, builder.sign(key, hashes.SHA256()))

    def _create_ssl_context(self, srtp_profiles: list[SRTPProtectionProfile]) -> SSL.Context:
        context = SSL.Context(SSL.DTLS_METHOD)
        context.set_verify(
            SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, lambda *arguments: True
        )
        context.set_cipher_list(b"ALL:@SECLEVEL=0")
        context.use_certificate(self._cert)
        context.use_privatekey(self._key)
        context.set_tlsext_use_srtp(b":".join(item.openssl_profile for item in srtp_profiles))
        return context


def rsa_certificate(bits: int = 2048) -> AnyCertificate:
    return AnyCertificate(rsa.generate_private_key(65_537, bits))


def elliptic_certificate(curve: ec.EllipticCurve) -> AnyCertificate:
    return AnyCertificate(ec.generate_private_key(curve))


async def peer_with(certificate: RTCCertificate) -> RTCPeerConnection:
    """Make an aiortc peer that sends a tone, with its offer."""
    peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    peer._RTCPeerConnection__certificates = [certificate]
    peer.addTransceiver(Tone(440), direction="sendonly")
    with loopback_for_aiortc():
        await peer.setLocalDescription(await peer.createOffer())
    return peer
