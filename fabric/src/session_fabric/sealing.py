"""Whether what a tenant makes has to be sealed: for who has no key of that tenant's, and might make it lie open."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from session_fabric.keyring import Keyring, Sealed
from session_fabric.words.errors import KeyMissing

# How many of a tenant's records, those that changed last, are looked at.
LOOKED_AT: Final = 100
_TENANTS: Final = 20_000


class Sealing:
    """Which tenants' new sessions are sealed, by one directory's records: looked at once, then heard of.

    What is made in the very moment in which a tenant's first sealed one is may lie open beside it.
    """

    def __init__(self, keys: Keyring | None) -> None:
        self._keys = keys
        # Under which key; None: nothing of the tenant's is sealed.
        self._known: OrderedDict[str, str | None] = OrderedDict()

    def heard(self, tenant: str, sealed: Sealed) -> None:
        """Take in that a tenant has something that is sealed."""
        self._keep(tenant, sealed.key)

    def _keep(self, tenant: str, key: str | None) -> None:
        self._known[tenant] = key
        self._known.move_to_end(tenant)
        while len(self._known) > _TENANTS:
            self._known.popitem(last=False)

    def forget(self) -> None:
        """What was made while the connection was away was not heard of."""
        self._known.clear()

    async def check(self, tenant: str, newest: Callable[[str], Awaitable[Sequence[Sealed | None]]]) -> None:
        """Raise `KeyMissing` where a tenant's sessions are sealed; `newest` says how those are that changed last."""
        if self._keys is not None and self._keys.leaves_open(tenant):
            return
        current = None if self._keys is None else self._keys.current(tenant)
        key = current.id if current is not None else await self._key(tenant, newest)
        if key is not None:
            raise KeyMissing(
                f"Tenant {tenant!r} seals what is said, under key {key!r}: made without it, this would lie open.",
                hint="Give the file of keys that has it: SESSION_FABRIC_ENCRYPTION_KEYS, or what a program connects "
                f'with as `keys`. A file with "{tenant}": "open" leaves open what that tenant makes.',
                tenant=tenant,
                key=key,
            )

    async def _key(self, tenant: str, newest: Callable[[str], Awaitable[Sequence[Sealed | None]]]) -> str | None:
        if tenant not in self._known:
            found = next((sealed.key for sealed in await newest(tenant) if sealed is not None), None)
            self._keep(tenant, self._known.get(tenant, found))  # more may have been heard meanwhile
        return self._known[tenant]
