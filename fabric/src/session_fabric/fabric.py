"""The entrance: connect, and take sessions in hand."""

from __future__ import annotations

import re
from collections.abc import Generator
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from session_fabric.follow import Pace
from session_fabric.holdings import Holdings
from session_fabric.janitor import Janitor
from session_fabric.jetstream.broker import Credentials, JetStreamBroker
from session_fabric.jetstream.embedded import EmbeddedBroker
from session_fabric.parts import Common
from session_fabric.ports import Broker
from session_fabric.records import Directory, SessionRecord
from session_fabric.session import Session
from session_fabric.subscription import Subscription
from session_fabric.words.errors import InvalidRequest
from session_fabric.words.names import check_tenant
from session_fabric.words.subjects import Kind
from session_fabric.writer import Identity

_CURSOR = re.compile(r"\d{16}~.+")


class SessionsPage(NamedTuple):
    """Sessions newest first; `next` is the cursor of the page behind, None at the end."""

    records: list[SessionRecord]
    next: str | None


class Fabric:
    """A connection to the fabric in the name of one participant of one tenant.

    `view` gives others the same connection. Use `async with Fabric.connect(…) as fabric:`.
    """

    def __init__(self, shared: _Shared, identity: Identity) -> None:
        self._shared = shared
        self.identity = identity

    @classmethod
    def connect(
        cls,
        url: str | None = None,
        *,
        embedded: Path | str | None = None,
        tenant: str = "default",
        participant: str = "agent:default",
        provision: bool = True,
        streams: int | None = None,
        replicas: int | None = None,
        name: str = "session-fabric",
        credentials: Credentials | None = None,
        timeout_s: float = 10.0,
    ) -> Connecting:
        """Connect to a broker at `url`, or to one of one's own that keeps its data in the directory `embedded`.

        Makes at the broker what is missing (`provision`): `streams` of them (16; 1 when embedded), with `replicas`
        copies (3 in a cluster that has three nodes, else 1). Raises `BrokerUnavailable`, `BrokerTooOld`,
        `BrokerIncompatible` (what is there does not fit, and why), `InvalidName`.
        """
        if (url is None) == (embedded is None):
            raise InvalidRequest(
                "Name either a broker's url or a directory for an embedded one.",
                hint='Fabric.connect("nats://127.0.0.1:4222") or Fabric.connect(embedded="./data").',
            )
        identity = Identity(check_tenant(tenant), participant)

        async def open() -> Fabric:
            own = await EmbeddedBroker.start(Path(embedded)) if embedded is not None else None
            try:
                broker = await JetStreamBroker.connect(
                    own.url if own else str(url),
                    provision=provision,
                    streams=streams or (1 if own else None),
                    replicas=replicas,
                    name=name,
                    credentials=credentials,
                    timeout_s=timeout_s,
                )
            except BaseException:
                if own is not None:
                    await own.stop()
                raise
            return await cls._over(broker, identity, own)

        return Connecting(open)

    @classmethod
    async def over(cls, broker: Broker, *, tenant: str = "default", participant: str = "agent:default") -> Fabric:
        """Use a broker that is there already: `MemoryBroker()` in tests of your own."""
        return await cls._over(broker, Identity(check_tenant(tenant), participant), None)

    @classmethod
    async def _over(cls, broker: Broker, identity: Identity, own: EmbeddedBroker | None) -> Fabric:
        shared = _Shared(broker, own)
        await shared.directory.open()
        return cls(shared, identity)

    @property
    def broker(self) -> Broker:
        return self._shared.broker

    @property
    def tenant(self) -> str:
        return self.identity.tenant

    @property
    def participant(self) -> str:
        return self.identity.participant

    def view(self, *, tenant: str | None = None, participant: str | None = None, gateway: bool = False) -> Fabric:
        """Return the same connection in another name. `gateway`: write under the gateway's own token."""
        identity = Identity(check_tenant(tenant or self.tenant), participant or self.participant, gateway)
        return Fabric(self._shared, identity)

    def session(self, name: str) -> Session:
        """Take a session in hand; no I/O. Raises `InvalidName`."""
        return Session(self._shared.common, self.identity, name)

    async def sessions(self, *, limit: int = 100, cursor: str | None = None) -> SessionsPage:
        """List the tenant's sessions, newest first, `limit` (1-1000) a page."""
        if not 1 <= limit <= 1000:
            raise InvalidRequest(f"limit is {limit}.", hint="Use 1 to 1000.", limit=1000)
        records = await self._shared.directory.of_tenant(self.tenant)
        if cursor is not None:
            if _CURSOR.fullmatch(cursor) is None:
                raise InvalidRequest(f"{cursor!r:.60} is not a cursor.", hint="Use `next` of the page before.")
            records = [r for r in records if _cursor(r) < cursor]
        page = records[:limit]
        return SessionsPage(page, _cursor(page[-1]) if len(records) > limit else None)

    def subscribe(
        self,
        *,
        durable: str,
        session: str | None = None,
        kind: Kind | None = None,
        name: str | None = None,
        ack_wait_s: float = 30.0,
        max_deliver: int = -1,
        start: str = "start",
    ) -> Subscription:
        """Work through events durably: `async with fabric.subscribe(durable="indexer") as work:`."""
        return Subscription(
            self._shared.broker,
            self._shared.directory,
            self.tenant,
            durable,
            session=session,
            kind=kind,
            name=name,
            ack_wait_s=ack_wait_s,
            max_deliver=max_deliver,
            start=start,
        )

    async def close(self) -> None:
        """End the connection for every view of it; an embedded broker is stopped, its data stays."""
        await self._shared.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


class _Shared:
    """What all views of one connection have in common."""

    def __init__(self, broker: Broker, own: EmbeddedBroker | None) -> None:
        self.broker = broker
        self.directory = Directory(broker)
        self.janitor = Janitor(broker.log)
        self.holdings = Holdings(broker)
        self.common = Common(broker, self.directory, Pace(), self.holdings, self.janitor.run_ended)
        self._own = own
        self._closed = False

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        await self.janitor.close()
        await self.directory.close()
        await self.broker.close()
        if self._own is not None:
            await self._own.stop()


class Connecting:
    """What `Fabric.connect` returns: `await` it, or enter it."""

    def __init__(self, open: Any) -> None:
        self._open = open
        self._fabric: Fabric | None = None

    def __await__(self) -> Generator[Any, None, Fabric]:
        return self._open().__await__()  # type: ignore[no-any-return]

    async def __aenter__(self) -> Fabric:
        self._fabric = await self._open()
        return self._fabric

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._fabric is not None:
            await self._fabric.close()


def _cursor(record: SessionRecord) -> str:
    return f"{record.created:016d}~{record.session}"
