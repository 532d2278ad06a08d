"""Signed tokens as JSON Web Tokens (RFC 7519), by PyJWT.

The algorithm never is the token's choice: the server's secret verifies HS256 alone, and each public
key the one algorithm of its kind.
"""

from __future__ import annotations

import json
import re
from typing import Any

import jwt
from jwt.types import Options

from adapters.tokens.key_set import KeySet
from domain.errors import GrantInvalid
from domain.ports.tokens import SignedGrant
from domain.session.grants import Grant, roles_named
from domain.session.roles import Role

MAX_TOKEN_CHARACTERS = 4096
"""More than a token of this server can have: one with the longest name and room has 3,000."""
ISSUER = "gapless"
"""`iss` of this server's own tokens: without it, a token is one of others that know the secret."""
AUDIENCE = "gapless"
"""What `aud` has to name, if a token has one: its issuer may write tokens for other services."""
OWN = "HS256"
_FOREIGN = ("RS256", "ES256")
_MAX_TIME = 1e11
"""A later time has no date."""
_SHAPE = re.compile(r"[A-Za-z0-9_-]{1,1000}(\.[A-Za-z0-9_-]+){2}")
_CHECKED: Options = {
    "verify_signature": True,
    "verify_exp": False,  # the service checks times: it has the clock
    "verify_nbf": False,
    "verify_iat": False,
    "verify_aud": False,
    "verify_iss": False,
    "verify_sub": False,
    "verify_jti": False,
}


class _Short(json.JSONEncoder):
    """Writes text as it is: escaped, it would be up to three times as long."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options | {"ensure_ascii": False})


class JwtSigner:
    """Writes tokens with the server's secret, and reads these and those of others."""

    def __init__(self, keys: KeySet | None = None) -> None:
        self._keys = keys

    def needs_secret(self, text: str) -> bool:
        return _algorithm_of(text)[0] == OWN

    async def read(self, text: str, secret: bytes | None) -> SignedGrant | None:
        algorithm, key_id = _algorithm_of(text)
        keys: list[Any] = []
        if algorithm == OWN and secret is not None:
            keys = [secret]
        elif algorithm in _FOREIGN and self._keys is not None:
            keys = [found.key for found in await self._keys.matching(algorithm, key_id)]
        for key in keys:
            try:
                claims = jwt.decode(text, key, algorithms=[algorithm], options=_CHECKED)
            except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
                continue
            return _signed(claims, may_be_own=algorithm == OWN)
        return None

    def sign(self, grant: Grant, secret: bytes) -> str:
        claims: dict[str, Any] = {
            "iss": ISSUER,
            "jti": grant.id,
            "sub": grant.subject,
            "role": sorted(role.value for role in grant.roles),
            "name": grant.name,
            "room": grant.room,
            "once": grant.once or None,
            "iat": grant.issued_at and int(grant.issued_at),
            "exp": grant.expires_at and int(grant.expires_at),
        }
        given = {name: value for name, value in claims.items() if value not in (None, "")}
        return jwt.encode(given, secret, algorithm=OWN, json_encoder=_Short)


def _algorithm_of(text: str) -> tuple[str, str | None]:
    """Return algorithm and key id as a token itself says; empty if it is not a token."""
    if len(text) > MAX_TOKEN_CHARACTERS or not _SHAPE.fullmatch(text):
        return "", None
    try:
        header = jwt.get_unverified_header(text)
    except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
        return "", None
    algorithm, key_id = header.get("alg"), header.get("kid")
    return algorithm if isinstance(algorithm, str) else "", key_id


def _signed(claims: dict[str, Any], *, may_be_own: bool) -> SignedGrant | None:
    """Read the claims of an authentic token; None if they are not understood."""
    audience = claims.get("aud", AUDIENCE)
    if AUDIENCE not in (audience if isinstance(audience, list) else [audience]):
        return None
    try:
        grant = Grant(
            id=_text(claims, "jti") or "",
            subject=_text(claims, "sub") or "",
            roles=_roles(claims.get("role")),
            name=_text(claims, "name"),
            room=_text(claims, "room"),
            once=_truth(claims, "once"),
            issued_at=_time(claims, "iat"),
            begins_at=_time(claims, "nbf"),
            expires_at=_time(claims, "exp"),
        )
    except (GrantInvalid, ValueError, OverflowError):
        return None
    return SignedGrant(grant=grant, is_own=may_be_own and claims.get("iss") == ISSUER)


def _roles(value: Any) -> frozenset[Role]:
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError("role has to be a word or a list of words")
    return roles_named(frozenset(names))


def _text(claims: dict[str, Any], name: str) -> str | None:
    value = claims.get(name)
    if not isinstance(value, str | None):
        raise ValueError(f"{name} has to be text")
    return value


def _truth(claims: dict[str, Any], name: str) -> bool:
    value = claims.get(name, False)
    if not isinstance(value, bool):
        raise ValueError(f"{name} has to be true or false")
    return value


def _time(claims: dict[str, Any], name: str) -> float | None:
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _MAX_TIME:
        raise ValueError(f"{name} has to be a time")
    return float(value)
