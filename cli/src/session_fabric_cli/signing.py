"""Keys that sign tokens, as files have them: a private JWK, a private PEM, or a secret."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key
from session_fabric.new_files import write_own
from session_fabric.words.errors import InvalidRequest

from session_fabric_cli import replacing
from session_fabric_cli.failing import unwritten

LEAST_SECRET_BYTES: Final = 32
_RSA_LEAST_BITS: Final = 2048
_HINT: Final = "Make one with `fabricctl token keygen FILE`."

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Signing:
    """A key, and the one algorithm that it is for. `private` False: it can verify, not sign."""

    algorithm: str
    material: Any
    kid: str | None
    private: bool = True

    def sign(self, claims: Json) -> str:
        """Return a token. Raises `InvalidRequest` for a key that cannot sign."""
        if not self.private:
            raise InvalidRequest("This is a public key: it verifies tokens, and signs none.", hint=_HINT)
        headers = None if self.kid is None else {"kid": self.kid}
        return jwt.encode(dict(claims), self.material, algorithm=self.algorithm, headers=headers)


def new_key(kid: str | None) -> tuple[Json, Json]:
    """Make an Ed25519 key: the private JWK, and the public one. `kid` None: its thumbprint."""
    key = Ed25519PrivateKey.generate()
    x = _b64(key.public_key().public_bytes_raw())
    shared = {"kty": "OKP", "crv": "Ed25519", "x": x}
    # RFC 7638: the hash of the members that make the key up, in order.
    thumbprint = _b64(hashlib.sha256(json.dumps(dict(sorted(shared.items())), separators=(",", ":")).encode()).digest())
    public = shared | {"kid": kid or thumbprint, "alg": "EdDSA", "use": "sig"}
    return public | {"d": _b64(key.private_bytes_raw())}, public


def check_new(path: Path) -> None:
    """Raise `InvalidRequest` for a file that is there."""
    if path.exists():
        raise InvalidRequest(f"{path} is there already.", hint="Keys are not overwritten: name another file.")


def write_new(path: Path, value: Json, *, private: bool) -> None:
    """Write a file that is not there yet, whole or not at all; a private one for its owner alone.

    Raises `InvalidRequest`, and `OSError` where there is no room.
    """
    check_new(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_own(path, json.dumps(value, indent=2) + "\n", 0o600 if private else 0o644)
    except OSError as error:
        raise unwritten(path, error) from error


def replace_file(path: Path, value: Json) -> None:
    """Write a file for its owner alone, whole or not at all, in the place of what is there.

    Raises `InvalidRequest`, and `OSError` where there is no room.
    """
    try:
        replacing.replace_file(path, (json.dumps(value, indent=2) + "\n").encode())
    except OSError as error:
        raise unwritten(path, error) from error


def read_signing(path: Path) -> Signing:
    """Read a key: a JWK, a JWKS with one key, a PEM, or a secret. Raises `InvalidRequest`, which never tells it."""
    try:
        text = path.read_text().strip()
    except OSError as error:
        raise InvalidRequest(f"The key cannot be read from {path}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"The key in {path} is not text.", hint=_HINT) from error
    if text.startswith("{"):
        return _of_jwk(text, path)
    if "-----BEGIN" in text:
        return _of_pem(text, path)
    return _of_secret(text.encode(), None, path)


def _of_jwk(text: str, path: Path) -> Signing:
    try:
        value = json.loads(text)
        listed = value.get("keys", [value])
        if len(listed) != 1:
            raise InvalidRequest(f"{path} has {len(listed)} keys.", hint="Give a file with the one to use.")
        material = jwt.PyJWK({name: part for name, part in listed[0].items() if name not in ("alg", "kid")}).key
        kid = listed[0].get("kid")
    except (jwt.PyJWTError, ValueError, TypeError, KeyError, AttributeError, UnsupportedAlgorithm) as error:
        raise InvalidRequest(f"{path} cannot be read as a JWK: {type(error).__name__}.", hint=_HINT) from error
    if kid is not None and not isinstance(kid, str):
        raise InvalidRequest(f"{path} has a kid that is no text.")
    return _of_secret(material, kid, path) if isinstance(material, bytes) else _of(material, kid, path)


def _of_pem(text: str, path: Path) -> Signing:
    load = load_pem_public_key if "PRIVATE" not in text else lambda data: load_pem_private_key(data, None)
    try:
        return _of(load(text.encode()), None, path)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise InvalidRequest(
            f"{path} cannot be read as PEM: {type(error).__name__}.", hint="One with a passphrase cannot be used."
        ) from error


def _of(material: object, kid: str | None, path: Path) -> Signing:
    match material:
        case Ed25519PrivateKey() | Ed25519PublicKey():
            return Signing("EdDSA", material, kid, isinstance(material, Ed25519PrivateKey))
        case EllipticCurvePrivateKey() | EllipticCurvePublicKey() if isinstance(material.curve, SECP256R1):
            return Signing("ES256", material, kid, isinstance(material, EllipticCurvePrivateKey))
        case RSAPrivateKey() | RSAPublicKey() if material.key_size >= _RSA_LEAST_BITS:
            return Signing("RS256", material, kid, isinstance(material, RSAPrivateKey))
    raise InvalidRequest(
        f"{path} is a key of a kind that gateways do not take.", hint="Use Ed25519, P-256, or RSA of 2048 bits or more."
    )


def _of_secret(secret: bytes, kid: str | None, path: Path) -> Signing:
    if len(secret) < LEAST_SECRET_BYTES:
        raise InvalidRequest(
            f"{path} is neither a JWK nor PEM, and as a secret it is too short: {len(secret)} bytes, "
            f"{LEAST_SECRET_BYTES} are needed.",
            hint=_HINT,
        )
    return Signing("HS256", secret, kid)


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
