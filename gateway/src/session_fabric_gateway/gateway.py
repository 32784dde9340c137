"""What the parts of one gateway process share, and its life: running, draining, stopped."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from socket import gethostname as host_name
from typing import Any, Final, Literal, Protocol

import structlog
from aiohttp import web
from session_fabric import Fabric, Session
from session_fabric.streams.expiry import Sweeper
from session_fabric.streams.streams import Streams
from session_fabric.streams.tails import Tails
from session_fabric.tracing import Traces
from session_fabric.words.errors import BrokerUnavailable, Draining, TokenExpired, Unauthenticated
from session_fabric.words.subjects import Place
from session_fabric.words.wire import Record

from session_fabric_gateway.accounts import A_SLICE, Accounts, Meter
from session_fabric_gateway.answers import headers_of_all
from session_fabric_gateway.auth import Authenticator, CountedAuthenticator, Grant, now_ms
from session_fabric_gateway.bills import Bill
from session_fabric_gateway.codes import STOPPING, TOKEN_REVOKED, Close
from session_fabric_gateway.doorway import Doorway
from session_fabric_gateway.draining import after_ms, spread_s
from session_fabric_gateway.durable.wakes import Wakes
from session_fabric_gateway.endings import end
from session_fabric_gateway.hub import Hub
from session_fabric_gateway.metrics import Metrics
from session_fabric_gateway.neighbours import compare
from session_fabric_gateway.origins import check_listed
from session_fabric_gateway.outbox import Outbox, Sender
from session_fabric_gateway.rota import Rota
from session_fabric_gateway.settings import Settings
from session_fabric_gateway.strangers import Pace
from session_fabric_gateway.tickets import BUCKET, Tickets
from session_fabric_gateway.tokens.standing import Standing
from session_fabric_gateway.vitals import Patience
from session_fabric_gateway.watches import Watches

log = structlog.get_logger()

SWEEP_S: Final = 0.5
_READY_WITHIN_S: Final = 2.0

# What takes longer is looked after this often: accounts that may be forgotten, files that have changed.
_LOOK_S: Final = 2.0
# Connections that are looked after in one turn of the loop; one takes 3 microseconds.
_LOOKED_AFTER: Final = 64
METER: Final = web.RequestKey("meter", Meter)
BILL: Final = web.RequestKey("bill", Bill)
_ADDRESS: Final = web.RequestKey("address", str)
_READS: Final = frozenset({"GET", "HEAD", "OPTIONS"})

# A lane is a part of a socket, which is counted for itself.
Transport = Literal["websocket", "sse", "lane"]


class Peer(Protocol):
    """A connection that stays: a socket, or a stream of server-sent events. `grant` None: it has not said hello."""

    grant: Grant | None
    outbox: Outbox

    def check(self, now: float, now_ms: int) -> None:
        """See to what is due: pings, deadlines."""

    def tell(self, op: str, fields: Mapping[str, Any]) -> None:
        """Send a frame about the connection itself."""

    def narrow(self, grant: Grant) -> None:
        """Go on with what is left of its grant; end what is not."""

    def end(self, close: Close) -> None:
        """Close it, soon."""


class Gateway:
    """One gateway process. `start`, then `stop`; what it owns ends with it."""

    def __init__(
        self,
        fabric: Fabric,
        streams: Streams,
        authenticator: Authenticator,
        settings: Settings,
        standing: Standing,
        metrics: Metrics,
        traces: Traces,
    ) -> None:
        self.fabric = fabric
        self.streams = streams
        self.tails = Tails(streams)
        self.authenticator = CountedAuthenticator(authenticator, metrics.auth_refused)
        self.settings = settings
        self.metrics = metrics
        self.traces = traces
        self.sender = Sender()
        self.rota = Rota()
        self.hub = Hub(fabric, self._delivered)
        self.tickets = Tickets(fabric.broker.bucket(BUCKET))
        self.wakes = Wakes(streams, settings.webhook_host, settings.public_url, local=settings.insecure)
        self.watches = Watches(fabric, settings.limits.max_subs)
        self.presence = fabric.presence
        self.patience = Patience(settings.heartbeat_s, settings.stalled_s, settings.hello_s)
        self.origins = check_listed(settings.allow_origin)
        self.headers = headers_of_all(settings.hsts_s)
        self.accounts = Accounts(settings.allowances(), lambda limit: self.metrics.limited.labels(limit).inc())
        pace = Pace(settings.head_s, settings.head_s)
        self.tls = settings.tls()
        self.door = Doorway(self.accounts, self.metrics, settings.trusted_proxy, pace, self.headers)
        self._standing = standing
        self.address = ""
        self._since_ms = now_ms()
        self._peers: set[Peer] = set()
        self._lanes = 0
        self._less = asyncio.Event()
        self.draining = False
        self._drained: asyncio.Task[None] | None = None
        self._busy = 0
        self._tasks: list[asyncio.Task[None]] = []
        self._unhooks = [
            fabric.broker.on_connection(self._broker_changed),
            standing.on_changed(self._look_through),
        ]

    def session(self, grant: Grant, name: str) -> Session:
        """Take a session in hand in a participant's name."""
        view = self.fabric.view(tenant=grant.tenant, participant=grant.participant, gateway=True)
        return view.session(name)

    def session_of(self, request: web.Request, grant: Grant, name: str) -> Session:
        """The same for one request: what it reads of the log is put down to it when it has been answered."""
        session = self.session(grant, name)
        bill = request[BILL] = Bill(request[METER])
        session.counted_by(bill.owe)
        return session

    def place(self, grant: Grant, name: str) -> Place:
        return self.session(grant, name).place

    def refuse_while_draining(self) -> None:
        if self.draining:
            raise Draining("This gateway is stopping.", hint="Connect again: another one will answer.")

    async def ready(self) -> None:
        """Return if requests can be served. Raises `Draining`, `BrokerUnavailable`."""
        self.refuse_while_draining()
        if not self.fabric.broker.connected:
            raise BrokerUnavailable("The broker is not connected.")
        await self.fabric.check_served()
        await self.fabric.broker.ping(_READY_WITHIN_S)

    @contextmanager
    def busy(self) -> Iterator[None]:
        """Mark a request that must be let finish before the gateway stops."""
        self._busy += 1
        try:
            yield
        finally:
            self._busy -= 1
            self._less.set()

    @contextmanager
    def serving(self, peer: Peer, transport: Transport) -> Iterator[None]:
        """Look after a connection for as long as the block lasts."""
        self._peers.add(peer)
        self._lanes += transport == "lane"
        open_now = self.metrics.lanes if transport == "lane" else self.metrics.connections.labels(transport)
        open_now.inc()
        try:
            self._look_at(peer)  # what was revoked since it was let in
            yield
        finally:
            self._peers.discard(peer)
            self._lanes -= transport == "lane"
            open_now.dec()
            self._less.set()

    # --- what is revoked ----------------------------------------------------------------------------

    def still(self, grant: Grant) -> Grant:
        """Return what is left of a grant that has been used for a while. Raises `Unauthenticated`, `TokenExpired`."""
        if grant.expires_ms is not None and now_ms() >= grant.expires_ms:
            raise TokenExpired("The token has expired.", hint="Get a new one.")
        return self._standing.left(grant)

    def _look_through(self, tenant: str | None) -> None:
        """Look at the connections of a tenant, or (None) of all."""
        for peer in list(self._peers):
            if peer.grant is not None and tenant in (None, peer.grant.tenant):
                self._look_at(peer)

    def _look_at(self, peer: Peer) -> None:
        """Close a connection whose token is revoked; take from it the sessions for which it counts no more."""
        grant = peer.grant
        if grant is None:
            return
        try:
            left = self._standing.left(grant)
        except Unauthenticated:
            peer.end(TOKEN_REVOKED)
            return
        if left is not grant:
            peer.narrow(left)

    # --- who may do how much ------------------------------------------------------------------------

    def knocked(self, request: web.Request) -> None:
        """Count a request of which nobody knows yet whose it is. Raises `RateLimited`."""
        address = request[_ADDRESS] = self.door.address_of(request)
        self.accounts.spend_of_address(address, time.monotonic(), "requests")

    def let_in(self, request: web.Request, grant: Grant) -> None:
        """Count a request of somebody who is known, in place of that. Raises `RateLimited`, `LimitExceeded`."""
        now = time.monotonic()
        self.door.known(request)
        self.accounts.give_back(request[_ADDRESS], now, "requests")
        writes = request.method not in _READS
        # One that does not say how much will come is counted when it has; until that is paid off, no more comes.
        size = (1 if request.body_exists else 0) if request.content_length is None else request.content_length
        request[METER] = self.accounts.request(grant, now, writes=writes, size=size)

    # --- its life -----------------------------------------------------------------------------------

    async def start(self) -> None:
        self.fabric.tell(self.told, drain=self.begin_drain)
        await self.fabric.watch_over()
        await self.wakes.open()
        loop = asyncio.get_running_loop()
        self._tasks = [
            loop.create_task(self._sweep(), name="sweep"),
            loop.create_task(Sweeper(self.streams).run(), name="expiry"),
            loop.create_task(compare(self.fabric.broker), name="neighbours"),
        ]
        for task in self._tasks:
            task.add_done_callback(_report)

    async def drain(self) -> None:
        """Send everybody elsewhere: no new sessions are opened, what is under way ends, then connections close.

        Whoever asks again waits for the same end.
        """
        self.begin_drain()
        if self._drained is not None:
            await asyncio.shield(self._drained)

    def begin_drain(self) -> None:
        if self._drained is None:
            self._drained = asyncio.get_running_loop().create_task(self._drain(), name="drain")
            self._drained.add_done_callback(_report)

    async def _drain(self) -> None:
        self.draining = True
        self.metrics.draining.set(1)
        settings, loop = self.settings, asyncio.get_running_loop()
        spread = spread_s(len(self._peers), settings.drain_s, settings.stop_s)
        log.info("draining", connections=len(self._peers), seconds=round(spread, 1))
        deadline = loop.time() + spread
        for peer in list(self._peers):
            peer.tell("moved", {"after_ms": after_ms(spread)})
        await self._quiet_by(deadline)
        for peer in list(self._peers):
            peer.end(STOPPING)
        deadline = loop.time() + max(0.5, settings.stop_s - spread)
        await self._quiet_by(deadline)

    async def _quiet_by(self, deadline: float) -> None:
        """Wait until nobody is left and nothing is under way."""
        with suppress(TimeoutError):
            async with asyncio.timeout_at(deadline):
                while self._peers or self._busy:
                    self._less.clear()
                    await self._less.wait()

    def told(self) -> Mapping[str, Any]:
        """Return what operators are told of it (`fabricctl gateway ls`)."""
        return {
            "host": host_name(),
            "pid": os.getpid(),
            "address": self.address,
            "workers": self.settings.workers,
            "connections": len(self._peers) - self._lanes,
            "subscriptions": len(self.hub),
            "seals": self.settings.encryption_keys is not None,
            "since": self._since_ms,
            "now": now_ms(),
            "draining": self.draining,
            "drained": self._drained is not None and self._drained.done(),
        }

    async def stop(self) -> None:
        """End what is left. Members stay in the bucket: who comes back through another gateway has never left."""
        while self._unhooks:  # who stops it again has nothing left to do
            self._unhooks.pop()()
        await end(self._tasks)
        await self.fabric.let_go()
        await self.watches.close()
        await self.hub.close()
        await self.wakes.close()
        await self.tails.close()

    def _delivered(self, record: Record) -> None:
        self.metrics.delivery_s.observe(max(0, now_ms() - record.ts) / 1000)

    def _broker_changed(self, connected: bool) -> None:
        for peer in list(self._peers):
            peer.tell("broker", {"connected": connected})

    async def _sweep(self) -> None:
        """Look after all connections and feeds at once: no timers of their own."""
        delivered = written = 0
        metrics = self.metrics
        looked = time.monotonic()
        while True:
            await asyncio.sleep(SWEEP_S)
            now, ms = time.monotonic(), now_ms()
            await self._check_visitors(now)
            if now - looked >= _LOOK_S:
                looked = now
                await self._check_accounts(now)
                if self.tls is not None:
                    self.tls.check()
            await self._check_peers(now, ms)
            self.hub.sweep(asyncio.get_running_loop().time())
            self.tails.sweep(asyncio.get_running_loop().time())
            total, size = self.hub.events_delivered() + self.tails.handed, self.sender.written_bytes
            metrics.delivered.inc(total - delivered)
            metrics.written.inc(size - written)
            delivered, written = total, size
            metrics.feeds.set(len(self.hub) + len(self.tails))

    async def _check_accounts(self, now: float) -> None:
        for _ in range(0, len(self.accounts), A_SLICE):
            self.accounts.sweep(now)
            await asyncio.sleep(0)

    async def _check_visitors(self, now: float) -> None:
        for number, visitor in enumerate(self.door.visitors()):
            visitor.check(now, self.door.pace)
            if number % _LOOKED_AFTER == _LOOKED_AFTER - 1:
                await asyncio.sleep(0)

    async def _check_peers(self, now: float, now_ms: int) -> None:
        buffered = stalled = 0
        for number, peer in enumerate(list(self._peers)):
            peer.check(now, now_ms)
            buffered += peer.outbox.buffered_bytes
            stalled += peer.outbox.stalled
            if number % _LOOKED_AFTER == _LOOKED_AFTER - 1:
                await asyncio.sleep(0)
        self.metrics.buffered.set(buffered)
        self.metrics.stalled.set(stalled)


def _report(task: asyncio.Task[None]) -> None:
    """A task that must not end has ended: say so, and let the supervisor find out by readiness."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("task_failed", task=task.get_name(), error=type(error).__name__, exc_info=error)
