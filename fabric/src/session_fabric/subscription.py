"""Durable subscriptions: work through events that survives the worker."""

from __future__ import annotations

from types import TracebackType
from typing import Final, Self, get_args

from session_fabric.ports import Broker, Delivery, Durable, Wanted
from session_fabric.records import Directory
from session_fabric.rules.inputs import is_message, text_of
from session_fabric.streams.records import is_stream
from session_fabric.words.arguments import check_choice, check_seconds, check_whole
from session_fabric.words.errors import InvalidRequest, SessionGone, SessionNotFound
from session_fabric.words.events import MESSAGE_USER, Event
from session_fabric.words.logs import log
from session_fabric.words.names import check_durable, check_id, check_session
from session_fabric.words.subjects import Kind, Place
from session_fabric.words.wire import MALFORMED

MOST_S: Final = 86_400.0


class Work:
    """One event to work on. It comes again, to whoever fetches, unless `ack` returned.

    `attempts` counts deliveries, this one included: 2 or more means that somebody had it before.
    """

    def __init__(self, delivery: Delivery, event: Event) -> None:
        self._delivery = delivery
        self.event = event
        self.session = delivery.place.session
        self.attempts = delivery.attempts

    @property
    def text(self) -> str:
        """What the participant said, as text; empty for anything but a `message.user`, and for one without text."""
        return text_of(self.event.body)

    async def ack(self) -> None:
        """Say that it is done; returns when the broker has it. Raises `BrokerUnavailable`: it may come again."""
        await self._delivery.ack()

    async def nak(self, delay_s: float = 0.0) -> None:
        """Give it back, to come again after a delay."""
        await self._delivery.nak(delay_s)

    async def extend(self) -> None:
        """Say that the work goes on: the ack wait begins anew."""
        await self._delivery.extend()


class Subscription:
    """A named place in the log, kept by the broker, shared by all who open it under its name.

    Each event goes to one of them; unacknowledged for `ack_wait_s` it comes again, at most `max_deliver` times (-1: for
    ever). `kind` `"in"` is what participants ask of agents, None is everything. Order holds within a session as
    long as one worker fetches and acknowledges one by one. With kind `"in"`, an input that is not well-formed (only a
    native publisher can store one) is set aside with a warning; it stays in the log.
    """

    def __init__(
        self,
        broker: Broker,
        directory: Directory,
        tenant: str,
        durable: str,
        *,
        session: str | None,
        kind: Kind | None,
        name: str | None,
        ack_wait_s: float,
        max_deliver: int,
        start: str,
    ) -> None:
        check_choice(start, "start", ("start", "tail"))
        check_seconds(ack_wait_s, "ack_wait_s", 30 * MOST_S, least=0.1)
        if max_deliver != -1:
            check_whole(max_deliver, "max_deliver", 1, 1_000_000)
        if kind is not None:
            check_choice(kind, "kind", get_args(Kind))
        if name is not None:
            check_id(name, "pool or run")
        if name is not None and kind is None:
            raise InvalidRequest("A name needs a kind.", hint='For example kind="in", name="default".')
        self._broker = broker
        self._directory = directory
        self._tenant = tenant
        self._durable_name = check_durable(durable)
        self._place = None if session is None else Place(tenant, check_session(session))
        self._wanted = () if kind is None else (Wanted(kind, name),)
        self._ack_wait_s = ack_wait_s
        self._max_deliver = max_deliver
        self._start = start
        self._durable: Durable | None = None
        self._is_input = kind == "in"

    async def __aenter__(self) -> Self:
        self._durable = await self._made()
        return self

    async def _made(self) -> Durable:
        return await self._broker.durable(
            self._tenant,
            self._durable_name,
            place=self._place,
            wanted=self._wanted,
            ack_wait_s=self._ack_wait_s,
            max_deliver=self._max_deliver,
            start=self._start,
        )

    async def make_anew(self) -> None:
        """Open it again after somebody has deleted it at the broker: it begins anew."""
        gone, self._durable = self._durable, await self._made()
        if gone is not None:
            await gone.close()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._durable is not None:
            await self._durable.close()

    @property
    def _open(self) -> Durable:
        if self._durable is None:
            raise InvalidRequest("The subscription is not open.", hint="Use `async with fabric.subscribe(…) as work:`.")
        return self._durable

    async def fetch(self, limit: int = 1, timeout_s: float = 5.0) -> list[Work]:
        """Return up to `limit` events to work on, in order, or none after `timeout_s`."""
        check_whole(limit, "limit", 1, 10_000)
        check_seconds(timeout_s, "timeout_s", MOST_S)
        found = []
        for delivery in await self._open.fetch(limit, timeout_s):
            if is_stream(delivery.place):
                await delivery.ack()  # a subscription on all that a tenant has: these are no events
                continue
            try:
                record = await self._directory.load(delivery.place)
            except (SessionNotFound, SessionGone):
                await delivery.ack()  # the session was deleted: nobody waits for this
                continue
            segment = next(
                (s.id for s in reversed(record.segments) if Place(s.tenant, s.session) == delivery.place),
                record.segments[-1].id,
            )
            delivery.record.segment = segment
            await self._broker.log.whole(delivery.place, delivery.record)
            event = delivery.record.event()
            if self._is_input and not _can_be_worked_on(event):
                log.warning("input_set_aside", session=delivery.place.session, offset=str(event.offset))
                await delivery.ack()
                continue
            found.append(Work(delivery, event))
        return found

    async def rest(self) -> None:
        """Take nothing more until the next `fetch`. What was fetched ahead, so that the next one need not wait, goes to
        others who have the subscription open: now, and not when it is found to be late."""
        await self._open.rest()

    async def lag(self) -> tuple[int, int]:
        """Return how many events wait, and how many are being worked on."""
        return await self._open.lag()

    async def delete(self) -> None:
        """Forget the place in the log, for all who share it."""
        await self._open.delete()


def _can_be_worked_on(event: Event) -> bool:
    """Say whether an input has a worker's promised shape: what a stranger stored past us would kill each in turn."""
    return event.type != MALFORMED and (event.type != MESSAGE_USER or is_message(event.body))
