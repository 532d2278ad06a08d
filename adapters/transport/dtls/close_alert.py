"""The ``close_notify`` alerts of DTLS, without OpenSSL.

OpenSSL keeps about 100 kB for each connection: record buffers, and flights that it may have to
retransmit. A client of DTLS 1.2 needs neither after the handshake, which is over with the server's
last flight (RFC 6347 § 4.2.4); WebRTC media is SRTP. What remains are the ``close_notify`` alerts
of both ends, which are one record each.
"""

from __future__ import annotations

import hmac
import secrets
import struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from OpenSSL import SSL

_HEADER = struct.Struct("!BH8sH")
_ALERT, _DTLS_1_2 = 21, 0xFEFD
_EPOCH = b"\x00\x01"  # the first one with encryption
_CLOSE_NOTIFY = b"\x01\x00"
_KEY, _SALT, _NONCE, _TAG = 16, 4, 8, 16
_CIPHERS = ("ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-RSA-AES128-GCM-SHA256")
"""They differ in how the handshake is authenticated; records are encrypted in the same way."""


class CloseAlert:
    """The ``close_notify`` alerts of a DTLS client (RFC 5246 § 7.2.1) with AES-GCM (RFC 5288)."""

    def __init__(self, *, master_secret: bytes, client_random: bytes, server_random: bytes) -> None:
        seed = b"key expansion" + server_random + client_random
        keys = _expand(master_secret, seed, 2 * (_KEY + _SALT))  # RFC 5246 § 6.3
        self._local_key, self._remote_key = keys[:_KEY], keys[_KEY : 2 * _KEY]
        self._local_salt, self._remote_salt = keys[2 * _KEY : -_SALT], keys[-_SALT:]

    @classmethod
    def from_openssl(cls, ssl: SSL.Connection, *, role: str) -> CloseAlert | None:
        """Take the keys of a connection after its handshake.

        None where OpenSSL is still needed: a server may have to retransmit its last flight, and
        other ciphers than the usual one are not implemented here.
        """
        if (
            role != "client"
            or ssl.get_protocol_version_name() != "DTLSv1.2"
            or ssl.get_cipher_name() not in _CIPHERS
        ):
            return None
        secret, client, server = ssl.master_key(), ssl.client_random(), ssl.server_random()
        assert secret is not None and client is not None and server is not None
        return cls(master_secret=secret, client_random=client, server_random=server)

    def encode(self) -> bytes:
        """The datagram with the alert of this end; to be sent once."""
        # the number is higher than those of the handshake, since the peer accepts none twice. The
        # nonce must be new: OpenSSL's start at random and are few, so that a random one repeats one
        # of them with a probability of 2^-60
        number, nonce = _EPOCH + b"\x00\x00\x01\x00\x00\x00", secrets.token_bytes(_NONCE)
        sealed = AESGCM(self._local_key).encrypt(
            self._local_salt + nonce, _CLOSE_NOTIFY, _authenticated(number)
        )
        return _HEADER.pack(_ALERT, _DTLS_1_2, number, len(nonce + sealed)) + nonce + sealed

    def is_in(self, datagram: bytes) -> bool:
        """Whether a datagram contains the peer's alert. Records that fail to verify are ignored."""
        while len(datagram) >= _HEADER.size:
            kind, version, number, length = _HEADER.unpack_from(datagram)
            record = datagram[_HEADER.size : _HEADER.size + length]
            datagram = datagram[_HEADER.size + length :]
            is_alert = (kind, version, number[:2]) == (_ALERT, _DTLS_1_2, _EPOCH)
            if is_alert and length == len(record) == _NONCE + len(_CLOSE_NOTIFY) + _TAG:
                nonce, sealed = self._remote_salt + record[:_NONCE], record[_NONCE:]
                try:
                    alert = AESGCM(self._remote_key).decrypt(nonce, sealed, _authenticated(number))
                except InvalidTag:
                    continue
                if alert[1:] == _CLOSE_NOTIFY[1:]:  # of any level
                    return True
        return False


def _authenticated(number: bytes) -> bytes:
    """The additional authenticated data of an alert (RFC 5246 § 6.2.3.3)."""
    return number + struct.pack("!BHH", _ALERT, _DTLS_1_2, len(_CLOSE_NOTIFY))


def _expand(secret: bytes, seed: bytes, length: int) -> bytes:
    """TLS 1.2's pseudo-random function (RFC 5246 § 5)."""
    output, state = b"", seed
    while len(output) < length:
        state = hmac.digest(secret, state, "sha256")
        output += hmac.digest(secret, state + seed, "sha256")
    return output[:length]
