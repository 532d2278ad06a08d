"""Signs tokens as this server, as others, and as those who should not."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import pathlib
import time
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

SECRET = "0123456789abcdefghijklmnopqrstuv"  # 32 characters
RSA = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())


def claims(**changes: Any) -> dict[str, Any]:
    """Return the claims of a token of others; those that are None are left out."""
    now = int(time.time())
    given = {"sub": "Ana", "role": "publish", "jti": "other-1", "iat": now, "exp": now + 600}
    return {name: value for name, value in (given | changes).items() if value is not None}


def sign(key: Any = SECRET, algorithm: str = "HS256", /, **changes: Any) -> str:
    return jwt.encode(claims(**changes), key, algorithm=algorithm)


def sign_by_hand(header: dict[str, Any] | str, body: dict[str, Any] | str, key: bytes) -> str:
    """Sign with HMAC-SHA256, whatever the header says; a library would refuse that."""
    parts = [item if isinstance(item, str) else json.dumps(item) for item in (header, body)]
    signed = ".".join(_encoded(part.encode()) for part in parts)
    return f"{signed}.{_encoded(hmac.digest(key, signed.encode(), hashlib.sha256))}"


def unsigned(algorithm: str = "none", **changes: Any) -> str:
    header = json.dumps({"alg": algorithm, "typ": "JWT"}).encode()
    return f"{_encoded(header)}.{_encoded(json.dumps(claims(**changes)).encode())}."


def pem_of(key: Any) -> bytes:
    """Return the public key of a private one."""
    found: bytes = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return found


def jwk_of(key: Any, key_id: str = "", **more: Any) -> dict[str, Any]:
    """Return the public key of a private one as a JSON Web Key."""
    algorithm: Any = RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else ECAlgorithm
    found = algorithm.to_jwk(key.public_key(), as_dict=True)
    found.pop("key_ops", None)
    return found | ({"kid": key_id} if key_id else {}) | more


def write_keys(path: pathlib.Path, *keys: dict[str, Any]) -> str:
    path.write_text(json.dumps({"keys": keys}))
    return str(path)


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
