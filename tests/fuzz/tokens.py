"""What says who is asking: tokens, claims, grants, keys of files and of issuers, cookies, tickets."""

from __future__ import annotations

import asyncio
import base64
import json
from http.cookies import CookieError
from typing import Any, Final

import jwt
import orjson
from session_fabric.memory import MemoryBroker
from session_fabric.rules import grants
from session_fabric.rules.claims import read_claims
from session_fabric.rules.revocations import Revoked
from session_fabric.words.parsing import read_json
from session_fabric_gateway.auth import Grant, OpenAuthenticator
from session_fabric_gateway.credentials import _BEARER
from session_fabric_gateway.tickets import BUCKET, Tickets, _key
from session_fabric_gateway.tokens.keys import check_together, published_keys, read_keys, secret_key
from session_fabric_gateway.tokens.sources import KeyKeeper
from session_fabric_gateway.tokens.verifier import JwtAuthenticator

from tests.fuzz.target import Target, refused_by_code, request_of, text_of

SECRET: Final = "a secret of thirty-two bytes or more, for tests alone"
_NOW_S: Final = 1_760_000_000
# Long after whenever this runs, and no more than 30 days after it was issued: tokens are verified by the clock.
_LATE: Final = 4_000_000_000
CLAIMS: Final[dict[str, Any]] = {"sub": "user:ada", "tenant": "acme", "exp": _LATE, "iat": _LATE - 60, "jti": "t1"}
GRANTED: Final[dict[str, Any]] = {"chat-*": ["read", "append"], "x": ["state:plan*", "control:cancel"], "*": ["*"]}


def claims(data: bytes) -> None:
    """Read claims; what they grant can be said again, and grants as much."""
    try:
        value = read_json(data)
    except orjson.JSONDecodeError:
        return
    if not isinstance(value, dict):
        return
    with refused_by_code():
        said = read_claims(value, now_s=_NOW_S, leeway_s=30)
        assert 0 <= said.expires_s < 2**53
        assert said.role in grants.ROLE_DEFAULTS
        orjson.dumps([said.tenant, said.participant, said.token_id])
        granted = said.grants or grants.of_role(said.role)
        granted.allows("chat-1", "control:cancel")
        if said.grants is not None:
            assert grants.parse(said.grants.plain()).plain() == said.grants.plain()


def granted(data: bytes) -> None:
    try:
        value = read_json(data)
    except orjson.JSONDecodeError:
        return
    with refused_by_code():
        found = grants.parse(value)
        assert grants.parse(found.plain()) == grants.Grants(tuple(sorted_rules(found)))


def sorted_rules(found: grants.Grants) -> list[grants.Rule]:
    """Return the rules with their documents in the order in which they are spelled."""
    return [grants.parse({str(rule.sessions): sorted(rule.operations)}).rules[0] for rule in found.rules]


_VERIFIER: Final = JwtAuthenticator(KeyKeeper([secret_key(SECRET)]), Revoked())
_OPEN: Final = OpenAuthenticator(_VERIFIER)


def token(data: bytes) -> None:
    """Verify a token, as it is and as the only thing that is wrong with it is what was signed."""
    with refused_by_code():
        _is_spellable(_done(_VERIFIER.authenticate(text_of(data))))
    with refused_by_code():
        _is_spellable(_done(_OPEN.authenticate(text_of(data))))


def signed(data: bytes) -> None:
    """Verify what an issuer has signed: a header and claims, a line each, which may say anything."""
    header, _, payload = data.partition(b"\n")
    try:
        wanted = orjson.loads(header)
    except orjson.JSONDecodeError:
        wanted = None
    head = {**wanted, "alg": "HS256"} if isinstance(wanted, dict) else {"alg": "HS256"}
    parts = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in (orjson_or_json(head), payload))
    key = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256)
    mark = base64.urlsafe_b64encode(key.sign(parts, SECRET.encode())).rstrip(b"=")
    with refused_by_code():
        _is_spellable(_done(_VERIFIER.authenticate(f"{parts.decode()}.{mark.decode()}")))


def orjson_or_json(value: object) -> bytes:
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:
        return json.dumps(value).encode()


def _done(work: Any) -> Any:
    """Run a coroutine that has nothing to wait for."""
    try:
        work.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("it waits for something")


def _is_spellable(grant: Grant) -> None:
    orjson.dumps([grant.tenant, grant.participant, grant.token_id, grant.grants.plain()])


def keyfile(data: bytes) -> None:
    """Read an operator's file of keys: PEM, a JWK or a JWKS."""
    with refused_by_code():
        for key in check_together(read_keys(data.decode("utf-8", "replace"), "keys.json")).keys:
            assert key.mark


def jwks(data: bytes) -> None:
    """Read what an issuer answers. No secret counts, and no more keys than can be told apart."""
    with refused_by_code():
        found = published_keys(data, "https://issuer.example").keys
        assert 0 < len(found) <= 64
        assert all(key.algorithm != "HS256" for key in found)


def headers(data: bytes) -> None:
    """Read Authorization and Cookie: a line each."""
    said, _, cookie = text_of(data).partition("\n")
    match = _BEARER.fullmatch(said)
    assert match is None or match[1]
    request = request_of("/", Cookie=cookie)
    try:
        found = request.cookies.get("sf")
    except CookieError:
        return
    if found:
        with refused_by_code():
            _is_spellable(_done(_VERIFIER.authenticate(found)))


def ticket(data: bytes) -> None:
    """Take a ticket: one that a client made up, and a good one under which a stranger has stored something."""
    asyncio.run(_tickets(data))


async def _tickets(data: bytes) -> None:
    broker = MemoryBroker()
    tickets = Tickets(broker.bucket(BUCKET))
    with refused_by_code():
        await tickets.redeem(text_of(data))
    await broker.bucket(BUCKET).put(_key("good"), data)
    with refused_by_code():
        _is_spellable(await tickets.redeem("good"))


def _jwt(claims: dict[str, Any], **header: Any) -> bytes:
    return jwt.encode(claims, SECRET, algorithm="HS256", headers=header).encode()


_EC: Final = {
    "kty": "EC",
    "crv": "P-256",
    "kid": "e1",
    "alg": "ES256",
    "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
    "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
}
_OKP: Final = {
    "kty": "OKP",
    "crv": "Ed25519",
    "kid": "d1",
    "use": "sig",
    "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
}
_OCT: Final = {"kty": "oct", "k": base64.urlsafe_b64encode(SECRET.encode()).decode().rstrip("=")}
_RSA: Final = {"kty": "RSA", "kid": "r1", "e": "AQAB", "n": "v" * 342}
_PEM: Final = (
    b"-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n"
    b"-----END PUBLIC KEY-----\n"
)
_STORED: Final = {
    "tenant": "acme",
    "participant": "user:ada",
    "expires_ms": None,
    "sessions": {"*": ["read"]},
    "mine_only": False,
    "token_id": None,
    "issued_ms": 0,
    "key": "k",
    "until_ms": _LATE * 1000,
}

TARGETS: Final = (
    Target(
        "claims",
        claims,
        [orjson.dumps({**CLAIMS, "exp": _NOW_S + 60, "iat": _NOW_S, "sessions": GRANTED}),
         orjson.dumps({"sub": "agent:writer", "tenant": "t", "exp": _NOW_S + 1.5, "role": "agent"})],
    ),
    Target("granted", granted, [orjson.dumps(GRANTED), orjson.dumps({"a": ["state:*"], "b*": ["*"]})]),
    Target("token", token, [_jwt({**CLAIMS, "sessions": GRANTED}), _jwt(CLAIMS, kid="k1"), b"user:ada", b"a.b.c"]),
    Target(
        "signed",
        signed,
        [b'{"typ":"JWT"}\n' + orjson.dumps({**CLAIMS, "sessions": GRANTED}),
         b'{"kid":"k1","b64":true}\n' + orjson.dumps({**CLAIMS, "nbf": 1, "iss": "me", "aud": ["a", "b"], "x": [[]]})],
    ),
    Target(
        "keyfile",
        keyfile,
        [orjson.dumps({"keys": [_EC, _OKP, _RSA]}), orjson.dumps(_OCT), orjson.dumps(_EC), _PEM, _PEM + b"\n" + _PEM],
    ),
    Target(
        "jwks",
        jwks,
        [orjson.dumps({"keys": [_EC, _OKP, _OCT, _RSA]}), orjson.dumps({"keys": [_OKP]}), orjson.dumps(_EC)],
    ),
    Target(
        "headers",
        headers,
        [b"Bearer " + _jwt(CLAIMS) + b"\na=b; sf=" + _jwt(CLAIMS), b'bearer  x \nsf="a\\073b"; $Path=/; sf=2',
         b'\n__Host-a=1;sf=;=;"=";'],
    ),
    Target("ticket", ticket, [orjson.dumps(_STORED), b"good", b"x" * 32]),
)  # fmt: skip
