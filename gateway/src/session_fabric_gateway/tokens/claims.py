"""From a token's claims, verified, to what it allows. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from session_fabric.rules.grants import of_role, parse
from session_fabric.rules.revocations import LONGEST_S, Revoked, check_token_id
from session_fabric.words.errors import InvalidName, InvalidRequest
from session_fabric.words.names import check_participant, check_tenant

from session_fabric_gateway.auth import Grant
from session_fabric_gateway.tokens.keys import Key
from session_fabric_gateway.tokens.shape import refused

# What JavaScript and orjson have as whole numbers; in seconds it is long after us.
_MOST: Final = 2**53


def grant_of(claims: Mapping[str, Any], key: Key, *, now_ms: int, leeway_s: float) -> Grant:
    """Return what a token allows, whose signature and times were verified. Raises `Unauthenticated`."""
    try:
        tenant, participant = check_tenant(claims["tenant"]), check_participant(claims["sub"])
        token_id = None if claims.get("jti") is None else check_token_id(claims["jti"])
    except InvalidName as error:
        raise refused("claims", f"The token names nobody: {error.message}", error.hint) from error
    role = participant.partition(":")[0]
    if claims.get("role", role) != role:
        raise refused(
            "claims",
            f"The token's role is {claims['role']!r:.40}, and its participant {participant!r:.80} has another.",
        )
    expires_s, issued_s = _moment(claims, "exp"), _moment(claims, "iat") if "iat" in claims else None
    begins_s = now_ms / 1000 if issued_s is None else issued_s
    if expires_s - begins_s > LONGEST_S + leeway_s:
        raise refused(
            "claims",
            f"The token is valid for {(expires_s - begins_s) / 86400:.0f} days; {LONGEST_S // 86400} is the most.",
            "Nobody could revoke it for so long. Get one for a shorter time, and another when it ends.",
        )
    try:
        given = (
            parse(claims["sessions"])
            if "sessions" in claims
            else of_role(role, mine_only=role == "user" and not key.development)
        )
    except InvalidRequest as error:
        raise refused("grants", f"The token grants nothing: {error.message}", error.hint) from error
    return Grant(
        tenant,
        participant,
        int((expires_s + leeway_s) * 1000),
        given,
        token_id,
        # One that does not say when counts as issued before everything.
        0 if issued_s is None else int(issued_s * 1000),
        key.mark,
    )


def less_revoked(grant: Grant, revoked: Revoked) -> Grant:
    """Return what is left of a grant. Raises `Unauthenticated` where nothing is."""
    if grant.issued_ms is None:
        return grant  # of no token
    by = revoked.covers(grant.tenant, grant.participant, grant.token_id, grant.issued_ms)
    if by is not None:
        what = "It" if by == "token" else f"What {grant.participant} got before a certain moment"
        raise refused("revoked", f"The token does not count any more. {what} was revoked.")
    without = revoked.sessions(grant.tenant, grant.issued_ms)
    if without == grant.grants.without:
        return grant
    return grant._replace(given=replace(grant.grants, without=without))


def _moment(claims: Mapping[str, Any], name: str) -> float:
    value = claims[name]
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < _MOST:
        raise refused("claims", f"The token's {name} is no number of seconds since 1970.")
    return value
