"""What the operations of a socket do."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, assert_never

import orjson
from session_fabric import FabricError, Session, SessionRecord
from session_fabric.presence import Shown
from session_fabric.presence import Who as Device
from session_fabric.rules.audience import sees_all
from session_fabric.rules.presence import check_data
from session_fabric.turns import Turns
from session_fabric.words.errors import (
    Forbidden,
    InvalidRequest,
    LimitExceeded,
    SessionGone,
    SessionNotFound,
    Unavailable,
)
from session_fabric.words.positions import After, Offset, parse_after

from session_fabric_gateway import codes
from session_fabric_gateway.accounts import Meter
from session_fabric_gateway.admission import admit, admit_event, check_same, shut_out, takes_part
from session_fabric_gateway.allowances import Kind
from session_fabric_gateway.auth import Grant
from session_fabric_gateway.bills import Bill
from session_fabric_gateway.capabilities.form import Ask
from session_fabric_gateway.capabilities.registry import CAPABILITIES
from session_fabric_gateway.codes import AlreadyOpen, NotOpen, facts_of
from session_fabric_gateway.encoding import Form, Sight
from session_fabric_gateway.gateway import Gateway
from session_fabric_gateway.operations import (
    Append,
    Asked,
    CloseSub,
    Control,
    Hello,
    Open,
    Operation,
    Ping,
    Refresh,
    Signal,
    Who,
)
from session_fabric_gateway.reader import Reader

if TYPE_CHECKING:
    from session_fabric_gateway.connection import Connection

Answering = Coroutine[Any, Any, None]
MODELS: Final = {op: capability.model for op, capability in CAPABILITIES.items()}
# What each operation counts as: what is stored is held to a rate of its own.
COUNTED: Final[Mapping[type[Operation | Asked], tuple[Kind, ...]]] = {
    **{
        capability.model: ("operations", "appends") if capability.writes else ("operations",)
        for capability in CAPABILITIES.values()
    },
    **dict.fromkeys((Append, Control), ("operations", "appends")),
    **dict.fromkeys((Hello, Who, Signal, CloseSub, Ping, Refresh), ("operations",)),
    Open: ("operations", "opens"),
}
_BY_MODEL: Final = {capability.model: capability for capability in CAPABILITIES.values()}


class Subscription:
    """A session that a connection has open, or is opening (`reader` None; `done` is set when that has ended).

    `why`: for what one was shut out of it while it was being opened.
    """

    __slots__ = ("done", "reader", "session", "shown", "unwatch", "why")

    def __init__(self, session: str) -> None:
        self.session = session
        self.unwatch: Callable[[], None] | None = None
        self.done = asyncio.Event()
        self.reader: Reader | None = None
        self.shown: Device | None = None
        self.why: Forbidden | None = None

    def stop_watching(self) -> None:
        """Hear no more of the session's record; what hears of it refers to this, and is left to nobody to collect."""
        unwatch, self.unwatch = self.unwatch, None
        if unwatch is not None:
            unwatch()


class Requests:
    """Carries out one connection's operations, and knows what it has open."""

    __slots__ = ("_appending", "_connection", "_gateway", "_open")

    def __init__(self, gateway: Gateway, connection: Connection) -> None:
        self._gateway = gateway
        self._connection = connection
        self._open: dict[str, Subscription] = {}
        self._appending: Turns[str] = Turns()

    @property
    def _grant(self) -> Grant:
        return self._connection.allowed

    @property
    def _meter(self) -> Meter:
        meter = self._connection.meter
        assert meter is not None
        return meter

    def _session(self, name: str) -> Session:
        return self._gateway.session(self._grant, name)

    def carry_out(self, operation: Operation | Asked) -> Answering | None:
        """Check an operation; return what answers it, None when that is done. Raises what it is refused with."""
        if isinstance(operation, Asked):
            ask = Ask(self._gateway, self._grant, self._session(operation.session), self._connection)
            return self._carry_out(ask, operation)
        match operation:
            case Ping(id=id):
                self._connection.say("pong", id=id)
                return None
            case Append():
                since = None if operation.since is None else Offset.parse(operation.since)
                return self._append(operation, self._session(operation.session), since)
            case Open():
                return self._begin_open(operation)
            case CloseSub():
                return self._close(operation)
            case Control():
                return self._control(operation, self._session(operation.session))
            case Who():
                return self._who(operation, self._session(operation.session))
            case Signal():
                return self._signal(operation, self._session(operation.session))
            case Refresh():
                return self._refresh(operation)
            case Hello():
                raise InvalidRequest("This connection has said hello.", hint="Use refresh for a new token.")
            case _:
                assert_never(operation)

    def shown(self, session: str) -> Subscription | None:
        """Return what this connection has open of a session."""
        return self._open.get(session)

    async def _carry_out(self, ask: Ask, operation: Asked) -> None:
        capability = _BY_MODEL[type(operation)]
        ask.session.counted_by(Bill(self._meter).owe)
        await capability.admit(ask, operation)
        answer = await capability.carry_out(ask, operation)
        if not capability.writes and self._may_differ(ask.grant):
            await capability.admit(replace(ask, grant=self._grant), operation)
        if operation.id is not None:
            self._connection.answer(orjson.dumps({"op": answer.op, "id": operation.id, **answer.fields}))

    def _may_differ(self, grant: Grant) -> bool:
        """Say whether what was granted a moment ago has to be looked at again: the token, or who takes part."""
        return self._grant is not grant or grant.grants.mine_only

    # --- sessions -----------------------------------------------------------------------------------

    def _begin_open(self, operation: Open) -> Answering:
        gateway = self._gateway
        gateway.refuse_while_draining()
        session, after = self._session(operation.session), parse_after(operation.after)
        if operation.presence is not None:
            check_data(operation.presence)
        known = self._open.get(session.name)
        if known is not None:
            if known.reader is None:
                return self._open_behind(operation, known)
            sub = known.reader.line.sub
            raise AlreadyOpen(f"This connection has session {session.name!r} open.", hint="Close it first.", sub=sub)
        most = gateway.settings.limits.max_subs
        if len(self._open) >= most:
            raise LimitExceeded(
                f"A connection has at most {most} sessions open.", hint="Close one, or connect again.", limit=most
            )
        self._meter.subscribe()
        subscription = self._open[session.name] = Subscription(session.name)
        return self._open_session(operation, session, after, subscription)

    async def _open_behind(self, operation: Open, first: Subscription) -> None:
        """Open a session that is being opened: whoever has turned away and back is told the number to close."""
        await first.done.wait()
        await self._begin_open(operation)

    async def _open_session(self, operation: Open, session: Session, after: After, subscription: Subscription) -> None:
        gateway, connection = self._gateway, self._connection
        reader: Reader | None = None
        try:
            await admit(self._grant, session, "read", makes=True)
            if operation.presence is not None:
                await admit(self._grant, session, "presence")
            if self._grant.role == "user":  # the next token may be for those alone that it takes part in
                subscription.unwatch = session.on_record(lambda record: self._record_changed(subscription, record))
            record = await session.record()
            if not takes_part(self._grant, record):
                raise shut_out(self._grant)
            feed = await gateway.hub.acquire(session.place)
            form: Form = "compact" if connection.compact else "plain"
            line = feed.line(Sight(operation.view, sees_all(self._grant.role)), form)
            caught_up = gateway.metrics.caught_up
            reader = Reader(
                feed,
                line,
                connection.outbox,
                connection.spawn,
                self._ended,
                caught_up,
                self._meter,
                connection.id,
            )
            head = await reader.begin(after)
            if self._open.get(session.name) is not subscription:
                await reader.stop()
                raise subscription.why or ConnectionError("the connection closes")
        except BaseException as error:
            if self._open.get(session.name) is subscription:
                del self._open[session.name]
                self._meter.unsubscribe()
            if reader is not None:
                gateway.hub.release(reader.feed)
            subscription.stop_watching()
            subscription.done.set()
            outcome = error.code if isinstance(error, FabricError) else "cancelled"
            gateway.metrics.opens.labels(outcome).inc()
            if isinstance(after, Offset):
                gateway.metrics.resumed(outcome)
            raise
        subscription.reader = reader
        connection.say("opened", id=operation.id, sub=line.sub, head=str(head), session=record.public())
        gateway.metrics.subscriptions.inc()
        gateway.metrics.opens.labels(after if isinstance(after, str) else "resumed").inc()
        if isinstance(after, Offset):
            gateway.metrics.resumed("log" if reader.reads_log else "memory")
        if operation.presence is not None:
            device = Device(session.place, self._grant.participant, connection.device)
            subscription.shown = device
            gateway.presence.join(device, Shown(operation.presence))
        subscription.done.set()
        reader.go()

    async def _close(self, operation: CloseSub) -> None:
        for subscription in self._open.values():
            reader = subscription.reader
            if reader is not None and reader.line.sub == operation.sub:
                self._forget(subscription)
                await reader.stop()
                self._connection.say("closed", id=operation.id, sub=operation.sub)
                return
        raise NotOpen(f"This connection has no subscription {operation.sub}.", sub=operation.sub)

    def _ended(self, reader: Reader, error: FabricError) -> None:
        """A subscription has ended and will not come back."""
        for subscription in list(self._open.values()):
            if subscription.reader is reader:
                self._forget(subscription)
        if error.retryable:
            self._connection.end(codes.DEFECT)
        else:
            facts = facts_of(error)
            facts.pop("retryable")
            self._connection.say("gone", sub=reader.line.sub, **facts)

    def _record_changed(self, subscription: Subscription, record: SessionRecord | None) -> None:
        """Somebody may take part no more."""
        if record is not None and not takes_part(self._grant, record):
            self._shut_out(subscription, "does not take part any more")

    def check_grants(self) -> None:
        """End what a new token does not grant any more."""
        for subscription in list(self._open.values()):
            if not self._grant.grants.allows(subscription.session, "read"):
                self._shut_out(subscription, "has a token that does not grant it any more")
        self._gateway.watches.check(self._connection)

    def _shut_out(self, subscription: Subscription, why: str) -> None:
        reader = subscription.reader
        if self._open.get(subscription.session) is not subscription:
            return
        if reader is None:
            del self._open[subscription.session]  # still being opened: its own request finds out
            subscription.why = shut_out(self._grant, why)
            self._meter.unsubscribe()
            return
        self._gateway.watches.unwatch(self._connection, reader.feed.session.place, None)
        self._forget(subscription)
        facts = facts_of(shut_out(self._grant, why))
        facts.pop("retryable")
        self._connection.say("gone", sub=reader.line.sub, **facts)

    def _forget(self, subscription: Subscription) -> None:
        if self._open.pop(subscription.session, None) is not None:
            self._meter.unsubscribe()
        reader = subscription.reader
        if reader is None:
            return  # still being opened: its own request cleans up
        reader.leave()
        subscription.stop_watching()
        self._gateway.hub.release(reader.feed)
        self._gateway.metrics.subscriptions.dec()
        if subscription.shown is not None:
            self._gateway.presence.leave(subscription.shown)

    def forget_all(self) -> None:
        """The connection ends: nothing is sent any more."""
        for subscription in list(self._open.values()):
            self._forget(subscription)

    def fall_behind(self) -> None:
        """The connection takes no more for now."""
        for subscription in self._open.values():
            if subscription.reader is not None:
                subscription.reader.fall_behind()

    # --- the rest -----------------------------------------------------------------------------------

    async def _append(self, operation: Append, session: Session, since: Offset | None) -> None:
        begun = time.monotonic()
        event = operation.event
        # What one connection appends to one session is stored in the order in which it was sent.
        async with self._appending.of(session.name):
            await admit_event(self._grant, session, event.body)
            offset, duplicate = await session.append(event.body, id=event.id, since=since)
        self._gateway.metrics.appended(time.monotonic() - begun)
        self._connection.say("appended", id=operation.id, offset=str(offset), duplicate=duplicate)

    async def _signal(self, operation: Signal, session: Session) -> None:
        await admit(self._grant, session, "signal")
        connection = self._connection
        await session.signal(operation.body, device=connection.device, connection=connection.id)

    async def _control(self, operation: Control, session: Session) -> None:
        await admit(self._grant, session, f"control:{operation.action}")
        await session.record(create=False)
        offset, duplicate = await session.control(
            operation.action,
            run=operation.run,
            body=operation.body,
            deadline_ms=operation.deadline_ms,
            id=operation.event,
        )
        self._connection.say("appended", id=operation.id, offset=str(offset), duplicate=duplicate)

    async def _who(self, operation: Who, session: Session) -> None:
        grant = self._grant
        await admit(grant, session, "read")
        members = [member._asdict() for member in await session.members()]
        if self._may_differ(grant):
            await admit(self._grant, session, "read")
        self._connection.answer(orjson.dumps({"op": "present", "id": operation.id, "members": members}))

    async def _refresh(self, operation: Refresh) -> None:
        grant = await self._gateway.authenticator.authenticate(operation.token)
        check_same(self._grant, grant)
        self._connection.allow(grant)
        self.check_grants()
        try:
            await self._check_part()
        except Unavailable as error:
            # Whoever cannot be looked at does not stay by what the old token granted.
            self._connection.refuse(operation.id, error)
            self._connection.end(codes.DEFECT)
            return
        self._connection.say("ok", id=operation.id)

    async def _check_part(self) -> None:
        """End what is open of sessions that one does not take part in, where the new token is for those alone."""
        if not self._grant.grants.mine_only:
            return
        watches = self._gateway.watches
        for name in {*self._open, *watches.sessions_of(self._connection)}:
            with suppress(SessionNotFound, SessionGone):  # these end by themselves
                record = await self._session(name).record(create=False)
                if (subscription := self._open.get(name)) is not None:
                    self._record_changed(subscription, record)
                watches.check(self._connection, record)
