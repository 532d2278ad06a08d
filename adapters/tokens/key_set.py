"""Public keys of others who issue tokens: a JSON Web Key Set (RFC 7517) in a file."""

from __future__ import annotations

import asyncio
import json
import logging
import pathlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from adapters.opening import read_found
from domain.errors import SettingInvalid

MAX_BYTES = 256 * 1024
MAX_KEYS = 20
MIN_RSA_BITS = 2048
"""RFC 7518 § 3.3."""
POLL_S = 2.0
"""How often the file is looked at, while there are tokens of others."""
_ALGORITHMS = {"RSA": "RS256", "EC": "ES256"}
_log = logging.getLogger("gapless")


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A key that belongs to one algorithm: no token chooses how it is verified."""

    key_id: str
    algorithm: str
    """RS256 or ES256."""
    key: Any


class KeySet:
    """The keys of a file, which is read again when it changes."""

    def __init__(self, path: str) -> None:
        """Read the file. Raises `SettingInvalid`."""
        self._path = pathlib.Path(path).expanduser()
        self._seen = self._look()
        self._keys = self._read()
        self._next_poll = 0.0

    async def matching(self, algorithm: str, key_id: str | None) -> Sequence[PublicKey]:
        """Return the keys that may have signed a token with this header."""
        if (now := time.monotonic()) >= self._next_poll:
            self._next_poll = now + POLL_S
            await asyncio.to_thread(self._read_if_changed)
        return [
            key
            for key in self._keys
            if key.algorithm == algorithm and (key_id is None or key_id == key.key_id)
        ]

    def _read_if_changed(self) -> None:
        if (seen := self._look()) == self._seen:
            return
        self._seen = seen
        try:
            self._keys = self._read()
        except SettingInvalid as error:
            _log.warning("the keys of before stay in use: %s", error)
        else:
            _log.info("the keys %s have been read again", self._path)

    def _look(self) -> object:
        """Return what tells the file from the one that was there before."""
        try:
            found = self._path.stat()
        except OSError as error:
            return error.errno
        return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns

    def _read(self) -> Sequence[PublicKey]:
        try:
            keys = json.loads(read_found(self._path, MAX_BYTES, follow=True))["keys"]
            if not isinstance(keys, list) or not 0 < len(keys) <= MAX_KEYS:
                raise ValueError(f"1 to {MAX_KEYS} keys are needed")
            return [_public_key(item) for item in keys]
        except OSError as error:
            raise self._invalid(error.strerror or str(error)) from error
        except (KeyError, TypeError, RecursionError) as error:
            raise self._invalid('it has to be {"keys": […]} (RFC 7517)') from error
        except (ValueError, jwt.PyJWTError) as error:
            raise self._invalid(str(error)) from error

    def _invalid(self, problem: str) -> SettingInvalid:
        return SettingInvalid("token_keys", f"cannot use {self._path}: {problem}")


def _public_key(item: Any) -> PublicKey:
    """Read a key. Raises `ValueError`, `TypeError` or `PyJWTError`."""
    if not isinstance(item, dict):
        raise TypeError("a key has to be an object")
    algorithm = _ALGORITHMS.get(str(item.get("kty")))
    if algorithm is None:
        raise ValueError("only RSA and EC keys are public")
    if "d" in item:
        raise ValueError("it has a private key, which belongs to the issuer alone")
    if item.get("alg", algorithm) != algorithm:
        raise ValueError(f"only {algorithm} is supported with this kind of key")
    if item.get("use", "sig") != "sig":
        raise ValueError("a key is not for signatures (its use is not sig)")
    key_id = item.get("kid", "")
    if not isinstance(key_id, str):
        raise TypeError("kid has to be text")
    key: object = jwt.PyJWK(item, algorithm).key
    if isinstance(key, RSAPublicKey) and key.key_size < MIN_RSA_BITS:
        raise ValueError(f"an RSA key needs at least {MIN_RSA_BITS} bits")
    if isinstance(key, EllipticCurvePublicKey) and not isinstance(key.curve, SECP256R1):
        raise ValueError("only EC keys of P-256 are supported")
    return PublicKey(key_id, algorithm, key)
