"""A token is let in by its signature, its claims and what is known of it, and by nothing else."""

from __future__ import annotations

import asyncio
import json
import pathlib
import time
from collections.abc import AsyncIterator
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from adapters.tokens.key_set import KeySet
from adapters.tokens.signing import MAX_TOKEN_CHARACTERS, JwtSigner
from domain.errors import GrantInvalid, SettingInvalid, Unauthorized
from domain.services.server.tokens import TokenService
from domain.session.grants import Grant
from domain.session.roles import Role
from tests.fakes.http import token_service
from tests.rigs.tokens import (
    EC,
    RSA,
    SECRET,
    claims,
    jwk_of,
    pem_of,
    sign,
    sign_by_hand,
    unsigned,
    write_keys,
)

PUBLISH = frozenset({Role.PUBLISH})
OTHER_RSA = rsa.generate_private_key(65537, 2048)
OTHER_EC = ec.generate_private_key(ec.SECP256R1())
HEADER = {"alg": "HS256", "typ": "JWT"}


@pytest.fixture
async def service(tmp_path: pathlib.Path) -> AsyncIterator[TokenService]:
    keys = write_keys(tmp_path / "keys.json", jwk_of(RSA, "rsa"), jwk_of(EC, "ec"))
    made = token_service(str(tmp_path), signer=JwtSigner(KeySet(keys)), secret=SECRET.encode())
    yield made
    made.close()


@pytest.mark.parametrize(
    ("key", "algorithm", "key_id"),
    [
        (SECRET, "HS256", None), (RSA, "RS256", "rsa"), (RSA, "RS256", None), (EC, "ES256", "ec"),
    ],
)  # fmt: skip
async def test_tokens_of_others_say_what_they_allow(
    service: TokenService, key: Any, algorithm: str, key_id: str | None
) -> None:
    text = jwt.encode(
        claims(name="Ana", room="friday", once=True, aud=["gapless", "mail"]),
        key,
        algorithm=algorithm,
        headers={"kid": key_id} if key_id else None,
    )
    grant = await service.grant_of(text)
    assert grant is not None
    assert (grant.roles, grant.subject, grant.id) == (PUBLISH, "Ana", "other-1")
    assert (grant.name, grant.room, grant.once) == ("Ana", "friday", True)


async def test_a_token_may_have_several_roles(service: TokenService) -> None:
    grant = await service.grant_of(sign(role=["watch", "publish"]))
    assert grant is not None and grant.roles == {Role.WATCH, Role.PUBLISH}


BAD_SIGNATURES = {
    "another secret": sign("another secret that is as long as it"),
    "another RSA key": sign(OTHER_RSA, "RS256"),
    "another EC key": sign(OTHER_EC, "ES256"),
    "alg none": unsigned(),
    "alg None": unsigned("None"),
    "alg NONE": unsigned("nOnE"),
    "no algorithm": sign_by_hand({"typ": "JWT"}, claims(), SECRET.encode()),
    "a number as algorithm": sign_by_hand({"alg": 256}, claims(), SECRET.encode()),
    "a key id that is no text": sign_by_hand(HEADER | {"kid": {}}, claims(), SECRET.encode()),
    "HS384": sign(SECRET * 2, "HS384"),
    "HS512": sign(SECRET * 2, "HS512"),
    "RS512 with the right key": sign(RSA, "RS512"),
    "PS256 with the right key": sign(RSA, "PS256"),
    "EdDSA": sign(ed25519.Ed25519PrivateKey.generate(), "EdDSA"),
    "HS256 with a public RSA key": sign_by_hand(HEADER, claims(), pem_of(RSA)),
    "HS256 with a public EC key": sign_by_hand(HEADER, claims(), pem_of(EC)),
    "HS256 with no key": sign_by_hand(HEADER, claims(), b""),
    "HMAC that says RS256": sign_by_hand({"alg": "RS256"}, claims(), SECRET.encode()),
    "a key of its own": sign_by_hand(
        {"alg": "RS256", "jwk": jwk_of(OTHER_RSA)}, claims(), SECRET.encode()
    ),
    "a critical header": sign_by_hand(
        HEADER | {"crit": ["exp2"], "exp2": 1}, claims(), SECRET.encode()
    ),
    "a signature that was cut": sign()[:-2],
    "no signature": sign().rpartition(".")[0] + ".",
    "claims that were changed": sign().replace(".", ".e", 1),
}
BAD_CLAIMS = {
    "no end": sign(exp=None),
    "an end that is text": sign_by_hand(HEADER, claims(exp="never"), SECRET.encode()),
    "an end beyond all dates": sign(exp=10**15),
    "an endless end": sign_by_hand(HEADER, '{"role": "publish", "exp": Infinity}', SECRET.encode()),
    "no number": sign_by_hand(HEADER, '{"role": "publish", "exp": NaN}', SECRET.encode()),
    "no role": sign(role=None),
    "no roles": sign(role=[]),
    "an unknown role": sign(role="owner"),
    "a role that is a number": sign(role=[1]),
    "a limited administrator": sign(role="admin", name="Ana"),
    "a limited watcher": sign(role=["watch", "publish"], room="friday"),
    "once without an id": sign(once=True, jti=None),
    "once as text": sign(once="yes"),
    "a name that is too long": sign(name="a" * 201),
    "a name that is a list": sign(name=["Ana"]),
    "a room that is too long": sign(room="a" * 101),
    "a room of two lines": sign(room="fri\nday"),
    "half a character": sign(name="\ud800"),
    "an empty name": sign(name=""),
    "an id that is too long": sign(jti="a" * 65),
    "for another service": sign(aud="mail"),
    "for other services": sign(aud=["mail", "news"]),
    "of this server, which has not issued it": sign(iss="gapless"),
    "of this server, without an end": sign(iss="gapless", exp=None),
}
MALFORMED = {
    "no token": "token",
    "too few parts": "a.b",
    "too many parts": f"{sign()}.x",
    "not base64": "%%%.abc.abc",
    "base64 of nothing": "abc.abc.abc",
    "not ASCII": "é.é.é",
    "header is a list": sign_by_hand("[]", claims(), SECRET.encode()),
    "header is no JSON": sign_by_hand("{", claims(), SECRET.encode()),
    "header is deep": sign_by_hand("[" * 700, claims(), SECRET.encode()),
    "claims are a list": sign_by_hand(HEADER, "[]", SECRET.encode()),
    "claims are no JSON": sign_by_hand(HEADER, "{", SECRET.encode()),
    "claims are deep": sign_by_hand(HEADER, "[" * 2000, SECRET.encode()),
    "too long": sign(x="a" * MAX_TOKEN_CHARACTERS),
    "a number of 5000 digits": sign_by_hand(HEADER, '{"exp": ' + "1" * 2900 + "}", SECRET.encode()),
}


@pytest.mark.parametrize("text", [
    pytest.param(text, id=name)
    for name, text in (BAD_SIGNATURES | BAD_CLAIMS | MALFORMED).items()
])  # fmt: skip
async def test_what_is_not_authentic_is_no_token(service: TokenService, text: str) -> None:
    assert await service.grant_of(text) is None


async def test_a_token_has_its_time(service: TokenService) -> None:
    now = int(time.time())
    for when in ({"exp": now - 1}, {"nbf": now + 60}):
        with pytest.raises(Unauthorized, match="has expired"):
            await service.grant_of(sign(**when))
    assert await service.grant_of(sign(exp=now + 60, nbf=now - 60)) is not None


async def test_a_token_is_as_long_as_a_name_and_a_room_can_be(service: TokenService) -> None:
    longest = "\U0001f3a4" * 200
    wanted = Grant(
        id="new", roles=PUBLISH, subject=longest, name=longest, room=longest[:100], once=True
    )
    issued = await service.issue(wanted, expires_s=1e8)
    assert len(issued.text) < MAX_TOKEN_CHARACTERS
    print(len(issued.text))
    found = await service.grant_of(issued.text)
    assert found is not None and found.name == longest


async def test_a_server_without_a_secret_knows_no_tokens(tmp_path: pathlib.Path) -> None:
    service = token_service(str(tmp_path))
    for text in (sign(), unsigned(), sign(RSA, "RS256")):
        assert await service.grant_of(text) is None
    assert not list(tmp_path.iterdir())
    service.close()


async def test_keys_of_others_are_read_again(tmp_path: pathlib.Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("adapters.tokens.key_set.POLL_S", 0.0)
    path = tmp_path / "keys.json"
    service = token_service(signer=JwtSigner(KeySet(write_keys(path, jwk_of(RSA)))))
    assert await service.grant_of(sign(RSA, "RS256")) is not None
    path.write_text("{")
    assert await service.grant_of(sign(RSA, "RS256")) is not None
    write_keys(path, jwk_of(OTHER_RSA, "new"))
    assert await service.grant_of(sign(OTHER_RSA, "RS256")) is not None
    assert await service.grant_of(sign(RSA, "RS256")) is None
    service.close()


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ([{"kty": "oct", "k": "c2VjcmV0"}], "only RSA and EC keys are public"),
        ([{**jwk_of(RSA), "d": "AQAB"}], "private key"),
        ([jwk_of(rsa.generate_private_key(65537, 1024))], "at least 2048 bits"),
        ([jwk_of(ec.generate_private_key(ec.SECP384R1()))], "P-256"),
        ([jwk_of(RSA, alg="RS512")], "only RS256"),
        ([jwk_of(RSA, alg="HS256")], "only RS256"),
        ([jwk_of(RSA, use="enc")], "not for signatures"),
        ([{"kty": "RSA"}], "cannot use"),
        ([{"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}], "cannot use"),
        ([1], "it has to be"),
        ([], "1 to 20 keys"),
        ([jwk_of(RSA)] * 21, "1 to 20 keys"),
    ],
)  # fmt: skip
def test_keys_that_cannot_be_used_are_named(
    tmp_path: pathlib.Path, keys: list[Any], problem: str
) -> None:
    path = tmp_path / "keys.json"
    path.write_text(json.dumps({"keys": keys}))
    with pytest.raises(SettingInvalid, match=problem) as caught:
        KeySet(str(path))
    assert caught.value.name == "token_keys"


@pytest.mark.parametrize("content", [None, b"", b"[]", b"\xff", b"[" * 100_000, b" " * 300_000])
def test_a_file_that_has_no_keys_is_refused(tmp_path: pathlib.Path, content: bytes | None) -> None:
    path = tmp_path / "keys.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SettingInvalid, match="token_keys: cannot use"):
        KeySet(str(path))


async def test_many_checks_at_once_do_not_mix(service: TokenService) -> None:
    texts = [sign(sub=f"guest {number}", jti=f"id {number}") for number in range(50)]
    grants = await asyncio.gather(*map(service.grant_of, texts))
    assert [grant and grant.subject for grant in grants] == [f"guest {n}" for n in range(50)]


def test_limits_that_exclude_each_other_are_refused() -> None:
    for wrong in (
        {"roles": frozenset[Role]()},
        {"roles": frozenset({Role.ADMIN}), "once": True},
        {"roles": PUBLISH, "id": "", "once": True},
        {"roles": PUBLISH, "room": ""},
    ):
        with pytest.raises(GrantInvalid):
            Grant(**{"id": "1", **wrong})  # type: ignore[arg-type]
