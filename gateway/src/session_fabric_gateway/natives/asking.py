"""What a native participant's token grants, looked at with each request."""

from __future__ import annotations

from session_fabric.relay.natives import GrantsOf
from session_fabric.rules.grants import Grants
from session_fabric.words.errors import Forbidden

from session_fabric_gateway.auth import Authenticator


def grants_by(authenticator: Authenticator) -> GrantsOf:
    """Return what finds out a request's grants. Raises what `authenticate` raises, and `Forbidden`.

    The broker has let the request through under its own name alone; the token has to be of the same.
    """

    async def grants_of(tenant: str, participant: str, token: str) -> Grants:
        grant = await authenticator.authenticate(token)
        if (grant.tenant, grant.participant) != (tenant, participant):
            raise Forbidden(
                f"The token is not {participant}'s.",
                hint="Connect with the token that you ask with.",
                participant=participant,
            )
        return grant.grants

    return grants_of
