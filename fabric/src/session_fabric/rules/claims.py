"""What the claims of a token say: whose it is, for how long, and what it grants. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from session_fabric.rules.grants import Grants, parse
from session_fabric.rules.revocations import LONGEST_S, check_token_id
from session_fabric.words.errors import InvalidName, InvalidRequest
from session_fabric.words.names import check_participant, check_tenant

# What JavaScript and orjson have as whole numbers; in seconds it is long after us.
_MOST: Final = 2**53


@dataclass(frozen=True, slots=True)
class Said:
    """A token's claims, read. Seconds are since 1970. `grants` None: it names no sessions; its role counts."""

    tenant: str
    participant: str
    expires_s: float
    issued_s: float | None
    token_id: str | None
    grants: Grants | None

    @property
    def role(self) -> str:
        return self.participant.partition(":")[0]


def read_claims(claims: Mapping[str, Any], *, now_s: float, leeway_s: float = 0.0) -> Said:
    """Read claims whose signature and times are another's business.

    Raises `InvalidRequest`, whose `facts["reason"]` is `claims`, or `grants` for what is wrong in `sessions`.
    """
    try:
        tenant, participant = check_tenant(_needed(claims, "tenant")), check_participant(_needed(claims, "sub"))
        token_id = None if claims.get("jti") is None else check_token_id(claims["jti"])
    except InvalidName as error:
        raise _wrong(f"The token names nobody: {error.message}", error.hint) from error
    role = participant.partition(":")[0]
    if claims.get("role", role) != role:
        raise _wrong(
            f"The token's role is {claims['role']!r:.40}, and its participant {participant!r:.80} has another."
        )
    expires_s = _moment("exp", _needed(claims, "exp"))
    issued_s = _moment("iat", claims["iat"]) if "iat" in claims else None
    life_s = expires_s - (now_s if issued_s is None else issued_s)
    if life_s > LONGEST_S + leeway_s:
        raise _wrong(
            f"The token is valid for {life_s / 86400:.0f} days; {LONGEST_S // 86400} is the most.",
            "Nobody could revoke it for so long. Get one for a shorter time, and another when it ends.",
        )
    try:
        grants = parse(claims["sessions"]) if "sessions" in claims else None
    except InvalidRequest as error:
        raise InvalidRequest(f"The token grants nothing: {error.message}", hint=error.hint, reason="grants") from error
    return Said(tenant, participant, expires_s, issued_s, token_id, grants)


def _needed(claims: Mapping[str, Any], name: str) -> Any:
    if claims.get(name) is None:
        raise _wrong(f"The token has no {name}.", "A token names sub, tenant and exp.")
    return claims[name]


def _moment(name: str, value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < _MOST:
        raise _wrong(f"The token's {name} is no number of seconds since 1970.")
    return value


def _wrong(message: str, hint: str = "Get a new one.") -> InvalidRequest:
    return InvalidRequest(message, hint=hint, reason="claims")
