"""What is said of a tenant as a whole, in the bucket `sf-tenants`: how long its sessions are kept, what holds them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError

from session_fabric.ports import Broker
from session_fabric.rules.holds import Hold
from session_fabric.words.errors import Conflict
from session_fabric.words.logs import log
from session_fabric.words.names import escape

BUCKET: Final = "sf-tenants"
_TRIES: Final = 20


class TenantRules(BaseModel):
    """What holds for all sessions of a tenant, where a session's own record does not say otherwise."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    retention: Mapping[str, int | None] = {}
    holds: tuple[Hold, ...] = ()


class Tenants:
    """The bucket, asked anew each time: what is removed cannot be brought back."""

    def __init__(self, broker: Broker) -> None:
        self._bucket = broker.bucket(BUCKET)

    async def rules(self, tenant: str) -> TenantRules:
        """Return what is said of a tenant, from the leader. Raises `BrokerUnavailable`."""
        entry = await self._bucket.get(escape(tenant))
        return TenantRules() if entry is None else parse(entry.value)

    async def change(self, tenant: str, edit: Callable[[TenantRules], TenantRules]) -> TenantRules:
        """Change it by compare-and-set, as often as others are first; return it as written."""
        for _ in range(_TRIES):
            entry = await self._bucket.get(escape(tenant))
            old = TenantRules() if entry is None else parse(entry.value)
            new = edit(old)
            if new == old:
                return old
            revision = 0 if entry is None else entry.revision
            try:
                await self._bucket.swap(escape(tenant), new.model_dump_json().encode(), revision=revision)
            except Conflict:
                continue
            return new
        raise Conflict(f"What is said of tenant {tenant!r} changed {_TRIES} times under this edit.", revision=None)


def parse(value: bytes | None) -> TenantRules:
    """Read an entry. Raises `Conflict` for what cannot be read: nothing is removed by a rule that is not known."""
    try:
        return TenantRules() if value is None else TenantRules.model_validate_json(value)
    except ValidationError as error:
        log.error("tenant_unreadable", errors=error.error_count())
        raise Conflict(
            "What is said of this tenant cannot be read by this version.",
            hint="Use the newer one that wrote it.",
            revision=None,
        ) from error
