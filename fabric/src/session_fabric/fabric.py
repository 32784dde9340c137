"""The entrance: connect, and take sessions in hand.

Whoever uses it finds every call on one object, so `Fabric` and `Session` mix in facets (`facets/`): views of their own
would be more names to know, or a second spelling of every signature.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Self

from session_fabric.agents import Handler, Options, TakeoverMode, check_handler, check_options
from session_fabric.connecting import Connecting, Way
from session_fabric.counting import Metrics
from session_fabric.facets.oversight import Oversight
from session_fabric.facets.tenant_governance import TenantGovernance
from session_fabric.jetstream import admissions
from session_fabric.jetstream.credentials import Credentials
from session_fabric.jetstream.embedded import EmbeddedBroker
from session_fabric.jetstream.tenanted import Tenanted
from session_fabric.keyring import Keyring
from session_fabric.parts import Parts
from session_fabric.ports import Broker
from session_fabric.presence import Presence
from session_fabric.relay.natives import Charges, GrantsOf, Natives
from session_fabric.serving import Agent, serve
from session_fabric.session import Session
from session_fabric.shared import Shared
from session_fabric.streams.streams import Streams
from session_fabric.subscription import Subscription
from session_fabric.tracing import Traces
from session_fabric.words.names import check_tenant
from session_fabric.words.subjects import Kind
from session_fabric.worker import ACK_WAIT_S, Worker, durable_of
from session_fabric.writer import Identity


class Fabric(Oversight, TenantGovernance):
    """A connection to the fabric in the name of one participant of one tenant.

    `view` gives others the same connection. Use `async with Fabric.connect(…) as fabric:`.
    """

    def __init__(self, shared: Shared, identity: Identity) -> None:
        self._shared = shared
        self._common = shared.common
        self._keys = shared.keys
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
    ) -> Connecting[Fabric]:
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
        fit, and why), `InvalidName`. Whatever is raised, nothing is left behind.
        """
        way = Way.of(url, embedded, credentials, tenant, participant)

        async def open() -> Fabric:
            broker, own = await way.open(
                provision=provision, streams=streams, replicas=replicas, name=name, timeout_s=timeout_s
            )
            async with AsyncExitStack() as undo:
                if own is not None:
                    undo.push_async_callback(own.stop)
                undo.push_async_callback(broker.close)
                fabric = await cls._over(broker, way.identity, own, keys, metrics, traces)
                undo.pop_all()
            return fabric

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
        shared = Shared(broker, own, identity, keys, metrics, traces)
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
        return Session(self._common, self.identity, name)

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
            agent = Agent(check_handler(handler), options, self._worker)
            self._agents.append(agent)
            return agent

        return decorate

    async def serve(self) -> None:
        """Serve every agent that was made of this object until SIGTERM, SIGINT or their `stop`."""
        await serve(self._agents)

    async def _worker(self, agent: Agent) -> Worker:
        await self.watch_over()
        pool, common, identity = agent.options.pool, self._common, self.identity
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

    def answering(self, grants_of: GrantsOf, charges: Charges | None = None) -> Natives | None:
        """Return what answers, inside `async with`, native participants who have no rights at this broker but to ask.

        `grants_of(tenant, participant, token)` says what a request's token grants, or raises; `charges` counts it.
        None where there is no nats-server, at which anybody could ask.
        """
        return self._shared.answering(grants_of, charges)

    def admitting(self, answer: admissions.Answer) -> admissions.Admissions | None:
        """Return what answers, when it is opened, whom the broker lets in. None where there is no nats-server."""
        return self._shared.admitting(answer)

    def tenanted(self) -> Tenanted | None:
        """Return what looks over all that the broker has of the tenant. None where there is no nats-server, or where
        one has no rights at it but to ask."""
        return self._shared.tenanted(self.tenant)

    def tell(self, facts: Callable[[], Mapping[str, Any]], *, drain: Callable[[], None]) -> None:
        """Tell these to whoever asks what lives at the broker; `drain` is called when we are to send clients elsewhere.

        Begins with `watch_over`, and ends with the connection.
        """
        self._shared.lease.tell(facts)
        self._shared.lease.on_drain(drain)

    async def check_served(self) -> None:
        """Raise `BrokerUnavailable` where the broker is connected and has done nothing for 15 s, as a cluster that has
        lost its majority. Known from `watch_over` on."""
        await self._shared.lease.check_served()

    async def let_go(self) -> None:
        """Stop watching, and give up the lease: what this process holds is left to others from now on."""
        await self._shared.let_go()

    @property
    def presence(self) -> Presence:
        """The members that this connection shows, in every session."""
        return self._shared.presence

    async def close(self) -> None:
        """End the connection for every view of it; an embedded broker is stopped, its data stays.

        Cancelled, it ends all the same, leaving out what it was about to say; called again, it ends what was left.
        """
        await self._shared.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
