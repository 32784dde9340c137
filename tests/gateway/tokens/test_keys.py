"""Keys for tokens: what is read, what is refused, and that each has one algorithm."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, rsa
from session_fabric.words.errors import InvalidRequest
from session_fabric_gateway.tokens.keys import check_together, published_keys, read_keys, secret_key

from tests.gateway.tokens.signing import ALGORITHMS, jwk, jwks, pem, private_key, private_pem, secret_jwk


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_public_key_is_read_from_pem_jwk_and_jwks(algorithm: str) -> None:
    key = private_key(algorithm)
    of_pem = read_keys(f"# ours\n{pem(key)}\n", "f")
    of_jwk = read_keys(json.dumps(jwk(algorithm, key, "k1", alg=algorithm, use="sig")), "f")
    of_jwks = read_keys(jwks(jwk(algorithm, key, "k1"), secret_jwk(b"s" * 32, "k2")), "f")
    assert [(one.algorithm, one.kid) for one in of_pem] == [(algorithm, None)]
    assert [(one.algorithm, one.kid) for one in of_jwk] == [(algorithm, "k1")]
    assert [(one.algorithm, one.kid) for one in of_jwks] == [(algorithm, "k1"), ("HS256", "k2")]
    assert of_pem[0].material == of_jwk[0].material == of_jwks[0].material


def test_a_file_may_have_several_pem_keys() -> None:
    text = "".join(pem(private_key(algorithm)) for algorithm in ALGORITHMS)
    assert [key.algorithm for key in read_keys(text, "f")] == list(ALGORITHMS)


def _weak() -> str:
    return pem(rsa.generate_private_key(65537, 1024))


ED = private_key("EdDSA")
WRONG: dict[str, tuple[str, str]] = {
    "nothing": ("", "neither PEM nor JSON"),
    "text": ("a secret of thirty-two bytes or more", "neither PEM nor JSON"),
    "broken JSON": ("{", "not JSON"),
    "a list": ('{"keys":7}', "neither a JWK nor a JWKS"),
    "a key that is a number": ('{"keys":[7]}', "key 0 is no JSON object"),
    "no keys": ('{"keys":[]}', "no keys"),
    "keys for encryption": (jwks(jwk("EdDSA", ED, "k1", use="enc")), "no keys"),
    "an empty JWK": ('{"kty":"OKP"}', "cannot be read as a key"),
    "another kind": ('{"kty":"MARS","x":"y"}', "cannot be read as a key"),
    "a private PEM": (private_pem(ED), "private key"),
    "a private JWK": (json.dumps(jwk("EdDSA", ED) | {"d": "AAAA"}), "private key"),
    "a broken PEM": ("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----", "cannot be read"),
    "half a PEM": ("-----BEGIN PUBLIC KEY-----\nAAAA\n", "no keys"),
    "a weak RSA key": (_weak(), "1024 bits; 2048"),
    "another curve": (pem(ec.generate_private_key(ec.SECP384R1())), "a kind that is not used"),
    "Ed448": (pem(ed448.Ed448PrivateKey.generate()), "a kind that is not used"),
    "a short secret": (json.dumps(secret_jwk(b"s" * 31)), "not safe below 32"),
    "a public key as a secret": (json.dumps(secret_jwk(pem(ED).encode())), "another kind, not a secret"),
    "another algorithm": (json.dumps(jwk("RS256", private_key("RS256"), alg="PS512")), "is for 'PS512'"),
    "HS256 of a public key": (json.dumps(jwk("RS256", private_key("RS256"), alg="HS256")), "is for 'HS256'"),
    "a kid that is none": (json.dumps(jwk("EdDSA", ED) | {"kid": 7}), "kid"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_no_good_key_is_refused_with_a_sentence_that_does_not_tell_it(what: str) -> None:
    text, said = WRONG[what]
    with pytest.raises(InvalidRequest) as refused:
        check_together(read_keys(text, "the-file"))
    assert said in str(refused.value)
    assert "the-file" in str(refused.value)
    for line in text.splitlines():
        assert len(line) < 30 or line not in str(refused.value)


@pytest.mark.parametrize(
    "secret",
    ["short", pem(ED), "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIExample", '{"kty":"oct","k":"c2VjcmV0"}' + " " * 32],
)
def test_a_secret_that_is_weak_or_none_is_refused(secret: str) -> None:
    with pytest.raises(InvalidRequest):
        secret_key(secret)


def test_a_random_secret_is_taken_whatever_its_bytes() -> None:
    for first in range(256):
        read_keys(json.dumps(secret_jwk(bytes([first]) + os.urandom(31))), "f")


def test_of_what_an_issuer_publishes_the_keys_that_can_be_used_are_taken() -> None:
    odd: list[Any] = [
        {"kty": "EC", "crv": "P-521", "x": "AA", "y": "AA", "kid": "odd"},
        jwk("RS256", private_key("RS256"), "enc", use="enc"),
        jwk("RS256", private_key("RS256"), "ps", alg="PS256"),
        secret_jwk(b"s" * 32, "published"),
        {"kid": "nothing"},
        7,
        ["EdDSA"],
        None,
    ]
    data = jwks(*odd, jwk("EdDSA", ED, "k1"), jwk("ES256", private_key("ES256"), "k1"), jwk("EdDSA", ED, "k1"))
    found = published_keys(data.encode(), "u")
    assert [(key.kid, key.algorithm) for key in found.keys] == [("k1", "EdDSA"), ("k1", "ES256")]
    # One for encryption is nothing to be told of.
    assert [sentence.split(" is ")[0].split(" cannot ")[0] for sentence in found.left_out] == [
        f"Key {number}" for number in (0, 2, 3, 4, 5, 6, 7)
    ]
    with pytest.raises(InvalidRequest, match="no key that can be used"):
        published_keys(jwks(*odd).encode(), "u")


def test_keys_that_cannot_be_told_apart_are_refused() -> None:
    one, two = jwk("EdDSA", ED, "k1"), jwk("EdDSA", private_key("EdDSA", 1), "k1")
    with pytest.raises(InvalidRequest, match="Two keys"):
        check_together(read_keys(jwks(one, two), "f"))
    with pytest.raises(InvalidRequest, match="no kid"):
        check_together(read_keys("".join(pem(private_key("EdDSA", number)) for number in range(5)), "f"))
    with pytest.raises(InvalidRequest, match="65 keys"):
        check_together(read_keys(jwks(*(jwk("EdDSA", ED, f"k{number}") for number in range(65))), "f"))


def test_a_key_is_found_by_its_id_for_its_own_algorithm_alone() -> None:
    named = read_keys(jwks(jwk("EdDSA", ED, "k1"), jwk("RS256", private_key("RS256"), "k2")), "f")
    ring = check_together(named)
    assert ring.find("k1", "EdDSA") == [named[0]]
    assert ring.find("k1", "RS256") == []
    assert ring.find("k1", "HS256") == []
    assert ring.find("k3", "EdDSA") is None
    assert ring.find(None, "EdDSA") == [named[0]]
    assert ring.find(None, "ES256") is None


def test_a_key_without_an_id_is_tried_for_tokens_that_name_none_that_is_known() -> None:
    keys = [*read_keys(pem(ED), "f"), *read_keys(jwks(jwk("EdDSA", private_key("EdDSA", 1), "k1")), "f")]
    ring = check_together(keys)
    assert ring.find("k9", "EdDSA") == [keys[0]]
    assert ring.find(None, "EdDSA") == [keys[0]]
    assert ring.find("k1", "EdDSA") == [keys[1]]
