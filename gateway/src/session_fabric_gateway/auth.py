"""Who is asking, and what he may do: what every way to find that out returns."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

from session_fabric.rules.grants import EVERYTHING, Grants, of_role
from session_fabric.words.errors import Denied, FabricError, InvalidName, KeysUnavailable, Unauthenticated
from session_fabric.words.names import check_participant

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
    # Of the key that has signed it.
    key: str | None = None

    @property
    def role(self) -> str:
        return self.participant.partition(":")[0]

    @property
    def grants(self) -> Grants:
        return self.given or of_role(self.role)


class Authenticator(Protocol):
    async def authenticate(self, token: str | None) -> Grant:
        """Return what the token allows (None: there was none).

        Raises `Unauthenticated`, `TokenExpired`, and `KeysUnavailable` where nobody can say for now.
        """


class CountedAuthenticator:
    """Tells of each token that another authenticator refuses."""

    def __init__(self, below: Authenticator, refused: Callable[[FabricError], None]) -> None:
        self._below = below
        self._refused = refused

    async def authenticate(self, token: str | None) -> Grant:
        try:
            return await self._below.authenticate(token)
        except (Denied, KeysUnavailable) as error:
            self._refused(error)
            raise


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


def now_ms() -> int:
    return time.time_ns() // 1_000_000
