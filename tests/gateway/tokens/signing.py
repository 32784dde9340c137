"""Issuers for tests: keys, what they publish, and tokens of all kinds, good and bad."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from jwt.algorithms import get_default_algorithms

Private = ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
ALGORITHMS = ("EdDSA", "ES256", "RS256")


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@lru_cache
def private_key(algorithm: str, number: int = 0) -> Private:
    """Return a key; the same one for the same number."""
    if algorithm == "EdDSA":
        return ed25519.Ed25519PrivateKey.generate()
    if algorithm == "ES256":
        return ec.generate_private_key(ec.SECP256R1())
    return rsa.generate_private_key(65537, 2048)


def pem(key: Any) -> str:
    """Return the public half."""
    public = key if hasattr(key, "public_bytes") else key.public_key()
    return str(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode())


def private_pem(key: Private) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def jwk(algorithm: str, key: Any, kid: str | None = None, **more: Any) -> dict[str, Any]:
    public = key if hasattr(key, "public_bytes") else key.public_key()
    known: Any = get_default_algorithms()[algorithm]
    plain = dict(known.to_jwk(public, as_dict=True))
    plain.pop("key_ops", None)
    return plain | ({} if kid is None else {"kid": kid}) | more


def secret_jwk(secret: bytes, kid: str | None = None) -> dict[str, Any]:
    return {"kty": "oct", "k": b64(secret)} | ({} if kid is None else {"kid": kid})


def jwks(*keys: Any) -> str:
    return json.dumps({"keys": list(keys)})


def claims(**more: Any) -> dict[str, Any]:
    """Return good claims, for longer than any run of tests; with others in their place; None takes one away."""
    now = int(time.time())
    good = {"sub": "user:ada", "tenant": "acme", "iat": now, "exp": now + 43_200}
    return {name: value for name, value in (good | more).items() if value is not None}


def token(
    algorithm: str = "EdDSA", key: Any = None, *, kid: str | None = "k1", headers: Any = None, **more: Any
) -> str:
    """Sign a token, whatever its claims are."""
    return sign(claims(**more), algorithm, key, kid=kid, headers=headers)


def sign(said: Any, algorithm: str = "EdDSA", key: Any = None, *, kid: str | None = "k1", headers: Any = None) -> str:
    header = ({} if kid is None else {"kid": kid}) | (headers or {})
    return jwt.api_jws.encode(
        json.dumps(said).encode(), key or private_key(algorithm), algorithm=algorithm, headers=header
    )


def unsigned(header: Any, payload: Any, signature: bytes = b"") -> str:
    parts = (part if isinstance(part, bytes) else json.dumps(part).encode() for part in (header, payload))
    return ".".join([*map(b64, parts), b64(signature)])


@dataclass
class Issuer:
    """A JWKS over HTTP; `down` answers 503."""

    url: str = ""
    keys: Sequence[dict[str, Any]] = ()
    body: bytes | None = None
    down: bool = False
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    asked: int = 0

    async def answer(self, _: web.Request) -> web.Response:
        self.asked += 1
        if self.down:
            return web.Response(status=503)
        body = jwks(*self.keys).encode() if self.body is None else self.body
        return web.Response(status=self.status, body=body, content_type="application/json", headers=self.headers)


@asynccontextmanager
async def issuer(*keys: dict[str, Any], tls: Any = None) -> AsyncIterator[Issuer]:
    one = Issuer(keys=keys)
    app = web.Application()
    app.router.add_get("/jwks", one.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
        await site.start()
        one.url = f"http{'s' if tls else ''}://127.0.0.1:{runner.addresses[0][1]}/jwks"
        yield one
    finally:
        await runner.cleanup()
