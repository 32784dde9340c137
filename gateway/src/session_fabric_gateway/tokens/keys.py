"""Keys that verify tokens, each for one algorithm: read from PEM, JWK and JWKS, and found by their id. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import jwt
import orjson
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key
from session_fabric.words.errors import InvalidRequest
from session_fabric.words.parsing import read_json

from session_fabric_gateway.tokens.shape import Algorithm

# RFC 7518 3.2: a key for HS256 has at least as many bits as the hash.
LEAST_SECRET_BYTES: Final = 32
# RFC 7518 3.3 has 2048 as the least. Verifying with a larger one takes longer for everybody.
_RSA_BITS: Final = (2048, 8192)
# Each token without a kid may be tried with the keys without one.
_MOST_UNNAMED: Final = 4
_MOST_KEYS: Final = 64
_PEM: Final = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----.+?-----END \1-----", re.DOTALL)
_MARKS_OF_OTHERS: Final = (b"-----BEGIN", b"ssh-", b"ecdsa-", b'{"')

Public = Ed25519PublicKey | EllipticCurvePublicKey | RSAPublicKey


@dataclass(frozen=True, slots=True)
class Key:
    """What verifies one algorithm's signatures, and no other's: a public key cannot be taken for a secret.

    `kid` None: it has no name, and is tried for tokens whose key has no other. `development`: it is a secret for trying
    things out: users whose tokens name no sessions may enter all of their tenant's.
    """

    algorithm: Algorithm
    material: Public | bytes
    kid: str | None = None
    development: bool = False
    # What tells it from other keys, and says nothing of a secret.
    mark: str = field(init=False)

    def __post_init__(self) -> None:
        raw = self.material
        if not isinstance(raw, bytes):
            raw = raw.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        object.__setattr__(self, "mark", hashlib.sha256(b"session-fabric token key\0" + raw).hexdigest()[:16])


class KeyRing:
    """The keys that count now."""

    def __init__(self, keys: Sequence[Key]) -> None:
        self.keys = tuple(keys)
        self.marks = frozenset(key.mark for key in keys)
        self._named: dict[str, list[Key]] = {}
        for key in keys:
            if key.kid is not None:
                self._named.setdefault(key.kid, []).append(key)

    def names(self, kid: str | None) -> bool:
        """Say whether a key has this id."""
        return kid in self._named

    def find(self, kid: str | None, algorithm: Algorithm) -> Sequence[Key] | None:
        """Return the keys with which to try a token: none where the one it names is for another algorithm, None
        where it is not known."""
        named = self._named.get(kid, ()) if kid is not None else ()
        if named:
            return [key for key in named if key.algorithm == algorithm]
        fitting = [key for key in self.keys if key.algorithm == algorithm]
        unnamed = [key for key in fitting if key.kid is None]
        if kid is None and len(fitting) == 1:
            return fitting
        return unnamed or None


def are_keys(text: str) -> bool:
    """Say whether a setting has keys in it, not the name of a file that does."""
    return text.lstrip().startswith(("{", "-----BEGIN"))


def read_keys(text: str, where: str) -> list[Key]:
    """Read PEM, a JWK or a JWKS. Raises `InvalidRequest` that names what is wrong, and never a key."""
    if text.lstrip().startswith("{"):
        keys = _of_json(text, where)
    elif "-----BEGIN" in text:
        keys = [_of_pem(match, where) for match in _PEM.finditer(text)]
    else:
        raise InvalidRequest(f"{where} has neither PEM nor JSON in it.", hint=_HINT)
    if not keys:
        raise InvalidRequest(f"{where} has no keys in it.", hint=_HINT)
    return keys


def check_together(keys: Sequence[Key]) -> KeyRing:
    """Make a ring. Raises `InvalidRequest` for more keys than can be told apart."""
    if len(keys) > _MOST_KEYS:
        raise InvalidRequest(f"There are {len(keys)} keys for tokens; {_MOST_KEYS} is the most.")
    if sum(key.kid is None for key in keys) > _MOST_UNNAMED:
        raise InvalidRequest(
            f"More than {_MOST_UNNAMED} keys for tokens have no kid.", hint="Give them names: a JWKS with kid."
        )
    seen: set[tuple[str, Algorithm]] = set()
    for key in keys:
        if key.kid is not None and (key.kid, key.algorithm) in seen:
            raise InvalidRequest(f"Two keys for tokens have the kid {key.kid!r:.80}.", hint="Each needs its own.")
        if key.kid is not None:
            seen.add((key.kid, key.algorithm))
    return KeyRing(keys)


def secret_key(secret: str, where: str = "The secret", *, development: bool = True) -> Key:
    """Return a secret as a key for HS256. Raises `InvalidRequest` for a weak one, and for what is no secret at all."""
    material = secret.encode()
    _check_secret(material, where)
    return Key("HS256", material, None, development)


class Published(NamedTuple):
    """What a JWKS holds: keys, and a sentence for each other that is none here."""

    keys: list[Key]
    left_out: list[str]


def published_keys(data: bytes, where: str) -> Published:
    """Read the JWKS of a URL: what others add there that we have no use for is left out. Raises `InvalidRequest`.

    A secret that is published is none.
    """
    keys, left_out = [], []
    for number, one in enumerate(_listed(data, where)):
        try:
            key = _of_jwk(one, f"Key {number}")
        except InvalidRequest as error:
            left_out.append(error.message)
            continue
        if key is not None and key.algorithm == "HS256":
            left_out.append(f"Key {number} is a secret, and everybody can read it here.")
        elif key is not None:
            keys.append(key)
    named = {(key.kid, key.algorithm): key for key in reversed(keys)}
    keys = [key for key in keys if key.kid is None or named[key.kid, key.algorithm] is key]
    if not keys:
        raise InvalidRequest(" ".join([f"{where} has no key that can be used here.", *left_out[:1]]), hint=_HINT)
    return Published(list(check_together(keys).keys), left_out)


_HINT: Final = "Use public keys for EdDSA (Ed25519), ES256 or RS256, or a secret (oct) for HS256."


def _of_json(text: str, where: str) -> list[Key]:
    found = (_of_jwk(one, f"{where}, key {number}") for number, one in enumerate(_listed(text.encode(), where)))
    return [key for key in found if key is not None]


def _listed(data: bytes, where: str) -> Sequence[object]:
    try:
        value = read_json(data)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"{where} is not JSON: {error}.", hint=_HINT) from error
    listed = value.get("keys", [value]) if isinstance(value, dict) else None
    if not isinstance(listed, list):
        raise InvalidRequest(f"{where} is neither a JWK nor a JWKS.", hint=_HINT)
    return listed[: _MOST_KEYS * 4]


def _of_jwk(jwk: object, where: str) -> Key | None:
    """Read one; None for a key that is not for signatures. Raises `InvalidRequest`."""
    if not isinstance(jwk, dict):
        raise InvalidRequest(f"{where} is no JSON object.", hint=_HINT)
    if jwk.get("use", "sig") != "sig":
        return None
    kid = jwk.get("kid")
    if kid is not None and (not isinstance(kid, str) or not 0 < len(kid) <= 255):
        raise InvalidRequest(f"{where} has a kid that is no text of 1-255 characters.")
    if "d" in jwk:
        raise _private(where)
    material: object
    try:
        # Where none is said, PyJWT takes the key's type for it: HS256 for `oct`.
        made = jwt.PyJWK({name: value for name, value in jwk.items() if name not in ("alg", "kid")})
        material = made.key
    except (jwt.PyJWTError, ValueError, TypeError, KeyError, UnsupportedAlgorithm) as error:
        raise InvalidRequest(f"{where} cannot be read as a key: {type(error).__name__}.", hint=_HINT) from error
    if isinstance(material, bytes):
        _check_secret(material, where)
        key = Key("HS256", material, kid)
    else:
        key = _of_public(material, kid, where)
    said = jwk.get("alg")
    if said not in (None, key.algorithm) and (said, key.algorithm) != ("Ed25519", "EdDSA"):
        raise InvalidRequest(f"{where} is for {said!r:.40}; a key of its kind is used for {key.algorithm} here.")
    return key


def _of_pem(match: re.Match[str], where: str) -> Key:
    if "PRIVATE" in match[1]:
        raise _private(where)
    try:
        material = load_pem_public_key(match[0].encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise InvalidRequest(f"{where} has a {match[1].lower()} that cannot be read.", hint=_HINT) from error
    return _of_public(material, None, where)


def _of_public(material: object, kid: str | None, where: str) -> Key:
    if isinstance(material, Ed25519PublicKey):
        return Key("EdDSA", material, kid)
    if isinstance(material, EllipticCurvePublicKey) and isinstance(material.curve, SECP256R1):
        return Key("ES256", material, kid)
    if isinstance(material, RSAPublicKey):
        least, most = _RSA_BITS
        if not least <= material.key_size <= most:
            raise InvalidRequest(f"{where} is an RSA key of {material.key_size} bits; {least} to {most} are used.")
        return Key("RS256", material, kid)
    raise InvalidRequest(f"{where} is a key of a kind that is not used here.", hint=_HINT)


def _check_secret(material: bytes, where: str) -> None:
    if material.startswith(_MARKS_OF_OTHERS):
        raise InvalidRequest(
            f"{where} is a key of another kind, not a secret.", hint="Give keys in a file with --token-keys."
        )
    if len(material) < LEAST_SECRET_BYTES:
        raise InvalidRequest(
            f"{where} has {len(material)} bytes; tokens are not safe below {LEAST_SECRET_BYTES}.",
            hint="Make one with `openssl rand -hex 32`.",
        )


def _private(where: str) -> InvalidRequest:
    return InvalidRequest(
        f"{where} is a private key.",
        hint="The gateway needs the public one alone; keep this one where tokens are made.",
    )
