"""The entrance: connect, and take sessions in hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from session_fabric import auditing, census, keeping, listing
from session_fabric.agents import Handler, Options, TakeoverMode, check_options
from session_fabric.auditing import PreviousAudit
from session_fabric.counting import NOT_COUNTED, Metrics
from session_fabric.dead_letters import DeadLetter, dead_letters
from session_fabric.deadlines import Deadlines
from session_fabric.floors import expire, somebody_holds
from session_fabric.follow import Pace
from session_fabric.holdings import Holdings
from session_fabric.importing import Lines, import_session
from session_fabric.inspection import LiveRun, last_events, live_runs
from session_fabric.janitor import Janitor
from session_fabric.jetstream import admissions
from session_fabric.jetstream.broker import JetStreamBroker
from session_fabric.jetstream.credentials import Credentials, check_granted
from session_fabric.jetstream.embedded import EmbeddedBroker
from session_fabric.keeping import Kept
from session_fabric.keyring import Keyring
from session_fabric.leases import GATEWAYS, Lease
from session_fabric.listing import SessionsPage
from session_fabric.measured import MeasuredBroker
from session_fabric.mending import Mending
from session_fabric.parts import SERVICE, Common, Parts
from session_fabric.ports import Broker
from session_fabric.presence import Presence
from session_fabric.records import Directory, SessionRecord
from session_fabric.relay.natives import Charge, GrantsOf, Natives
from session_fabric.remote.broker import RemoteBroker
from session_fabric.rewrapping import Progress, Under, rewrap, wrapped_under
from session_fabric.room import Room
from session_fabric.rules.bounds import BOUNDS
from session_fabric.rules.holds import Hold, Holds
from session_fabric.sampling import Sampler
from session_fabric.sealed import SealedBroker
from session_fabric.serving import Agent, serve
from session_fabric.session import Session
from session_fabric.streams.streams import Streams
from session_fabric.subscription import Subscription
from session_fabric.tracing import PASSED_ON, Traces
from session_fabric.trimmer import Trimmer
from session_fabric.warden import Warden
from session_fabric.words.errors import Forbidden, InvalidRequest
from session_fabric.words.logs import log
from session_fabric.words.names import check_tenant
from session_fabric.words.subjects import Kind
from session_fabric.worker import ACK_WAIT_S, Worker, durable_of
from session_fabric.writer import Identity

# In whose name a gateway connects: what it holds are others' devices.
GATEWAY = "service:gateway"


class Fabric:
    """A connection to the fabric in the name of one participant of one tenant.

    `view` gives others the same connection. Use `async with Fabric.connect(…) as fabric:`.
    """

    def __init__(self, shared: _Shared, identity: Identity) -> None:
        self._shared = shared
        self.identity = identity
        self._agents: list[Agent] = []

    @classmethod
    def connect(
        cls,
        url: str | None = None,
        *,
        embedded: Path | str | None = None,
        tenant: str | None = None,
        participant: str | None = None,
        provision: bool = True,
        streams: int | None = None,
        replicas: int | None = None,
        name: str = "session-fabric",
        credentials: Credentials | Path | str | None = None,
        keys: Keyring | None = None,
        metrics: Metrics | None = None,
        traces: Traces | None = None,
        timeout_s: float = 10.0,
    ) -> Connecting:
        """Connect to a broker at `url`, or to one of one's own that keeps its data in the directory `embedded`.

        `tenant` ("default") and `participant` ("agent:default"): in whose name. `credentials`: how to introduce oneself
        to the broker, or a file that says so; without, the file that SESSION_FABRIC_NATS_CREDENTIALS names. Those of
        `fabricctl agent grant` name tenant, participant and url too, and have the fabric do what the broker would not
        let one do.

        Makes at the broker what is missing (`provision`): `streams` of them (16; 1 when embedded), with `replicas`
        copies (3 in a cluster that has three nodes, else 1). `keys` (`Keys.read(FILE)`): the broker gets the bodies of
        events and documents of new sessions sealed, where the tenant has a key. `metrics` (`PrometheusMetrics()`): who
        counts what happens here; `traces` (`OpenTelemetryTraces()`): who makes spans of it. Raises `BrokerUnavailable`,
        `BrokerTooOld`, `BrokerRefused` (the credentials are not accepted), `BrokerIncompatible` (what is there does not
        fit, and why), `InvalidName`.
        """
        shown: Credentials | None = None
        if embedded is None:
            shown = Credentials.read(credentials) if isinstance(credentials, Path | str) else credentials
            shown = shown or Credentials.of_environment()
        granted = shown.granted.now() if shown is not None and shown.granted is not None else None
        if granted is not None:
            check_granted(granted, tenant, participant)
            url = url or granted.url
        if (url is None) == (embedded is None):
            raise InvalidRequest(
                "Name either a broker's url or a directory for an embedded one.",
                hint='Fabric.connect("nats://127.0.0.1:4222") or Fabric.connect(embedded="./data").',
            )
        identity = Identity(check_tenant(tenant or "default"), participant or "agent:default")

        async def open() -> Fabric:
            if granted is not None and shown is not None:
                remote = await RemoteBroker.connect(
                    str(url),
                    tenant=granted.tenant,
                    participant=granted.participant,
                    sessions=granted.sessions,
                    credentials=shown,
                    name=name,
                    timeout_s=timeout_s,
                )
                return await cls._over(
                    remote, Identity(granted.tenant, granted.participant), None, keys, metrics, traces
                )
            own = await EmbeddedBroker.start(Path(embedded)) if embedded is not None else None
            try:
                broker = await JetStreamBroker.connect(
                    own.url if own else str(url),
                    provision=provision,
                    streams=streams or (1 if own else None),
                    replicas=replicas,
                    name=name,
                    credentials=own.credentials if own else shown,
                    timeout_s=timeout_s,
                )
            except BaseException:
                if own is not None:
                    await own.stop()
                raise
            return await cls._over(broker, identity, own, keys, metrics, traces)

        return Connecting(open)

    @classmethod
    async def over(
        cls,
        broker: Broker,
        *,
        tenant: str = "default",
        participant: str = "agent:default",
        keys: Keyring | None = None,
        metrics: Metrics | None = None,
        traces: Traces | None = None,
    ) -> Fabric:
        """Use a broker that is there already: `MemoryBroker()` in tests of your own."""
        return await cls._over(broker, Identity(check_tenant(tenant), participant), None, keys, metrics, traces)

    @classmethod
    async def _over(
        cls,
        broker: Broker,
        identity: Identity,
        own: EmbeddedBroker | None,
        keys: Keyring | None,
        metrics: Metrics | None,
        traces: Traces | None,
    ) -> Fabric:
        shared = _Shared(broker, own, identity, keys, metrics, traces)
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
        self._check_all(all_tenants)
        tenant = None if all_tenants else self.tenant
        directory = self._shared.directory
        return await listing.page(directory, tenant, limit=limit, cursor=cursor, where=where, since_ms=since_ms)

    async def last_events(self, records: Sequence[SessionRecord]) -> list[int | None]:
        """Return when the newest milestone of each session was stored, milliseconds since 1970; None: it has none."""
        return await last_events(self._shared.common, records)

    async def live_runs(self, *, all_tenants: bool = False) -> list[LiveRun]:
        """Return the runs that processes hold now, in all sessions of the tenant, those first that have stood longest
        as they are. `all_tenants`: of every tenant, for operators and services.

        Raises `Forbidden` (also for who has no rights at the broker), `BrokerUnavailable`.
        """
        self._check_all(all_tenants)
        return await live_runs(self._shared.common, None if all_tenants else self.tenant)

    def _check_all(self, all_tenants: bool) -> None:
        if all_tenants and self.identity.role not in ("operator", "service"):
            raise Forbidden(
                f"{self.participant} cannot look into every tenant's sessions.", hint="Operators and services can."
            )

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

    def agent(
        self,
        *,
        pool: str = "default",
        concurrency: int = 8,
        retries: int = 2,
        takeover: TakeoverMode = "restart",
        idle_s: float = 60.0,
        stop_s: float = 20.0,
    ) -> Callable[[Handler], Agent]:
        """Make a handler an agent of a pool: `@fabric.agent(pool="support")`, then `await fabric.serve()`.

        What participants ask of the pool goes to one of its agents: to the process that has the session, else to any.
        `concurrency`: runs at once. A handler that raises is called again up to `retries` times, after 0.5 s, 1 s, …
        at most 30 s, what it had said hidden; then the run has failed (`dead_letter`); `RunFailed` fails it at once.
        A run whose process is lost goes to another worker: `takeover` "restart" calls the handler anew, what was said
        hidden; "continue" lets it write on (`run.said` is the text so far); "fail" ends the run. A session that is
        quiet for `idle_s` is let go. Told to stop, runs have `stop_s` to end; those that have not are left to others.
        """
        options = check_options(Options(pool, concurrency, retries, takeover, idle_s, stop_s))

        def decorate(handler: Handler) -> Agent:
            agent = Agent(handler, options, self._worker)
            self._agents.append(agent)
            return agent

        return decorate

    async def serve(self) -> None:
        """Serve every agent that was made of this object until SIGTERM, SIGINT or their `stop`."""
        await serve(self._agents)

    async def dead_letters(self, pool: str | None = None, *, limit: int = 100) -> list[DeadLetter]:
        """Return the inputs that agents of a pool (None: of any) failed to answer for good, in all of the tenant's
        sessions, oldest first, at most `limit` (1-1000): each can be asked again (`retry`) or let go (`drop`).

        Raises `Forbidden` for users, `BrokerUnavailable`.
        """
        return await dead_letters(self._shared.common, self.identity, pool, limit)

    async def import_session(self, name: str, lines: Lines) -> tuple[SessionRecord, bool]:
        """Make a session of an export: the same events, ids, actors and times, and `session.imported` behind them.

        `lines` is called to read the file, twice: it is verified whole before anything is written. The second is
        whether it was made now; the same file again changes nothing, and finishes what was cut off. Runs that were
        under way have ended. Raises `Corrupt`, `SessionExists`, `Forbidden` (users), `BrokerUnavailable` (try again).
        """
        return await import_session(Parts.of(self._shared.common, self.identity, name), lines)

    def audit(
        self, *, since_ms: int = 0, previous: PreviousAudit | None = None, key: Ed25519PrivateKey | None = None
    ) -> AsyncGenerator[bytes, None]:
        """Yield who did what when to the tenant's sessions, as lines that follow from each other; nothing of what was
        said. `since_ms`: milliseconds since 1970; `previous`: the end of an earlier file, to go on from.

        Raises `Forbidden` (users, agents), `BrokerUnavailable`.
        """
        return auditing.export(self._shared.common, self.identity, since_ms=since_ms, previous=previous, key=key)

    async def retention(self) -> Kept:
        """Return how long the tenant's sessions are kept, where nothing else is said of one; and the holds on them."""
        return await keeping.of_tenant(self.broker, self.tenant)

    async def set_retention(self, /, **changes: Any) -> Kept:
        """Change how long the tenant's sessions are kept; see `Session.set_retention`. Raises as that does."""
        return await keeping.set_of_tenant(self.broker, self.identity, changes)

    async def hold(self, reason: str, name: str = "hold") -> Hold:
        """Have nothing of any session of the tenant removed, until `release`; see `Session.hold`."""
        return await keeping.hold_tenant(self.broker, self.identity, reason, name)

    async def release(self, name: str = "hold") -> Holds:
        """End a hold on the tenant; return those that still stand. Raises `InvalidRequest` for a name there is not."""
        return await keeping.release_tenant(self.broker, self.identity, name)

    async def wrapped_under(self) -> list[Under]:
        """Return under which keys all that is sealed is, of every tenant; for operators and services.

        Raises `InvalidRequest` without keys, `Forbidden`, `BrokerUnavailable`.
        """
        return await wrapped_under(self.broker, self._all_keys())

    async def rewrap(self, progress: Progress = lambda _: None) -> int:
        """Wrap the keys of all that is sealed anew, of every tenant, under their tenants' current keys; return how many
        were. What is under a key that is not at hand is left (`wrapped_under` tells). `progress`: so many more were.

        Cut short, it goes on when it is called again; who has the older and the new key notices nothing. Raises as
        `wrapped_under`, and `Conflict`.
        """
        return await rewrap(self.broker, self._all_keys(), progress)

    def _all_keys(self) -> Keyring:
        self._check_all(True)
        keys = self._shared.keys
        if keys is None:
            raise InvalidRequest(
                "There are no keys.",
                hint="Give the file of keys: Fabric.connect(keys=…), SESSION_FABRIC_ENCRYPTION_KEYS.",
            )
        return keys

    async def _worker(self, agent: Agent) -> Worker:
        await self.watch_over()
        pool, common, identity = agent.options.pool, self._shared.common, self.identity
        # Whatever is in flight goes to another worker when this one is gone; ack comes with the claim, soon.
        inbox = self.subscribe(durable=durable_of(pool), kind="in", name=pool, ack_wait_s=ACK_WAIT_S)
        return Worker(lambda name: Parts.of(common, identity, name), inbox, agent.handler, agent.options)

    async def durable_streams(self) -> Streams:
        """Return this connection's durable streams, of all tenants. Raises `BrokerUnavailable`."""
        return await self._shared.durable_streams()

    async def watch_over(self) -> None:
        """Watch, from now until `close`, over all sessions at this broker: find processes that are gone and put in
        order what they held, and end what has waited for too long.

        Every gateway and every served agent does; one of them has to. Again it changes nothing. Raises
        `BrokerUnavailable`.
        """
        await self._shared.watch_over()

    def answering(self, grants_of: GrantsOf, charge: Charge | None = None) -> Natives | None:
        """Return what answers, inside `async with`, native participants who have no rights at this broker but to ask.

        `grants_of(tenant, participant, token)` says what a request's token grants, or raises; `charge` counts it.
        None where there is no nats-server, at which anybody could ask.
        """
        return self._shared.answering(grants_of, charge)

    def admitting(self, answer: admissions.Answer) -> admissions.Admissions | None:
        """Return what answers, when it is opened, whom the broker lets in. None where there is no nats-server."""
        return self._shared.admitting(answer)

    async def processes(self) -> list[census.Process]:
        """Return the gateways and agents that live at this broker, as far as this connection may see them, and of
        which version each is.

        Raises `BrokerUnavailable`.
        """
        return await census.processes(self.broker)

    def tell(self, facts: Callable[[], Mapping[str, Any]], *, drain: Callable[[], None]) -> None:
        """Tell these to whoever asks what lives at the broker; `drain` is called when we are to send clients elsewhere.

        Begins with `watch_over`, and ends with the connection.
        """
        self._shared.lease.tell(facts)
        self._shared.lease.on_drain(drain)

    async def let_go(self) -> None:
        """Stop watching, and give up the lease: what this process holds is left to others from now on."""
        await self._shared.let_go()

    @property
    def presence(self) -> Presence:
        """The members that this connection shows, in every session."""
        return self._shared.presence

    async def close(self) -> None:
        """End the connection for every view of it; an embedded broker is stopped, its data stays."""
        await self._shared.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


class _Shared:
    """What all views of one connection have in common."""

    def __init__(
        self,
        broker: Broker,
        own: EmbeddedBroker | None,
        identity: Identity,
        keys: Keyring | None,
        metrics: Metrics | None,
        traces: Traces | None,
    ) -> None:
        tenant, gateway = identity.tenant, identity.participant == GATEWAY
        # What is asked for goes through as it is stored: whoever asks has the keys, or sees what is sealed.
        self._below = broker
        self._measured: MeasuredBroker | None = None
        if metrics is not None or traces is not None:
            broker = self._measured = MeasuredBroker(broker, metrics or NOT_COUNTED, traces or PASSED_ON)
        self.metrics = metrics = metrics or NOT_COUNTED
        self.broker = broker = broker if keys is None else SealedBroker(broker, keys)
        self.directory = Directory(broker, keys)
        self.janitor = Janitor(broker.log, metrics)
        self.lease = Lease(broker, GATEWAYS if gateway else tenant, metrics)
        self.presence = Presence(broker, self.directory, self.lease, gateway=gateway, metrics=metrics)
        self.holdings = Holdings(broker, self.lease)
        pace = Pace()
        documents = Room(broker.bucket("sf-state"), BOUNDS["sf-state"])
        ended = self.janitor.run_ended
        traces = traces or PASSED_ON
        self.common = Common(
            broker, self.directory, pace, self.holdings, self.presence, ended, documents, metrics, traces
        )
        self.keys = keys
        self._streams: Streams | None = None
        self._own = own
        self._watching: list[asyncio.Task[None]] = []
        self._closed = False

    def answering(self, grants_of: GrantsOf, charge: Charge | None = None) -> Natives | None:
        below = self._below
        return Natives(below, self.directory, grants_of, charge) if isinstance(below, JetStreamBroker) else None

    def admitting(self, answer: admissions.Answer) -> admissions.Admissions | None:
        return self._below.admitting(answer) if isinstance(self._below, JetStreamBroker) else None

    async def durable_streams(self) -> Streams:
        if self._streams is None:
            self._streams = Streams(self.broker, self.keys)
            await self._streams.open()
        return self._streams

    async def watch_over(self) -> None:
        await self.lease.hold()
        if self._watching or self._closed:
            return
        loop = asyncio.get_running_loop()
        if self._measured is not None and self.metrics is not NOT_COUNTED:
            sampler = Sampler(self._measured, self.lease, self.metrics)
            self._watching.append(loop.create_task(sampler.run(), name="sampler"))
        if self.broker.may_mend:
            self._mend(loop)
        for task in self._watching:
            task.add_done_callback(_report)

    def _mend(self, loop: asyncio.AbstractEventLoop) -> None:
        mending = Mending(
            self.holdings, lambda place: Parts.of(self.common, Identity(place.tenant, SERVICE), place.session)
        )
        warden = Warden(self.broker, self.lease, [self.presence, mending], self.metrics)
        deadlines = Deadlines(self.common, somebody_holds=somebody_holds, expire_offer=expire)
        trimmer = Trimmer(self.common, self._below)
        self._watching += [
            loop.create_task(warden.run(), name="warden"),
            loop.create_task(deadlines.run(), name="deadlines"),
            loop.create_task(trimmer.run(), name="trimmer"),
        ]

    async def let_go(self) -> None:
        watching, self._watching = self._watching, []
        for task in watching:
            task.cancel()
        await asyncio.gather(*watching, return_exceptions=True)
        await self.presence.close()
        # Last of all: whoever watches takes over at once what is left.
        await self.lease.close()

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        await self.janitor.close()
        await self.let_go()
        await self.directory.close()
        if self._streams is not None:
            await self._streams.close()
        await self.broker.close()
        if self._own is not None:
            await self._own.stop()


def _report(task: asyncio.Task[None]) -> None:
    """A watch that must not end has ended: say so."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("watch_ended", task=task.get_name(), error=type(error).__name__, exc_info=error)


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
