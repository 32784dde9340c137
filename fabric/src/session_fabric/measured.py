"""A broker whose work is counted, and whose events carry their trace: wraps another one.

What sessions and runs do is counted where they do it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Literal

from session_fabric.counting import Metrics
from session_fabric.jetstream.log import INLINE_LIMIT
from session_fabric.ports import Ack, Broker, Bucket, Delivery, Durable, Guard, Log, Stretch, Wanted
from session_fabric.tracing import Traces
from session_fabric.words.errors import BrokerRefused, Conflict, FabricError, Unavailable
from session_fabric.words.events import Draft
from session_fabric.words.measures import (
    BLOB_BYTES,
    BROKER_CONNECTED,
    DELIVERIES,
    DISCONNECTS,
    PUBLISH,
    PUBLISHES,
    REDELIVERIES,
)
from session_fabric.words.names import DEADLINES_DURABLE, POOL_DURABLE
from session_fabric.words.subjects import Place

Consumer = Literal["pool", "deadlines", "subscription"]


def consumer_of(durable: str) -> Consumer:
    """Return what kind of durable consumer a name is of; how many names there are is the users' affair."""
    if durable == DEADLINES_DURABLE:
        return "deadlines"
    return "pool" if durable.startswith(POOL_DURABLE) else "subscription"


class MeasuredLog:
    """A `Log` whose publishes are counted and traced; everything else goes to the one below."""

    def __init__(self, below: Log, metrics: Metrics, traces: Traces) -> None:
        self._below = below
        self._traces = traces
        self._metrics = metrics
        self.home = below.home
        self.home_at_hand = below.home_at_hand
        self.head = below.head
        self.end = below.end
        self.newest = below.newest
        self.lasts = below.lasts
        self.read = below.read
        self.read_back = below.read_back
        self.whole = below.whole
        self.runs_with_deltas = below.runs_with_deltas
        self.listen = below.listen
        self.purge = below.purge
        self.erase = below.erase
        self.subjects = below.subjects

    async def publish(
        self,
        to: Stretch,
        draft: Draft,
        *,
        guard: Guard | None = None,
        timeout_s: float = 5.0,
        ttl_s: int | None = None,
    ) -> Ack:
        metrics, begun = self._metrics, time.perf_counter()
        # Not tokens: a header would be longer than what they say.
        if draft.kind != "tok" and (trace := self._traces.current()) is not None:
            draft = draft._replace(headers={**draft.headers, **trace.headers})
        try:
            ack = await self._below.publish(to, draft, guard=guard, timeout_s=timeout_s, ttl_s=ttl_s)
        except Conflict:
            metrics.count(PUBLISHES, "conflict")
            raise
        except Unavailable:
            metrics.count(PUBLISHES, "unavailable")
            raise
        except FabricError as error:
            # Only what the broker refuses is a broker's fault that somebody is to be called for.
            metrics.count(PUBLISHES, "refused" if isinstance(error, BrokerRefused) else "invalid")
            raise
        metrics.observe(PUBLISH, time.perf_counter() - begun)
        metrics.count(PUBLISHES, "duplicate" if ack.duplicate else "stored")
        if len(draft.body) > INLINE_LIMIT and not ack.duplicate:
            metrics.count(BLOB_BYTES, by=len(draft.body))
        return ack


class MeasuredDurable:
    """A `Durable` whose deliveries are counted."""

    def __init__(self, below: Durable, consumer: Consumer, metrics: Metrics, opened: set[MeasuredDurable]) -> None:
        self.consumer = consumer
        self._below = below
        self._metrics = metrics
        self._opened = opened
        self.rest = below.rest
        self.lag = below.lag
        self.delete = below.delete
        opened.add(self)

    async def fetch(self, limit: int, timeout_s: float) -> Sequence[Delivery]:
        deliveries = await self._below.fetch(limit, timeout_s)
        if deliveries:
            self._metrics.count(DELIVERIES, self.consumer, len(deliveries))
            again = sum(delivery.attempts > 1 for delivery in deliveries)
            if again:
                self._metrics.count(REDELIVERIES, self.consumer, again)
        return deliveries

    async def close(self) -> None:
        self._opened.discard(self)
        await self._below.close()


class MeasuredBroker:
    """A `Broker` that counts what is asked of the one below. `opened`: the durable consumers that are open now."""

    def __init__(self, below: Broker, metrics: Metrics, traces: Traces) -> None:
        self.below = below
        self.opened: set[MeasuredDurable] = set()
        self._metrics = metrics
        self.log: Log = MeasuredLog(below.log, metrics, traces)
        self.holder = below.holder
        self.may_mend = below.may_mend
        self.calls = below.calls
        self.signals = below.signals
        self.on_connection = below.on_connection
        self.on_departure = below.on_departure
        self.ping = below.ping
        self.put_blob = below.put_blob
        self.get_blob = below.get_blob
        self.backlogs = below.backlogs
        self.blobs = below.blobs
        self.delete_blobs = below.delete_blobs
        self.durables = below.durables
        self.delete_durables = below.delete_durables
        self.list_streams = below.list_streams
        self.close = below.close
        metrics.set(BROKER_CONNECTED, 1 if below.connected else 0)
        below.on_connection(self._changed)

    def _changed(self, connected: bool) -> None:
        self._metrics.set(BROKER_CONNECTED, 1 if connected else 0)
        if not connected and not self.below.closed:
            self._metrics.count(DISCONNECTS)

    @property
    def connected(self) -> bool:
        return self.below.connected

    @property
    def closed(self) -> bool:
        return self.below.closed

    @property
    def generation(self) -> int:
        return self.below.generation

    def bucket(self, name: str) -> Bucket:
        return self.below.bucket(name)

    async def durable(
        self,
        tenant: str | None,
        name: str,
        *,
        place: Place | None,
        wanted: Sequence[Wanted],
        ack_wait_s: float,
        max_deliver: int,
        start: str,
    ) -> Durable:
        below = await self.below.durable(
            tenant,
            name,
            place=place,
            wanted=wanted,
            ack_wait_s=ack_wait_s,
            max_deliver=max_deliver,
            start=start,
        )
        return MeasuredDurable(below, consumer_of(name), self._metrics, self.opened)
