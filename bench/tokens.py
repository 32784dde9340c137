"""Tokens of a key of the bench's own, for gateways that ask for them."""

from __future__ import annotations

import json
import time
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

Sessions = Mapping[str, Sequence[str]]
_TTL_S: Final = 3600


def _base64(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


class Signer:
    """One Ed25519 key, and the tokens that it signs."""

    def __init__(self) -> None:
        self._key = Ed25519PrivateKey.generate()
        self._head = _base64(json.dumps({"alg": "EdDSA", "typ": "JWT", "kid": "bench"}).encode())
        self._made = 0

    def publish(self, file: Path) -> Path:
        """Write the public key as a gateway reads it."""
        raw = self._key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        jwk = {"kty": "OKP", "crv": "Ed25519", "x": _base64(raw), "kid": "bench", "alg": "EdDSA"}
        file.write_text(json.dumps({"keys": [jwk]}))
        return file

    def token(self, participant: str, *, tenant: str = "default", sessions: Sessions | None = None) -> str:
        """Return a token like no other that was made before."""
        self._made += 1
        now = int(time.time())
        claims: dict[str, object] = {"sub": participant, "tenant": tenant, "iat": now, "exp": now + _TTL_S}
        claims["jti"] = f"t{self._made}"
        if sessions is not None:
            claims["sessions"] = sessions
        signed = f"{self._head}.{_base64(json.dumps(claims).encode())}"
        return f"{signed}.{_base64(self._key.sign(signed.encode()))}"
