"""Durable subscriptions: JetStream pull consumers, one a stream, shared by all who open them under one name."""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import orjson
from nats.errors import Error as NatsError

from session_fabric.jetstream.api import NOT_FOUND, Api, ApiError
from session_fabric.jetstream.contents import consumers, has_our_name
from session_fabric.jetstream.receive import Connection
from session_fabric.jetstream.requests import Requests
from session_fabric.jetstream.strangers import check_ours
from session_fabric.jetstream.topology import Topology
from session_fabric.ports import Wanted
from session_fabric.words.closing import Closed
from session_fabric.words.errors import BrokerIncompatible, BrokerUnavailable
from session_fabric.words.subjects import CUT, Place, plain, respelled, tenant_filter
from session_fabric.words.wire import Record

_SECOND = 1_000_000_000
# A pull request lasts this long at the broker; a lost one is asked again after it.
_PULL_S = 20.0
_ACK_S = 5.0
# Before a consumer that nobody answered for is asked again: its leader is being elected, or about to.
_MISSED_S = 0.1
# What comes to one who rests is passed on at once; what comes again, because nobody else wants it, after longer and
# longer.
_AGAIN_S = 0.05
_AGAIN_MOST_S = 1.0
_EXISTS = 10148
# What the deadlines of all tenants may have handed out: what waits for its time is pending.
MOST_IN_HAND: Final = 100_000


class JetStreamDelivery:
    def __init__(self, requests: Requests, record: Record, reply: str, attempts: int, due: float) -> None:
        self._requests = requests
        self._reply = reply
        self.record = record
        self.attempts = attempts
        self.due = due  # by the event loop's clock: from when on it is somebody else's

    @property
    def place(self) -> Place:
        parts = self.record.parts
        return Place(parts.tenant, parts.session)

    async def ack(self) -> None:
        """Acknowledge, and wait until the broker says that it has it. Raises `BrokerUnavailable`: it comes again."""
        await self._requests.one(self._reply, b"+ACK", timeout_s=_ACK_S)

    async def nak(self, delay_s: float = 0.0) -> None:
        await self._tell(b"-NAK " + orjson.dumps({"delay": int(delay_s * _SECOND)}))

    async def extend(self) -> None:
        await self._tell(b"+WPI")

    async def _tell(self, what: bytes) -> None:
        try:
            await self._requests.send(self._reply, what)
        except NatsError as error:
            raise BrokerUnavailable(f"The broker could not be told: {error}", hint="It comes again.") from error


@dataclass
class _Consumer:
    """One stream's consumer, and the pull request that is under way for it."""

    stream: str
    name: str
    ack_wait_s: float
    inbox: str = ""
    tap: int = 0
    asked: int = 0
    asked_until: float = 0.0
    generation: int = -1
    missed: bool = False


@dataclass
class JetStreamDurable:
    connection: Connection
    requests: Requests
    api: Api
    topology: Topology
    generation: Callable[[], int]
    of: Subscribed
    consumers: list[_Consumer] = field(default_factory=list)
    _known: int = -1
    _unhook: Callable[[], None] | None = None
    _ready: deque[JetStreamDelivery] = field(default_factory=deque)
    _arrived: asyncio.Event = field(default_factory=asyncio.Event)
    _resting: bool = False
    _passing: set[asyncio.Task[None]] = field(default_factory=set)

    async def open(self) -> None:
        await self._settle(made=True)
        self._unhook = self.topology.on_change(self._arrived.set)

    async def _settle(self, *, made: bool = False) -> None:
        """Have a consumer at each stream that has events for it. `made`: it may be made just now."""
        await self.topology.known()
        self._known = self.topology.revision
        wanted = self.of.streams(self.topology)
        for stream, cut in wanted.items():
            if any(consumer.stream == stream for consumer in self.consumers):
                continue
            config = self.of.at(stream, own=self.topology.own(stream), after=cut, goes_on=not made)
            consumer = await ensure_consumer(self.api, stream, config)
            consumer.inbox = self.connection.new_inbox()
            consumer.tap = await self.connection.tap(consumer.inbox, self._sink(consumer))
            self.consumers.append(consumer)
        for consumer in [c for c in self.consumers if c.stream not in wanted]:
            self.consumers.remove(consumer)  # nothing comes there any more
            await self.connection.untap(consumer.tap)

    def _sink(self, consumer: _Consumer) -> Callable[[bytes, bytes, bytes, bytes], None]:
        def arrived(subject: bytes, reply: bytes, head: bytes, payload: bytes) -> None:
            if not reply:  # a status: the request has ended
                consumer.asked = 0
                consumer.missed = head[9:12] in (b"503", b"409")  # nobody there to answer; it does not hand out so
            else:
                consumer.asked -= 1
                # $JS.ACK.<stream>.<consumer>.<delivered>.<stream sequence>.<consumer sequence>.<ns>.<pending>
                tokens = reply.split(b".")
                stored = plain(subject.decode())
                record = Record(0, int(tokens[-4]), 0, stored, head, payload, int(tokens[-2]) // 1_000_000)
                due = asyncio.get_running_loop().time() + consumer.ack_wait_s
                attempts = int(tokens[-5])
                delivery = JetStreamDelivery(self.requests, record, reply.decode(), attempts, due)
                if self.topology.divided and self._is_none(consumer.stream, delivery):
                    self._later(_settled(delivery))
                    return
                self._ready.append(delivery)
                if self._resting:
                    self._pass_on()
            self._arrived.set()

        return arrived

    def _is_none(self, stream: str, delivery: JetStreamDelivery) -> bool:
        """Say whether what a stream delivers is no event: it marks where a session left, or came after that."""
        if delivery.record.subject.startswith(f"sf.{CUT}."):
            return True
        return self.topology.lodged(delivery.place).too_late(stream, delivery.record.sequence)

    async def fetch(self, limit: int, timeout_s: float) -> Sequence[JetStreamDelivery]:
        deadline = asyncio.get_running_loop().time() + timeout_s
        self._resting = False
        self._drop_late()
        while not self._ready:
            if self.connection.ended:
                raise Closed
            self._arrived.clear()
            await self.topology.known()
            if self.topology.revision != self._known:
                await self._settle()
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
            self._drop_late()
        return [self._ready.popleft() for _ in range(min(limit, len(self._ready)))]

    def _drop_late(self) -> None:
        """Leave out what was fetched ahead for so long that the broker gives it to another by now."""
        now = asyncio.get_running_loop().time()
        while self._ready and self._ready[0].due <= now:
            self._ready.popleft()

    async def _ask(self, limit: int) -> None:
        now = asyncio.get_running_loop().time()
        generation = self.generation()
        for consumer in self.consumers:
            if consumer.asked > 0 and now < consumer.asked_until and consumer.generation == generation:
                continue
            if not self.connection.is_connected:
                return
            if consumer.missed:
                await self._look_for(consumer)
            consumer.asked, consumer.asked_until, consumer.generation = limit, now + _PULL_S, generation
            body = orjson.dumps({"batch": limit, "expires": int((_PULL_S - 1) * _SECOND)})
            subject = f"$JS.API.CONSUMER.MSG.NEXT.{consumer.stream}.{consumer.name}"
            await self.requests.send(subject, body, reply=consumer.inbox)

    async def _look_for(self, consumer: _Consumer) -> None:
        """Find out why nobody answered: no leader yet, or the subscription was deleted, or is somebody else's now."""
        try:
            info = await self.api.call(f"CONSUMER.INFO.{consumer.stream}.{consumer.name}", timeout_s=1.0)
            check_ours(consumer.stream, consumer.name, info["config"], self.of.config["max_deliver"])
        except ApiError as error:
            if error.number in NOT_FOUND:
                raise BrokerUnavailable(
                    f"The subscription {consumer.name} was deleted.", hint="Open it again.", durable=consumer.name
                ) from error
            raise
        except BrokerUnavailable:
            pass
        consumer.missed = False
        await asyncio.sleep(_MISSED_S)

    async def rest(self) -> None:
        # What was asked for cannot be taken back. The inbox stays open: with nobody at it the broker would forget the
        # request, but what another node of a cluster had sent before it knew would be lost until its ack wait is over.
        self._resting = True
        self._pass_on()

    def _pass_on(self) -> None:
        if not self.connection.is_connected:  # it comes again when its ack wait is over
            self._ready.clear()
        while self._ready:
            self._later(_passed_on(self._ready.popleft()))

    def _later(self, call: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(call)
        self._passing.add(task)
        task.add_done_callback(self._passing.discard)

    async def lag(self) -> tuple[int, int]:
        infos = [await self.api.call(f"CONSUMER.INFO.{c.stream}.{c.name}") for c in self.consumers]
        return sum(i["num_pending"] for i in infos), sum(i["num_ack_pending"] for i in infos)

    async def close(self) -> None:
        if self._unhook is not None:
            self._unhook()
        await self.connection.drain(*(consumer.tap for consumer in self.consumers))
        self._pass_on()  # what nobody took goes to the next worker now, not after the ack wait
        await asyncio.gather(*self._passing)

    async def delete(self) -> None:
        for consumer in self.consumers:
            await self.api.call(f"CONSUMER.DELETE.{consumer.stream}.{consumer.name}")


async def _settled(delivery: JetStreamDelivery) -> None:
    with suppress(BrokerUnavailable):  # it comes again
        await delivery.ack()


async def _passed_on(delivery: JetStreamDelivery) -> None:
    again_s = 0.0 if delivery.attempts == 1 else min(_AGAIN_S * 2 ** min(delivery.attempts, 10), _AGAIN_MOST_S)
    with suppress(BrokerUnavailable):
        await delivery.nak(again_s)


@dataclass(frozen=True)
class Subscribed:
    """What a durable subscription is on, and the consumer that it wants; `config` is for a stream that all share."""

    tenant: str | None
    place: Place | None
    config: dict[str, Any]

    def streams(self, topology: Topology) -> dict[str, int]:
        """Return the streams that have events for it, each with the sequence up to which another one gives them."""
        layout = topology.layout
        if self.place is not None:
            at = topology.lodged(self.place)
            homes, moves = [at.stream], list(at.moves)
        else:
            own = None if self.tenant is None else layout.of(self.tenant)
            lodgings = layout.lodgings if self.tenant is None else own or layout.of(None)
            homes = [lodging.stream for lodging in lodgings]
            moves = [m for m in layout.moves if m.phase in ("placed", "left", "gone")]
            moves = [m for m in moves if self.tenant is None or m.tenant in (None, self.tenant)]
        full = [m for m in moves if m.phase in ("placed", "left") and not m.empty]
        cuts = {m.target: m.cut for m in full}
        streams = [*homes, *(m.source for m in full), *(m.target for m in full)]
        return {stream: cuts.get(stream, 0) for stream in dict.fromkeys(streams)}

    def at(self, stream: str, *, own: bool, after: int, goes_on: bool) -> dict[str, Any]:
        """Return the consumer for a stream. `after`: another stream gives what is up to there; `goes_on`: it has been
        there, and gets what came since."""
        config = dict(self.config)
        config["filter_subjects"] = [respelled(name, own=own) for name in config["filter_subjects"]]
        # One that begins at the end of what there is has nothing to come from the other stream either.
        if goes_on or (after and config["deliver_policy"] == "all"):
            config |= {"deliver_policy": "by_start_sequence", "opt_start_seq": after + 1}
        return config


def consumer_name(tenant: str | None, name: str, place: Place | None) -> str:
    """Name a durable's consumer: unique for tenant and subscription, and for the session where it is on one.

    `=` is in no tenant's and no subscription's name: parts that are put together are told apart again.
    """
    where = "" if place is None else hashlib.sha256(place.session.encode()).hexdigest()[:32]
    return f"sf={tenant or ''}={name}={where}"


def consumer_config(
    name: str,
    tenant: str | None,
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
        "max_ack_pending": MOST_IN_HAND if tenant is None else 10_000,
        "deliver_policy": "all" if start == "start" else "new",
        "filter_subjects": filters,
        "metadata": {
            "session-fabric": "durable",
            "tenant": tenant or "",
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
    check_ours(stream, name, found, config["max_deliver"])
    return _Consumer(stream, name, found["ack_wait"] / _SECOND)


async def consumers_of(api: Api, stream: str, metadata: dict[str, str], named: str | None = None) -> list[str]:
    """Return a stream's consumers that carry this metadata; also those whose names begin as `named`."""
    return [
        info["name"]
        async for info in consumers(api, stream)
        if metadata.items() <= (info["config"].get("metadata") or {}).items()
        or (named is not None and has_our_name(info["name"]) and info["name"].startswith(named))
    ]


async def delete_consumers(api: Api, stream: str, metadata: dict[str, str], named: str | None = None) -> int:
    """Remove those; return how many."""
    names = await consumers_of(api, stream, metadata, named)
    for name in names:
        try:
            await api.call(f"CONSUMER.DELETE.{stream}.{name}")
        except ApiError as error:
            if error.number not in NOT_FOUND:  # somebody else has removed it
                raise
    return len(names)
