"""Who is asking. One interface; development tokens until capabilities come."""

from __future__ import annotations

import time
from typing import Any, Final, NamedTuple, Protocol

import jwt
from session_fabric.rules.grants import EVERYTHING, Grants, of_role, parse
from session_fabric.words.errors import InvalidName, InvalidRequest, TokenExpired, Unauthenticated
from session_fabric.words.names import check_participant, check_tenant

# RFC 7518 3.2: a key for HS256 has at least as many bits as the hash.
_LEAST_SECRET_BYTES: Final = 32
_CLAIMS: Final = ["exp", "sub", "tenant"]
NOBODY: Final = "user:you"


class Grant(NamedTuple):
    """What a token allows, verified. `expires_ms` None: for ever; `given` None: what its role is granted.

    `issued_ms`: milliseconds since 1970, 0 of a token that does not say; None: there was no token.
    """

    tenant: str
    participant: str
    expires_ms: int | None = None
    given: Grants | None = None
    token_id: str | None = None
    issued_ms: int | None = None

    @property
    def role(self) -> str:
        return self.participant.partition(":")[0]

    @property
    def grants(self) -> Grants:
        return self.given or of_role(self.role)


class Authenticator(Protocol):
    async def authenticate(self, token: str | None) -> Grant:
        """Return what the token allows (None: there was none). Raises `Unauthenticated`, `TokenExpired`."""


class SecretAuthenticator:
    """HS256 tokens signed with one secret: `sub` is the participant, `tenant` the tenant, `exp` the end."""

    def __init__(self, secret: str) -> None:
        if len(secret.encode()) < _LEAST_SECRET_BYTES:
            raise InvalidRequest(
                f"The secret has {len(secret.encode())} bytes; tokens are not safe below {_LEAST_SECRET_BYTES}.",
                hint="Make one with `openssl rand -hex 32`.",
            )
        self._secret = secret

    async def authenticate(self, token: str | None) -> Grant:
        if not token:
            raise Unauthenticated("No token was given.", hint="Send one in hello, or as Authorization: Bearer.")
        try:
            # PyJWT checks exp, nbf and the signature; the algorithm is ours to choose, never the token's.
            claims: dict[str, Any] = jwt.decode(
                token,
                self._secret,
                algorithms=["HS256"],
                options={"verify_aud": False, "require": _CLAIMS},
            )
        except jwt.ExpiredSignatureError as error:
            raise TokenExpired("The token has expired.", hint="Get a new one.") from error
        except jwt.MissingRequiredClaimError as error:
            raise Unauthenticated(
                f"The token has no {error.claim}.", hint="A token names sub, tenant and exp."
            ) from error
        except jwt.InvalidTokenError as error:
            raise Unauthenticated(f"The token is not valid: {type(error).__name__}.", hint="Get a new one.") from error
        return _grant(claims)


class OpenAuthenticator:
    """Lets everybody in, for development on one's own machine; whoever has a valid token is who it says."""

    def __init__(self, tokens: Authenticator | None) -> None:
        self._tokens = tokens

    async def authenticate(self, token: str | None) -> Grant:
        if not token:
            return Grant("default", NOBODY, given=EVERYTHING)
        try:
            return Grant("default", check_participant(token), given=EVERYTHING)
        except InvalidName:
            if self._tokens is not None:
                return await self._tokens.authenticate(token)
        raise Unauthenticated("The token is neither empty nor a participant.", hint="Send none, or user:<name>.")


def _grant(claims: dict[str, Any]) -> Grant:
    try:
        return Grant(
            check_tenant(claims["tenant"]),
            check_participant(claims["sub"]),
            int(claims["exp"]) * 1000,
            parse(claims["sessions"]) if "sessions" in claims else None,
        )
    except InvalidName as error:
        raise Unauthenticated(f"The token names nobody: {error.message}", hint=error.hint) from error
    except InvalidRequest as error:
        raise Unauthenticated(f"The token grants nothing: {error.message}", hint=error.hint) from error


def now_ms() -> int:
    return time.time_ns() // 1_000_000
