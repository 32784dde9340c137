"""What all views of one connection have in common: its broker, what it holds there, and who watches meanwhile."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from session_fabric.absences import Absences
from session_fabric.counting import NOT_COUNTED, Metrics
from session_fabric.deadlines import Deadlines
from session_fabric.errands import Errands
from session_fabric.floors import expire, somebody_holds
from session_fabric.holdings import Holdings
from session_fabric.janitor import Janitor
from session_fabric.jetstream import admissions
from session_fabric.jetstream.broker import JetStreamBroker
from session_fabric.jetstream.embedded import EmbeddedBroker
from session_fabric.jetstream.tenanted import Tenanted
from session_fabric.keyring import Keyring
from session_fabric.leases import GATEWAYS, Lease
from session_fabric.loops import OwnLoop
from session_fabric.measured import MeasuredBroker
from session_fabric.mending import Mending
from session_fabric.pace import Pace
from session_fabric.parts import SERVICE, Common, Parts
from session_fabric.ports import Broker
from session_fabric.presence import Presence
from session_fabric.records import Directory
from session_fabric.relay.natives import Charges, GrantsOf, Natives
from session_fabric.room import Room
from session_fabric.rules.bounds import BOUNDS
from session_fabric.sampling import Sampler
from session_fabric.sealed import SealedBroker
from session_fabric.streams.streams import Streams
from session_fabric.tracing import PASSED_ON, Traces
from session_fabric.trimmer import Trimmer
from session_fabric.warden import Warden
from session_fabric.words.logs import log
from session_fabric.writer import Identity

# In whose name a gateway connects: what it holds are others' devices.
GATEWAY = "service:gateway"


class Shared:
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
        self.absences = Absences(broker, self.directory, self.holdings, self._hear_of_ends)
        pace = Pace()
        if isinstance(self._below, JetStreamBroker):
            self._below.after_heard(pace.heard)
        documents = Room(broker.bucket("sf-state"), BOUNDS["sf-state"])
        ended = self.janitor.run_ended
        traces = traces or PASSED_ON
        self._loop = OwnLoop()
        self.errands = Errands()
        self.common = Common(
            broker,
            self.directory,
            pace,
            self.holdings,
            self.presence,
            self.absences,
            ended,
            self.errands,
            documents,
            metrics,
            traces,
            self._loop,
        )
        self.keys = keys
        self._streams: Streams | None = None
        self._own = own
        self._watching: list[asyncio.Task[None]] = []
        self._warden: Warden | None = None
        self._closed = False  # or about to be
        self._closing = asyncio.Lock()
        self._gone = False

    def answering(self, grants_of: GrantsOf, charges: Charges | None = None) -> Natives | None:
        below = self._below
        return Natives(below, self.directory, grants_of, charges) if isinstance(below, JetStreamBroker) else None

    def admitting(self, answer: admissions.Answer) -> admissions.Admissions | None:
        return self._below.admitting(answer) if isinstance(self._below, JetStreamBroker) else None

    def tenanted(self, tenant: str) -> Tenanted | None:
        return self._below.tenanted(tenant) if isinstance(self._below, JetStreamBroker) else None

    async def durable_streams(self) -> Streams:
        if self._streams is None:
            self._streams = Streams(self.broker, self.keys, self.directory)
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
        warden = self._warden = Warden(self.broker, self.lease, [self.presence, mending], self.absences, self.metrics)
        deadlines = Deadlines(self.common, somebody_holds=somebody_holds, expire_offer=expire)
        trimmer = Trimmer(self.common, self._below)
        self._watching += [
            loop.create_task(warden.run(), name="warden"),
            loop.create_task(deadlines.run(), name="deadlines"),
            loop.create_task(trimmer.run(), name="trimmer"),
        ]
        if isinstance(self._below, JetStreamBroker):
            self._watching.append(loop.create_task(self._below.finishing().run(), name="moves"))

    async def _hear_of_ends(self) -> None:
        """Return when this process hears of connections that end, where it has the rights to."""
        await self.watch_over()
        if self._warden is not None:
            await self._warden.listening.wait()

    async def let_go(self) -> None:
        watching, self._watching = self._watching, []
        for task in watching:
            task.cancel()
        async with AsyncExitStack() as stack:
            # Last of all: whoever watches takes over at once what is left.
            stack.push_async_callback(self.lease.close)
            stack.push_async_callback(self.presence.close)
            await asyncio.gather(*watching, return_exceptions=True)

    async def close(self) -> None:
        if self._gone:
            return
        self._loop.check()
        self._closed = True
        async with self._closing:  # again, it finds nothing to do
            async with AsyncExitStack() as stack:
                # Each of them whatever becomes of the one before: a caller who is cancelled leaves nothing open.
                if self._own is not None:
                    stack.push_async_callback(self._own.stop)
                stack.push_async_callback(self.broker.close)
                if self._streams is not None:
                    stack.push_async_callback(self._streams.close)
                stack.push_async_callback(self.directory.close)
                stack.push_async_callback(self.let_go)
                stack.push_async_callback(self.janitor.close)
                stack.push_async_callback(self.errands.close)
            self._gone = True


def _report(task: asyncio.Task[None]) -> None:
    """A watch that must not end has ended: say so."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("watch_ended", task=task.get_name(), error=type(error).__name__, exc_info=error)
