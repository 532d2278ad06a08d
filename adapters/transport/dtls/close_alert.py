"""What DTLS has left to do after a handshake: to say goodbye, and to hear it said.

OpenSSL keeps about 100 kB for a connection: buffers of whole records, flights that might have to
be sent again. To a client of DTLS 1.2 nothing of that happens any more: the handshake is over
with the server's last flight (RFC 6347 § 4.2.4), and what WebRTC sends is SRTP. There remain the
``close_notify`` alerts of both ends, which are one record each.
"""

from __future__ import annotations

import hmac
import secrets
import struct

from aiortc import RTCDtlsTransport
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_HEADER = struct.Struct("!BH8sH")
_ALERT, _DTLS_1_2 = 21, 0xFEFD
_EPOCH = b"\x00\x01"  # the one that the handshake has begun
_CLOSE_NOTIFY = b"\x01\x00"
_KEY, _SALT, _NONCE, _TAG = 16, 4, 8, 16


class CloseAlert:
    """The closing alerts of a DTLS client's connection (RFC 5246 § 7.2.1, AES-GCM of RFC 5288)."""

    def __init__(self, *, master_secret: bytes, client_random: bytes, server_random: bytes) -> None:
        seed = b"key expansion" + server_random + client_random
        keys = _expand(master_secret, seed, 2 * (_KEY + _SALT))  # RFC 5246 § 6.3
        self._own_key, self._peers_key = keys[:_KEY], keys[_KEY : 2 * _KEY]
        self._own_salt, self._peers_salt = keys[2 * _KEY : -_SALT], keys[-_SALT:]

    @classmethod
    def of(cls, dtls: RTCDtlsTransport) -> CloseAlert | None:
        """That of a connection which has its handshake behind it.

        None where OpenSSL has to stay: a server may have to repeat the last flight, and other
        ciphers are too rare to be spoken here.
        """
        ssl = dtls._ssl
        if (
            ssl is None
            or dtls._role != "client"
            or ssl.get_protocol_version_name() != "DTLSv1.2"
            or ssl.get_cipher_name() != "ECDHE-ECDSA-AES128-GCM-SHA256"
        ):
            return None
        secret, client, server = ssl.master_key(), ssl.client_random(), ssl.server_random()
        assert secret is not None and client is not None and server is not None
        return cls(master_secret=secret, client_random=client, server_random=server)

    def say(self) -> bytes:
        """The datagram that tells the peer. To be sent once."""
        # the number is beyond those of the handshake: the peer takes none twice. OpenSSL's nonces
        # begin at random, too, and are few: that this is one of them has a chance of 1 in 2^60
        number, nonce = _EPOCH + b"\x00\x00\x01\x00\x00\x00", secrets.token_bytes(_NONCE)
        sealed = AESGCM(self._own_key).encrypt(
            self._own_salt + nonce, _CLOSE_NOTIFY, _authenticated(number)
        )
        return _HEADER.pack(_ALERT, _DTLS_1_2, number, len(nonce + sealed)) + nonce + sealed

    def is_in(self, datagram: bytes) -> bool:
        """Whether the peer says goodbye. Whatever cannot be authenticated says nothing."""
        while len(datagram) >= _HEADER.size:
            kind, version, number, length = _HEADER.unpack_from(datagram)
            record = datagram[_HEADER.size : _HEADER.size + length]
            datagram = datagram[_HEADER.size + length :]
            is_alert = (kind, version, number[:2]) == (_ALERT, _DTLS_1_2, _EPOCH)
            if is_alert and length == len(record) == _NONCE + len(_CLOSE_NOTIFY) + _TAG:
                nonce, sealed = self._peers_salt + record[:_NONCE], record[_NONCE:]
                try:
                    alert = AESGCM(self._peers_key).decrypt(nonce, sealed, _authenticated(number))
                except InvalidTag:
                    continue
                if alert[1:] == _CLOSE_NOTIFY[1:]:  # whatever its level is
                    return True
        return False


def _authenticated(number: bytes) -> bytes:
    """What the tag of an alert stands for beside the alert (RFC 5246 § 6.2.3.3)."""
    return number + struct.pack("!BHH", _ALERT, _DTLS_1_2, len(_CLOSE_NOTIFY))


def _expand(secret: bytes, seed: bytes, length: int) -> bytes:
    """TLS 1.2's pseudo-random function (RFC 5246 § 5)."""
    output, state = b"", seed
    while len(output) < length:
        state = hmac.digest(secret, state, "sha256")
        output += hmac.digest(secret, state + seed, "sha256")
    return output[:length]
