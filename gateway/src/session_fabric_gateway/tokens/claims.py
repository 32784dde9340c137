"""From a token's claims, verified, to what it allows. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from session_fabric.rules.claims import read_claims
from session_fabric.rules.grants import of_role
from session_fabric.rules.revocations import Revoked
from session_fabric.words.errors import InvalidRequest

from session_fabric_gateway.auth import Grant
from session_fabric_gateway.tokens.keys import Key
from session_fabric_gateway.tokens.shape import refused


def grant_of(claims: Mapping[str, Any], key: Key, *, now_ms: int, leeway_s: float) -> Grant:
    """Return what a token allows, whose signature and times were verified. Raises `Unauthenticated`."""
    try:
        said = read_claims(claims, now_s=now_ms / 1000, leeway_s=leeway_s)
    except InvalidRequest as error:
        raise refused(error.facts["reason"], error.message, error.hint) from error
    return Grant(
        said.tenant,
        said.participant,
        int((said.expires_s + leeway_s) * 1000),
        said.grants or of_role(said.role, mine_only=said.role == "user" and not key.development),
        said.token_id,
        # One that does not say when counts as issued before everything.
        0 if said.issued_s is None else int(said.issued_s * 1000),
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
