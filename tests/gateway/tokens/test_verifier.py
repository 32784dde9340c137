"""Tokens: the good ones say who is asking; of the bad ones each kind is refused for what it is."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from session_fabric.rules.revocations import LONGEST_S, Revocation, Revoked
from session_fabric.words.errors import FabricError, TokenExpired, Unauthenticated
from session_fabric_gateway.auth import Grant
from session_fabric_gateway.tokens.keys import Key, read_keys, secret_key
from session_fabric_gateway.tokens.shape import peek
from session_fabric_gateway.tokens.sources import KeyKeeper
from session_fabric_gateway.tokens.verifier import JwtAuthenticator

from tests.gateway.tokens.signing import (
    ALGORITHMS,
    b64,
    claims,
    jwk,
    jwks,
    pem,
    private_key,
    secret_jwk,
    sign,
    token,
    unsigned,
)

SECRET = b"thirty-two bytes of secret, really"
NOW = int(time.time())
EVERY = read_keys(
    jwks(*(jwk(algorithm, private_key(algorithm), algorithm) for algorithm in ALGORITHMS), secret_jwk(SECRET, "HS256")),
    "f",
)
ED = read_keys(jwks(jwk("EdDSA", private_key("EdDSA"), "k1")), "f")
RSA = pem(private_key("RS256"))


def verifier(keys: Sequence[Key] = ED, revoked: Revoked | None = None, **more: Any) -> JwtAuthenticator:
    return JwtAuthenticator(KeyKeeper(keys), revoked or Revoked(), **more)


async def why(token: str | None, one: JwtAuthenticator | None = None) -> str:
    """Return why a token is refused."""
    with pytest.raises(FabricError) as refused:
        await (one or verifier()).authenticate(token)
    if token:  # it is not told again, to anybody
        assert token not in f"{refused.value} {refused.value.facts}"
    if isinstance(refused.value, TokenExpired):
        return "expired"
    assert isinstance(refused.value, Unauthenticated)
    return str(refused.value.facts["reason"])


@pytest.mark.parametrize("algorithm", [*ALGORITHMS, "HS256"])
async def test_a_good_token_says_who_is_asking(algorithm: str) -> None:
    key = SECRET if algorithm == "HS256" else private_key(algorithm)
    made = token(algorithm, key, kid=algorithm, jti="t1", role="user", iat=NOW - 5, exp=NOW + 3600)
    grant = await verifier(EVERY).authenticate(made)
    assert (grant.tenant, grant.participant, grant.role, grant.token_id) == ("acme", "user:ada", "user", "t1")
    assert (grant.issued_ms, grant.expires_ms) == ((NOW - 5) * 1000, (NOW + 3630) * 1000)


async def test_what_a_token_grants_is_what_its_sessions_say() -> None:
    grants = (await verifier().authenticate(token(sessions={"chat-*": ["read"]}))).grants
    assert grants.allows("chat-42", "read")
    assert not grants.allows("chat-42", "append")
    assert not grants.mine_only


@pytest.mark.parametrize(
    ("participant", "mine_only"), [("user:ada", True), ("agent:a", False), ("operator:eve", False)]
)
async def test_without_sessions_it_grants_what_its_role_does(participant: str, mine_only: bool) -> None:
    grants = (await verifier().authenticate(token(sub=participant))).grants
    assert grants.allows("any", "read")
    assert not grants.allows("any", "erase")
    assert grants.mine_only is mine_only


async def test_a_development_secret_lets_users_into_all_sessions_of_their_tenant() -> None:
    one = verifier([secret_key(SECRET.decode())], audience=None)
    grant = await one.authenticate(token("HS256", SECRET, kid=None))
    assert not grant.grants.mine_only
    assert (await one.authenticate(token("HS256", SECRET, kid=None, exp=NOW + 3600))).expires_ms == (NOW + 3600) * 1000
    assert await why(token("HS256", SECRET, kid=None, exp=NOW - 1), one) == "expired"


BAD: dict[str, tuple[str, str | None]] = {
    "none": ("missing", None),
    "empty": ("missing", ""),
    "no JWT": ("malformed", "user:ada"),
    "two parts": ("malformed", "e30.e30"),
    "four parts": ("malformed", token() + ".x"),
    "spaces": ("malformed", f" {token()}"),
    "padded": ("malformed", token() + "=="),
    "surrogates": ("malformed", "\udcff" * 40),
    "not ASCII": ("malformed", token().replace("e", "é")),
    "header of another kind": ("malformed", unsigned([], claims())),
    "claims of another kind": ("malformed", unsigned({"alg": "EdDSA"}, [])),
    "header is no JSON": ("malformed", unsigned(b"{", claims())),
    "claims are no JSON": ("malformed", unsigned({"alg": "EdDSA"}, b'{"a":NaN}')),
    "broken base64": ("malformed", "e.e30.AAAA"),
    "a character is missing": ("malformed", token()[:-1]),
    "five characters are missing": ("malformed", token()[:-5]),
    "one of a signature is left": ("malformed", token()[:-85]),
    "a deep header": ("malformed", unsigned(b'{"alg":' + b"[" * 5000 + b"]" * 5000 + b"}", claims())),
    "deep claims": ("malformed", unsigned({"alg": "EdDSA"}, b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}")),
    "signed deep claims": ("malformed", token(a=json.loads("[" * 9 + "]" * 9))),
    "huge": ("malformed", token(padding="x" * 16_384)),
    "very huge": ("malformed", "x" * 10_000_000),
    "crit": ("malformed", token(headers={"crit": ["exp"]})),
    "b64 false": ("malformed", token(headers={"b64": True, "crit": ["b64"]})),
    "a kid of another kind": ("malformed", unsigned({"alg": "EdDSA", "kid": 7}, claims(), b"x" * 64)),
    "a long kid": ("malformed", token(kid="k" * 256)),
    "alg none": ("algorithm", unsigned({"alg": "none"}, claims())),
    "alg None": ("algorithm", unsigned({"alg": "None", "kid": "k1"}, claims())),
    "alg null": ("algorithm", unsigned({"alg": None}, claims())),
    "no alg": ("algorithm", unsigned({}, claims())),
    "alg of another kind": ("algorithm", unsigned({"alg": ["EdDSA"]}, claims())),
    "another algorithm": ("algorithm", token("HS512", SECRET * 2)),
    "PS256": ("algorithm", token("PS256", private_key("RS256"))),
    "an unknown key": ("key", token(kid="k2")),
    "no such key": ("key", token("ES256", kid=None)),
    "another's signature": ("signature", token(key=private_key("EdDSA", 1))),
    "no signature": ("signature", unsigned({"alg": "EdDSA", "kid": "k1"}, claims())),
    "two characters are missing": ("signature", token()[:-2]),
    "a short signature": ("signature", unsigned({"alg": "EdDSA", "kid": "k1"}, claims(), b"x" * 63)),
    "expired": ("expired", token(exp=NOW - 31)),
    "expired long ago": ("expired", token(exp=0)),
    "not yet valid": ("not_yet", token(nbf=NOW + 43_200)),
    "issued in the future": ("not_yet", token(iat=NOW + 43_200)),
    "an audience": ("audience", token(aud="shop")),
    "no exp": ("claims", token(exp=None)),
    "no sub": ("claims", token(sub=None)),
    "no tenant": ("claims", token(tenant=None)),
    "exp is text": ("claims", token(exp=str(NOW + 3600))),
    "exp is a word": ("claims", token(exp="tomorrow")),
    "exp is a list": ("claims", token(exp=[NOW])),
    "exp is for ever": ("claims", token(exp=10**30)),
    "iat is text": ("claims", token(iat="1")),
    "iat is negative": ("claims", token(iat=-1, exp=NOW + 3600)),
    "too long a life": ("claims", token(exp=NOW + LONGEST_S + 43_200)),
    "too long a life without iat": ("claims", token(iat=None, exp=NOW + LONGEST_S + 43_200)),
    "sub is a number": ("claims", token(sub="7")),
    "sub of no role": ("claims", token(sub="root:ada")),
    "sub with a wildcard": ("claims", token(sub="user:*")),
    "sub with a subject": ("claims", token(sub="user:>")),
    "a tenant with a point": ("claims", token(tenant="a.b")),
    "a tenant that is a list": ("claims", token(tenant=["acme"])),
    "another role": ("claims", token(role="operator")),
    "a role that is a list": ("claims", token(role=["user"])),
    "an odd jti": ("claims", token(jti="a\nb")),
    "a long jti": ("claims", token(jti="j" * 256)),
    "sessions is null": ("grants", sign(claims() | {"sessions": None})),
    "sessions is text": ("grants", token(sessions="*")),
    "no sessions": ("grants", token(sessions={})),
    "a subject": ("grants", token(sessions={"chat.>": ["read"]})),
    "a regular expression": ("grants", token(sessions={"^chat-[0-9]+$": ["read"]})),
    "a star in the middle": ("grants", token(sessions={"chat-*-x": ["read"]})),
    "an unknown operation": ("grants", token(sessions={"chat": ["raed"]})),
    "an operation of another kind": ("grants", token(sessions={"chat": [["read"]]})),
    "many patterns": ("grants", token(sessions={f"s{number}": ["read"] for number in range(65)})),
}


@pytest.mark.parametrize("what", BAD)
async def test_a_bad_token_is_refused_for_what_it_is(what: str) -> None:
    reason, bad = BAD[what]
    assert await why(bad) == reason


async def test_a_token_that_grants_what_is_none_names_it() -> None:
    with pytest.raises(Unauthenticated, match=r"chat\.>"):
        await verifier().authenticate(token(sessions={"chat.>": ["read"]}))
    with pytest.raises(Unauthenticated, match="raed"):
        await verifier().authenticate(token(sessions={"chat": ["raed"]}))


def forged(secret: bytes, kid: str | None = "k1") -> str:
    """Sign with a public key as if it were a secret, as no library does any more."""
    head = b64(json.dumps({"alg": "HS256"} | ({} if kid is None else {"kid": kid})).encode())
    body = b64(json.dumps(claims()).encode())
    return f"{head}.{body}.{b64(hmac.digest(secret, f'{head}.{body}'.encode(), hashlib.sha256))}"


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("kid", ["k1", None])
async def test_a_public_key_is_no_secret(algorithm: str, kid: str | None) -> None:
    public = private_key(algorithm)
    spelled = jwk(algorithm, public)
    raw = base64.urlsafe_b64decode(spelled.get("x", spelled.get("n", "")) + "==")
    for secret in (pem(public).encode(), pem(public).strip().encode(), json.dumps(spelled).encode(), raw, b""):
        named = verifier(read_keys(jwks(jwk(algorithm, public, "k1")), "f"))
        assert await why(forged(secret, kid), named) == ("algorithm" if kid else "key")
        unnamed = verifier(read_keys(pem(public), "f"))
        assert await why(forged(secret, kid), unnamed) == "key"
        beside_a_secret = verifier([*read_keys(pem(public), "f"), secret_key(SECRET.decode())])
        assert await why(forged(secret, kid), beside_a_secret) == "signature"


async def test_a_key_for_one_algorithm_verifies_no_other() -> None:
    one = verifier(EVERY)
    for named in (*ALGORITHMS, "HS256"):
        for used in ALGORITHMS:
            if named != used:
                assert await why(token(used, kid=named), one) == "algorithm"


async def test_issuer_and_audience_must_be_those_that_are_set() -> None:
    one = verifier(issuers=["https://one.example", "https://two.example"], audience="fabric")
    good = {"iss": "https://two.example", "aud": ["else", "fabric"]}
    assert (await one.authenticate(token(**good))).participant == "user:ada"
    for reason, wrong in [
        ("issuer", {"iss": "https://three.example"}),
        ("issuer", {"iss": None}),
        ("issuer", {"iss": ["https://two.example"]}),
        ("issuer", {"iss": "https://two.example/"}),
        ("audience", {"aud": "fabrics"}),
        ("audience", {"aud": None}),
        ("audience", {"aud": []}),
        ("audience", {"aud": {"fabric": True}}),
        ("audience", {"aud": ["fabric", 7]}),
    ]:
        assert await why(token(**{**good, **wrong}), one) == reason, wrong


@pytest.mark.parametrize(("exp", "nbf", "good"), [(-20, 0, True), (-40, 0, False), (60, 20, True), (60, 40, False)])
async def test_clocks_may_differ_by_the_leeway(exp: int, nbf: int, good: bool) -> None:
    now = int(time.time())
    made = token(iat=now - 100, exp=now + exp, nbf=now + nbf)
    if good:
        assert (await verifier().authenticate(made)).expires_ms == (now + exp + 30) * 1000
    else:
        assert await why(made) in ("expired", "not_yet")


async def test_a_token_that_was_good_is_not_taken_for_another() -> None:
    one = verifier()
    good = token()
    await one.authenticate(good)
    head, _, signature = good.split(".")
    other = b64(json.dumps(claims(sub="user:eve")).encode())
    assert await why(f"{head}.{other}.{signature}", one) == "signature"
    assert (await one.authenticate(good)).participant == "user:ada"


async def test_a_token_that_was_good_is_good_until_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    one = verifier()
    good = token(exp=int(time.time()) + 60)
    grant = await one.authenticate(good)
    assert await one.authenticate(good) is grant  # not verified again
    verified = one._kept.copy()
    one._kept.clear()
    one._kept.update({digest: kept._replace(grant=grant._replace(expires_ms=1)) for digest, kept in verified.items()})
    assert (await one.authenticate(good)).expires_ms == grant.expires_ms  # it has ended here: verified again


async def test_what_is_kept_of_tokens_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("session_fabric_gateway.tokens.verifier._MOST_KEPT", 3)
    one = verifier()
    for number in range(5):
        await one.authenticate(token(jti=f"t{number}"))
        await why(token(jti=f"t{number}", exp=1), one)
    assert len(one._kept) == 3


def revocation(of: Any, name: str, before_ms: int = 0) -> Revocation:
    return Revocation("acme", of, name, before_ms, 2**52)


async def test_a_token_that_is_revoked_counts_no_more() -> None:
    revoked = Revoked()
    one = verifier(revoked=revoked)
    first, second = token(jti="t1", iat=NOW - 100), token(jti="t2", iat=NOW - 50)
    no_time = token(iat=None)
    for made in (first, second, no_time):
        await one.authenticate(made)
    revoked.put(revocation("token", "t1"))
    assert await why(first, one) == "revoked"
    await one.authenticate(second)
    revoked.put(revocation("participant", "user:ada", before_ms=(NOW - 50) * 1000))
    await one.authenticate(second)
    assert await why(no_time, one) == "revoked"
    revoked.put(revocation("participant", "user:ada", before_ms=(NOW - 49) * 1000))
    assert await why(second, one) == "revoked"
    revoked.drop(revocation("participant", "user:ada").key)
    await one.authenticate(second)


async def test_for_a_revoked_session_older_tokens_grant_nothing() -> None:
    revoked = Revoked()
    one = verifier(revoked=revoked)
    old, new = token(iat=NOW - 100, sessions={"*": ["*"]}), token(iat=NOW - 10, sessions={"*": ["*"]})

    async def reads(made: str, session: str) -> bool:
        return (await one.authenticate(made)).grants.allows(session, "read")

    assert await reads(old, "chat-42")
    revoked.put(revocation("session", "chat-42", before_ms=(NOW - 50) * 1000))
    assert (await reads(old, "chat-42"), await reads(old, "chat-7")) == (False, True)
    assert await reads(new, "chat-42")
    revoked.drop(revocation("session", "chat-42").key)
    assert await reads(old, "chat-42")


TOKENS = st.sampled_from([token(), token("HS256", SECRET), unsigned({"alg": "none"}, claims())])


@given(TOKENS, st.data())
@example(unsigned({"alg": "EdDSA", "kid": None}, b"{}"), None)
def test_whatever_is_sent_is_read_or_refused(good: str, data: Any) -> None:
    text = good
    if data is not None:
        at, upto = sorted((data.draw(st.integers(0, len(good))), data.draw(st.integers(0, len(good)))))
        text = good[:at] + data.draw(st.text(max_size=20)) + good[upto:]
    try:
        outcome = peek(text).algorithm
    except Unauthenticated as error:
        outcome = error.facts["reason"]
    assert outcome in (*ALGORITHMS, "HS256", "malformed", "algorithm")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=9,
)
NAMES = st.sampled_from([*claims(), "nbf", "aud", "iss", "jti", "role", "sessions", "x"])


@given(st.dictionaries(NAMES, JSON))
async def test_whatever_an_issuer_signs_is_granted_or_refused(odd: dict[str, Any]) -> None:
    try:
        grant = await verifier().authenticate(sign(claims() | odd))
    except (Unauthenticated, TokenExpired):
        return
    assert isinstance(grant, Grant)
