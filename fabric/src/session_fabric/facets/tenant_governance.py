"""How long a tenant's sessions are kept, what holds them, what is accounted for, and under which keys it lies."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from session_fabric import auditing, keeping, lifecycle
from session_fabric.facets.oversight import check_all
from session_fabric.importing import Lines, import_session
from session_fabric.keeping import Kept
from session_fabric.keyring import Keyring
from session_fabric.parts import Common, Parts
from session_fabric.records import SessionRecord
from session_fabric.rewrapping import Progress, Under, rewrap, wrapped_under
from session_fabric.rules.audits import PreviousAudit
from session_fabric.rules.holds import Hold, Holds
from session_fabric.words.errors import InvalidRequest
from session_fabric.writer import Identity


class TenantGovernance:
    """A facet of `Fabric`."""

    identity: Identity
    _common: Common
    _keys: Keyring | None

    async def retention(self) -> Kept:
        """Return how long the tenant's sessions are kept, where nothing else is said of one; and the holds on them."""
        return await keeping.of_tenant(self._common.broker, self.identity.tenant)

    async def set_retention(self, /, **changes: Any) -> Kept:
        """Change how long the tenant's sessions are kept; see `Session.set_retention`. Raises as that does."""
        return await keeping.set_of_tenant(self._common.broker, self.identity, changes)

    async def delete_counted(self, session: str, had: Mapping[str, int], reason: str = "") -> None:
        """Delete a session, for whom deletes many: he has counted what each has, and looks himself for what is left.

        Raises as `Session.delete` does.
        """
        parts = Parts.of(self._common, self.identity, session)
        await lifecycle.delete_counted(parts, reason, had)

    async def hold(self, reason: str, name: str = "hold") -> Hold:
        """Have nothing of any session of the tenant removed, until `release`; see `Session.hold`."""
        return await keeping.hold_tenant(self._common.broker, self.identity, reason, name)

    async def release(self, name: str = "hold") -> Holds:
        """End a hold on the tenant; return those that still stand. Raises `HoldNotFound`."""
        return await keeping.release_tenant(self._common.broker, self.identity, name)

    def audit(
        self, *, since_ms: int = 0, previous: PreviousAudit | None = None, key: Ed25519PrivateKey | None = None
    ) -> AsyncGenerator[bytes, None]:
        """Yield who did what when to the tenant's sessions, as lines that follow from each other; nothing of what was
        said. `since_ms`: milliseconds since 1970; `previous`: an earlier file, to go on from what it has
        (`rules.audits.previous_of`): of two that follow each other each act is in one, whatever clocks say.

        Raises `Forbidden` (users, agents), `KeyMissing`, `BrokerUnavailable`.
        """
        return auditing.export(self._common, self.identity, since_ms=since_ms, previous=previous, key=key)

    async def import_session(self, name: str, lines: Lines) -> tuple[SessionRecord, bool]:
        """Make a session of an export: the same events, ids, actors and times, and `session.imported` behind them.

        `lines` is called to read the file, twice: it is verified whole before anything is written. The second is
        whether it was made now; the same file again changes nothing, and finishes what was cut off. Runs that were
        under way have ended. Raises `Corrupt`, `SessionExists`, `Forbidden` (users), `BrokerUnavailable` (try again).
        """
        return await import_session(Parts.of(self._common, self.identity, name), lines)

    async def wrapped_under(self) -> list[Under]:
        """Return under which keys all that is sealed is, of every tenant; for operators and services.

        Raises `InvalidRequest` without keys, `Forbidden`, `BrokerUnavailable`.
        """
        return await wrapped_under(self._common.broker, self._all_keys())

    async def rewrap(self, progress: Progress = lambda _: None) -> int:
        """Wrap the keys of all that is sealed anew, of every tenant, under their tenants' current keys; return how many
        were. What is under a key that is not at hand is left (`wrapped_under` tells). `progress`: so many more were.

        Cut short, it goes on when it is called again; who has the older and the new key notices nothing. Raises as
        `wrapped_under`, and `Conflict`.
        """
        return await rewrap(self._common.broker, self._all_keys(), self.identity.participant, progress)

    def _all_keys(self) -> Keyring:
        check_all(self.identity)
        keys = self._keys
        if keys is None:
            raise InvalidRequest(
                "There are no keys.",
                hint="Give the file of keys: SESSION_FABRIC_ENCRYPTION_KEYS, or what a program connects with: `keys`.",
            )
        return keys
