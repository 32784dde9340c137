"""What there is of a tenant, for whoever looks after all of it: sessions, runs, dead letters, processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from session_fabric import census, listing
from session_fabric.dead_letters import DeadLetter, dead_letters
from session_fabric.inspection import LiveRun, last_events, live_runs
from session_fabric.listing import SessionsPage
from session_fabric.parts import Common
from session_fabric.records import SessionRecord
from session_fabric.words.errors import Forbidden
from session_fabric.writer import Identity


class Oversight:
    """A facet of `Fabric`."""

    identity: Identity
    _common: Common

    async def sessions(
        self,
        *,
        limit: int = 100,
        cursor: str | None = None,
        where: Callable[[SessionRecord], bool] | None = None,
        since_ms: int = 0,
        all_tenants: bool = False,
    ) -> SessionsPage:
        """List the tenant's sessions, those first whose records changed last (made, closed, labels, policy,
        participants, forks); at most `limit` (1-1000) a page.

        `where`: those alone of which it says yes. `since_ms`: changed since, milliseconds since 1970. `all_tenants`: of
        every tenant, for operators and services. Page by page no session is missed; one that changes meanwhile may come
        again, and a page may be shorter than it could be. Raises `InvalidRequest`, `Forbidden`, `BrokerUnavailable`.
        """
        if all_tenants:
            check_all(self.identity)
        tenant = None if all_tenants else self.identity.tenant
        directory = self._common.directory
        return await listing.page(directory, tenant, limit=limit, cursor=cursor, where=where, since_ms=since_ms)

    async def last_events(self, records: Sequence[SessionRecord]) -> list[int | None]:
        """Return when the newest milestone of each session was stored, milliseconds since 1970; None: it has none."""
        return await last_events(self._common, records)

    async def live_runs(self, *, all_tenants: bool = False) -> list[LiveRun]:
        """Return the runs that processes hold now, in all sessions of the tenant, those first that have stood longest
        as they are. `all_tenants`: of every tenant, for operators and services.

        Raises `Forbidden` (also for who has no rights at the broker), `BrokerUnavailable`.
        """
        if all_tenants:
            check_all(self.identity)
        return await live_runs(self._common, None if all_tenants else self.identity.tenant)

    async def dead_letters(self, pool: str | None = None, *, limit: int = 100) -> list[DeadLetter]:
        """Return the inputs that agents of a pool (None: of any) failed to answer for good, in all of the tenant's
        sessions, oldest first, at most `limit` (1-1000): each can be asked again (`retry`) or let go (`drop`).

        Raises `Forbidden` for users, `BrokerUnavailable`.
        """
        return await dead_letters(self._common, self.identity, pool, limit)

    async def processes(self) -> list[census.Process]:
        """Return the gateways and agents that live at this broker, as far as this connection may see them, and of
        which version each is.

        Raises `BrokerUnavailable`.
        """
        return await census.processes(self._common.broker)


def check_all(identity: Identity) -> None:
    """Raise `Forbidden` where somebody cannot look into every tenant's sessions."""
    if identity.role not in ("operator", "service"):
        raise Forbidden(
            f"{identity.participant} cannot look into every tenant's sessions.", hint="Operators and services can."
        )
