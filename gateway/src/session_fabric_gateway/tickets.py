"""Tickets: what stands for a token in a URL, once and for half a minute.

A page's `EventSource` sends no headers, and what is in a URL is in histories and logs. The broker has the hash alone.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError
from session_fabric.ports import Bucket
from session_fabric.rules.grants import parse
from session_fabric.words.errors import Conflict, InvalidInput, Unauthenticated

from session_fabric_gateway.auth import Grant, now_ms

BUCKET: Final = "sf-tickets"
TICKET_S: Final = 30


class _Stored(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    tenant: str
    participant: str
    expires_ms: int | None
    sessions: dict[str, list[str]]
    mine_only: bool
    token_id: str | None
    issued_ms: int | None
    key: str | None
    until_ms: int


class Tickets:
    """Tickets of all gateways of a broker: any of them takes what another one gave."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket

    async def make(self, grant: Grant) -> tuple[str, int]:
        """Return a ticket that stands for a grant, and until when (milliseconds since 1970).

        Raises `BrokerUnavailable`.
        """
        ticket, until_ms = secrets.token_urlsafe(24), now_ms() + TICKET_S * 1000
        stored = _Stored(
            tenant=grant.tenant,
            participant=grant.participant,
            expires_ms=grant.expires_ms,
            sessions=grant.grants.plain(),
            mine_only=grant.grants.mine_only,
            token_id=grant.token_id,
            issued_ms=grant.issued_ms,
            key=grant.key,
            until_ms=until_ms,
        )
        await self._bucket.put(_key(ticket), stored.model_dump_json().encode(), ttl_s=TICKET_S)
        return ticket, until_ms

    async def redeem(self, ticket: str) -> Grant:
        """Return what a ticket stands for; the same one is never taken again. Raises `Unauthenticated`."""
        entry = await self._bucket.get(_key(ticket))
        if entry is None or entry.value is None:
            raise _unknown()
        try:
            stored = _Stored.model_validate_json(entry.value)
            given = parse(stored.sessions, mine_only=stored.mine_only)
        except (ValidationError, InvalidInput) as error:
            raise _unknown() from error  # none of ours has put it there
        try:
            await self._bucket.delete(entry.key, revision=entry.revision)
        except Conflict as error:
            raise _unknown() from error  # somebody else has used it at the same moment
        if stored.until_ms <= now_ms():
            raise _unknown()
        return Grant(
            stored.tenant, stored.participant, stored.expires_ms, given, stored.token_id, stored.issued_ms, stored.key
        )


def _key(ticket: str) -> str:
    return hashlib.sha256(ticket.encode("utf-8", "surrogatepass")).hexdigest()


def _unknown() -> Unauthenticated:
    return Unauthenticated(
        f"The ticket is not valid: it was used, or is older than {TICKET_S} s.",
        hint="Get another one: POST /v1/tickets with the token.",
    )
