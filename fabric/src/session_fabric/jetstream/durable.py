"""Durable subscriptions: JetStream pull consumers, one a stream, shared by all who open them under one name."""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import orjson

from session_fabric.jetstream.api import NOT_FOUND, Api, ApiError
from session_fabric.jetstream.receive import Connection
from session_fabric.jetstream.requests import Requests
from session_fabric.ports import Wanted
from session_fabric.words.errors import BrokerIncompatible
from session_fabric.words.names import escape
from session_fabric.words.subjects import Place, tenant_filter
from session_fabric.words.wire import Record

_SECOND = 1_000_000_000
# A pull request lasts this long at the broker; a lost one is asked again after it.
_PULL_S = 20.0
_ACK_S = 5.0
_EXISTS = 10148


class JetStreamDelivery:
    def __init__(self, requests: Requests, connection: Connection, record: Record, reply: str, attempts: int) -> None:
        self._requests = requests
        self._connection = connection
        self._reply = reply
        self.record = record
        self.attempts = attempts

    @property
    def place(self) -> Place:
        parts = self.record.parts
        return Place(parts.tenant, parts.session)

    async def ack(self) -> None:
        """Acknowledge, and wait until the broker says that it has it. Raises `BrokerUnavailable`: it comes again."""
        await self._requests.one(self._reply, b"+ACK", timeout_s=_ACK_S)

    async def nak(self, delay_s: float = 0.0) -> None:
        await self._connection.publish(self._reply, b"-NAK " + orjson.dumps({"delay": int(delay_s * _SECOND)}))

    async def extend(self) -> None:
        await self._connection.publish(self._reply, b"+WPI")


@dataclass
class _Consumer:
    """One stream's consumer, and the pull request that is under way for it."""

    stream: str
    name: str
    inbox: str = ""
    tap: int = 0
    asked: int = 0
    asked_until: float = 0.0
    generation: int = -1


@dataclass
class JetStreamDurable:
    connection: Connection
    requests: Requests
    api: Api
    generation: Callable[[], int]
    consumers: list[_Consumer]
    _ready: deque[JetStreamDelivery] = field(default_factory=deque)
    _arrived: asyncio.Event = field(default_factory=asyncio.Event)

    async def open(self) -> None:
        for consumer in self.consumers:
            consumer.inbox = self.connection.new_inbox()
            consumer.tap = await self.connection.tap(consumer.inbox, self._sink(consumer))

    def _sink(self, consumer: _Consumer) -> Callable[[bytes, bytes, bytes, bytes], None]:
        def arrived(subject: bytes, reply: bytes, head: bytes, payload: bytes) -> None:
            if not reply:  # a status: the request has ended
                consumer.asked = 0
            else:
                consumer.asked -= 1
                # $JS.ACK.<stream>.<consumer>.<delivered>.<stream sequence>.<consumer sequence>.<ns>.<pending>
                tokens = reply.split(b".")
                record = Record(0, int(tokens[-4]), 0, subject.decode(), head, payload, int(tokens[-2]) // 1_000_000)
                self._ready.append(
                    JetStreamDelivery(self.requests, self.connection, record, reply.decode(), int(tokens[-5]))
                )
            self._arrived.set()

        return arrived

    async def fetch(self, limit: int, timeout_s: float) -> Sequence[JetStreamDelivery]:
        deadline = asyncio.get_running_loop().time() + timeout_s
        while not self._ready:
            self._arrived.clear()
            await self._ask(limit)
            left_s = deadline - asyncio.get_running_loop().time()
            if left_s <= 0:
                return []
            try:
                # At most a second, so that a new connection's lost requests are asked again soon.
                async with asyncio.timeout(min(left_s, 1.0)):
                    await self._arrived.wait()
            except TimeoutError:
                continue
        return [self._ready.popleft() for _ in range(min(limit, len(self._ready)))]

    async def _ask(self, limit: int) -> None:
        now = asyncio.get_running_loop().time()
        generation = self.generation()
        for consumer in self.consumers:
            if consumer.asked > 0 and now < consumer.asked_until and consumer.generation == generation:
                continue
            if not self.connection.is_connected:
                return
            consumer.asked, consumer.asked_until, consumer.generation = limit, now + _PULL_S, generation
            body = orjson.dumps({"batch": limit, "expires": int((_PULL_S - 1) * _SECOND)})
            subject = f"$JS.API.CONSUMER.MSG.NEXT.{consumer.stream}.{consumer.name}"
            await self.connection.publish(subject, body, reply=consumer.inbox)

    async def lag(self) -> tuple[int, int]:
        infos = [await self.api.call(f"CONSUMER.INFO.{c.stream}.{c.name}") for c in self.consumers]
        return sum(i["num_pending"] for i in infos), sum(i["num_ack_pending"] for i in infos)

    async def close(self) -> None:
        await self.connection.drain(*(consumer.tap for consumer in self.consumers))
        for delivery in self._ready:  # what nobody took goes to the next worker now, not after the ack wait
            if self.connection.is_connected:
                await delivery.nak()
        self._ready.clear()

    async def delete(self) -> None:
        for consumer in self.consumers:
            await self.api.call(f"CONSUMER.DELETE.{consumer.stream}.{consumer.name}")


def consumer_name(tenant: str, name: str, place: Place | None) -> str:
    """Name a durable's consumer: unique for tenant and subscription, and for the session where it is on one."""
    where = "" if place is None else "-" + hashlib.sha256(place.session.encode()).hexdigest()[:16]
    return f"sf-{escape(tenant)}-{name}{where}"


def consumer_config(
    name: str,
    tenant: str,
    place: Place | None,
    wanted: Sequence[Wanted],
    ack_wait_s: float,
    max_deliver: int,
    start: str,
) -> dict[str, Any]:
    of = place.stored_filter if place else partial(tenant_filter, tenant)
    filters = [of(w.kind, w.name) for w in wanted] or [of()]
    return {
        "durable_name": name,
        "name": name,
        "ack_policy": "explicit",
        "ack_wait": int(ack_wait_s * _SECOND),
        "max_deliver": max_deliver,
        "max_ack_pending": 10_000,
        "deliver_policy": "all" if start == "start" else "new",
        "filter_subjects": filters,
        "metadata": {
            "session-fabric": "durable",
            "tenant": tenant,
            "session": place.session if place else "",
        },
    }


async def ensure_consumer(api: Api, stream: str, config: dict[str, Any]) -> _Consumer:
    """Make a consumer, or take the one that is there if it filters the same."""
    name = config["name"]
    try:
        info = await api.call(f"CONSUMER.INFO.{stream}.{name}")
    except ApiError as error:
        if error.number not in NOT_FOUND:
            raise
        try:
            body = {"stream_name": stream, "config": config, "action": "create"}
            info = await api.call(f"CONSUMER.CREATE.{stream}.{name}", body, timeout_s=10.0)
        except ApiError as clash:
            if clash.number != _EXISTS:
                raise
            info = await api.call(f"CONSUMER.INFO.{stream}.{name}")
    found = info["config"]
    filters = found.get("filter_subjects") or [found.get("filter_subject", "")]
    if sorted(filters) != sorted(config["filter_subjects"]):
        raise BrokerIncompatible(
            f"The durable subscription {name} is there with other filters: {sorted(filters)}, "
            f"not {sorted(config['filter_subjects'])}.",
            hint="Use another name, or delete the old one first.",
            subscription=name,
        )
    return _Consumer(stream, name)


async def delete_consumers(api: Api, stream: str, metadata: dict[str, str]) -> int:
    """Remove a stream's durable subscriptions that carry this metadata; return how many."""
    names: list[str] = []
    seen = 0
    while True:
        page = await api.call(f"CONSUMER.LIST.{stream}", {"offset": seen})
        consumers = page.get("consumers") or []
        seen += len(consumers)
        names += [c["name"] for c in consumers if metadata.items() <= (c["config"].get("metadata") or {}).items()]
        if not consumers or seen >= page.get("total", 0):
            break
    for name in names:
        try:
            await api.call(f"CONSUMER.DELETE.{stream}.{name}")
        except ApiError as error:
            if error.number not in NOT_FOUND:  # somebody else has removed it
                raise
    return len(names)
