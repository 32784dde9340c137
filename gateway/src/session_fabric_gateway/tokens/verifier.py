"""Who is asking, by a token that a key of ours or of our issuer's has signed."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import jwt
from session_fabric.rules.revocations import Revoked
from session_fabric.words.errors import FabricError, KeysUnavailable, TokenExpired

from session_fabric_gateway.auth import Grant, now_ms
from session_fabric_gateway.tokens.claims import grant_of, less_revoked
from session_fabric_gateway.tokens.keys import Key
from session_fabric_gateway.tokens.shape import Named, Reason, check_size, peek, refused
from session_fabric_gateway.tokens.sources import KeyKeeper

_REQUIRED: Final = ["exp", "sub", "tenant"]
# Everybody who comes back at once when a gateway has ended is verified once. About 2 KiB each.
_MOST_KEPT: Final = 10_000


class Verified(NamedTuple):
    """What a token allows, under the keys and the revocations of then."""

    grant: Grant
    keys: int
    revocations: int


class JwtAuthenticator:
    """Tokens that the keys of a keeper have signed, less what is revoked. docs/security.md has the claims.

    One that is seen again is not verified again, until it expires or the keys change.
    """

    def __init__(
        self,
        keys: KeyKeeper,
        revoked: Revoked,
        *,
        issuers: Sequence[str] = (),
        audience: str | None = None,
        leeway_s: float = 30.0,
    ) -> None:
        self._keys = keys
        self._revoked = revoked
        self._issuers = list(issuers) or None
        self._audience = audience
        self._leeway_s = leeway_s
        self._kept: OrderedDict[bytes, Verified] = OrderedDict()

    async def authenticate(self, token: str | None) -> Grant:
        """Return what a token allows.

        Raises `Unauthenticated` (`facts["reason"]`: why), `TokenExpired`, `KeysUnavailable`. Cancelled: nothing
        happened.
        """
        if not token:
            raise refused("missing", "No token was given.", "Send one in hello, or as Authorization: Bearer.")
        check_size(token)
        digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        kept = self._kept.pop(digest, None)
        if kept is None or kept.keys != self._keys.generation or now_ms() >= (kept.grant.expires_ms or 0):
            kept = None
            grant = await self._verify(token)
        else:
            grant = kept.grant
        if kept is None or kept.revocations != self._revoked.version:
            grant = less_revoked(grant, self._revoked)
            kept = Verified(grant, self._keys.generation, self._revoked.version)
        self._kept[digest] = kept
        if len(self._kept) > _MOST_KEPT:
            self._kept.popitem(last=False)
        return grant

    async def _verify(self, token: str) -> Grant:
        named = peek(token)
        found = self._keys.ring.find(named.kid, named.algorithm)
        grant = self._try(token, named, found or ())
        # A secret is never published, and a key that is known by its name is what it is.
        if grant is None and named.algorithm != "HS256" and not self._keys.ring.names(named.kid):
            wait_s = await self._keys.ask_issuer()
            found = self._keys.ring.find(named.kid, named.algorithm)
            grant = self._try(token, named, found or ())
            if grant is None and wait_s is not None and not self._keys.ring.names(named.kid):
                raise KeysUnavailable(
                    "The key of this token is not known, and its issuer cannot be asked for it now.",
                    hint="Try again; tokens of keys that are known go on to work.",
                    retry_after_ms=int(wait_s * 1000),
                )
        if grant is not None:
            return grant
        if found is None:
            raise refused("key", f"No key for {named.algorithm} has the id that the token names, {named.kid!r:.80}.")
        if not found:
            raise refused("algorithm", f"The key {named.kid!r:.80} is not for {named.algorithm}.")
        raise refused("signature", "The token's signature is not that of a key that is trusted here.")

    def _try(self, token: str, named: Named, keys: Sequence[Key]) -> Grant | None:
        """Return the grant under the first key that has signed it, None where none has."""
        for key in keys:
            leeway_s = 0.0 if key.development else self._leeway_s  # one's own machine has one clock
            try:
                claims: Mapping[str, Any] = jwt.decode(
                    token,
                    key.material,
                    # The algorithm is the key's, never the token's to choose.
                    algorithms=[key.algorithm],
                    audience=self._audience,
                    issuer=self._issuers,
                    leeway=leeway_s,
                    options={"require": _REQUIRED},
                )
            except jwt.InvalidSignatureError:
                continue
            except jwt.PyJWTError as error:
                raise _told(error, self._audience) from error
            return grant_of(claims, key, now_ms=now_ms(), leeway_s=leeway_s)
        return None


def _told(error: jwt.PyJWTError, audience: str | None) -> FabricError:
    match error:
        case jwt.ExpiredSignatureError():
            return TokenExpired("The token has expired.", hint="Get a new one.")
        case jwt.ImmatureSignatureError():
            return refused("not_yet", "The token is not valid yet.", "Is a clock wrong?")
        case jwt.MissingRequiredClaimError():
            reason: Reason = "claims"
            if error.claim in ("aud", "iss"):
                reason = "audience" if error.claim == "aud" else "issuer"
            hint = "A token names sub, tenant and exp, and the aud and iss that this gateway is set to."
            return refused(reason, f"The token has no {error.claim}.", hint)
        case jwt.InvalidAudienceError():
            here = "none is set here" if audience is None else f"{audience!r:.80} is the one here"
            return refused("audience", f"The token is for another audience; {here}.")
        case jwt.InvalidIssuerError():
            return refused("issuer", "The token is of an issuer that is not trusted here.")
        case _:
            return refused("claims", f"The token is not valid: {type(error).__name__}.")
