"""One connection: hello, then operations in, frames out, until either side has enough."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Mapping
from contextvars import Context
from typing import Any, Final

import structlog
from session_fabric import FabricError
from session_fabric.words.errors import Denied, InvalidInput, LimitExceeded, RateLimited, TooLarge
from session_fabric.words.names import new_id
from session_fabric.words.version import VERSION

from session_fabric_gateway import codes, operations, spans
from session_fabric_gateway.accounts import UNREAD_COSTS, Meter
from session_fabric_gateway.auth import Grant
from session_fabric_gateway.codes import Close, Defect, facts_of
from session_fabric_gateway.framing import op_frame, text_frame
from session_fabric_gateway.gateway import Gateway
from session_fabric_gateway.greeting import Rejected, greet, is_utf8
from session_fabric_gateway.inbound import Inbound, look_after
from session_fabric_gateway.links import Link
from session_fabric_gateway.operations import Sent
from session_fabric_gateway.requests import COUNTED, MODELS, Requests, Subscription
from session_fabric_gateway.vitals import Vitals
from session_fabric_gateway.weighing import weigh

log = structlog.get_logger()

_MOST_REFUSED: Final = 100
# Requests of one connection that are under way; it is not read on while there are so many.
_MOST_IN_FLIGHT: Final = 64
# One that is over a rate is not read on for so long each time: what it sends waits with it, in its own buffers.
_REFUSED_PAUSE_S: Final = 0.01


class Connection:
    """A connection's own state, and its loop; a `gateway.Peer`. It goes over a socket, or a lane of one."""

    __slots__ = (
        "_closing",
        "_finished",
        "_gateway",
        "_group",
        "_inbound",
        "_link",
        "_refused",
        "_requests",
        "_slots",
        "_tasks",
        "_vitals",
        "compact",
        "device",
        "grant",
        "id",
        "outbox",
    )

    def __init__(self, gateway: Gateway, link: Link) -> None:
        self.id = new_id("c")
        self.device = self.id
        self.compact = False
        self.grant: Grant | None = None
        self.outbox = link.outbox(self.id, self._paused)
        self._link = link
        self._gateway = gateway
        self._vitals = Vitals(time.monotonic(), link.patience)
        self._inbound = Inbound(link, gateway.rota, self._vitals)
        self._requests = Requests(gateway, self)
        self._slots = asyncio.Semaphore(_MOST_IN_FLIGHT)
        self._tasks: set[asyncio.Task[None]] = set()
        self._group: asyncio.TaskGroup | None = None
        self._refused = 0
        self._closing = False
        self._finished = False

    async def run(self) -> None:
        """Serve until it is closed. Cancelled: everything that it began is cancelled too."""
        with self._gateway.serving(self, self._link.transport):
            try:
                async with asyncio.TaskGroup() as self._group:
                    try:
                        await self._greet_and_serve()
                    finally:
                        self._requests.forget_all()
                        if self.meter is not None:
                            self.meter.close()
                        self._finished = True
                        for task in self._tasks:
                            task.cancel()
            except* ConnectionError:
                pass
            finally:
                # What refers to itself would be the collector's, which stops everybody.
                self._group = None
                self.outbox.on_paused = None
                del self._requests

    async def _greet_and_serve(self) -> None:
        if self._link.protocol != codes.SUBPROTOCOL:
            await self._close(codes.NO_SUBPROTOCOL)
            return
        first = True
        try:
            while isinstance(data := await self._inbound.frame(), bytes):
                if self.outbox.paused:
                    await self.outbox.drained()
                if first:
                    first = False
                    if not await self._greet(data):
                        return
                else:
                    await self._serve(data)
            if data is not None:
                await self._close(data)
        except ConnectionError:
            return
        except Exception:
            log.exception("connection_failed", connection=self.id)
            await self._close(codes.DEFECT)

    @property
    def meter(self) -> Meter | None:
        """Who pays for what it asks; None before hello."""
        return self._inbound.meter

    def pause(self, seconds: float) -> None:
        """Take nothing in for so long, from the next frame on."""
        self._inbound.pause(seconds)

    # --- hello --------------------------------------------------------------------------------------

    async def _greet(self, data: bytes) -> bool:
        gateway = self._gateway
        try:
            greeting = await greet(gateway, self._link.request, data)
        except Rejected as rejected:
            if rejected.error is not None:
                self.refuse(getattr(rejected.error, "id", None), rejected.error)
            await self._close(rejected.close)
            return False
        refused = self._link.admit(greeting.grant)
        if refused is not None:
            await self._close(refused)
            return False
        now = time.monotonic()
        try:
            meter = self._inbound.meter = gateway.accounts.connection(greeting.grant, now)
        except (RateLimited, LimitExceeded) as error:
            self.refuse(None, error)
            await self._close(codes.RATE_LIMITED)
            return False
        # Who comes back with a debt pays it first.
        self.pause(meter.owe("bytes", now, 0.0))
        self.allow(greeting.grant)
        self.device = greeting.device or self.id
        self.compact = greeting.compact
        self._vitals.greeted = True
        self.say(
            "welcome",
            connection=self.id,
            participant=greeting.grant.participant,
            tenant=greeting.grant.tenant,
            heartbeat_s=gateway.settings.heartbeat_s,
            server=f"session-fabric-gateway/{VERSION}",
            limits={**gateway.settings.limits.model_dump(), "rates": meter.told()},
        )
        return True

    @property
    def allowed(self) -> Grant:
        """What it may do by now; it has said hello."""
        assert self.grant is not None
        return self.grant

    def allow(self, grant: Grant) -> None:
        """Take a grant over, and its end."""
        self.grant = grant
        self._vitals.expires_ms = grant.expires_ms

    def narrow(self, grant: Grant) -> None:
        self.allow(grant)
        self._requests.check_grants()

    # --- operations ---------------------------------------------------------------------------------

    async def _serve(self, data: bytes) -> None:
        meter, now = self.meter, time.monotonic()
        assert meter is not None
        try:
            await weigh(data, "The frame")
            sent = operations.parse(data, MODELS)
        except FabricError as error:
            meter.owe("operations", now)
            self.pause(meter.owe("bytes", now, UNREAD_COSTS * len(data)))
            if not is_utf8(data):
                await self._close(codes.BAD_FRAME)
                return
            id = operations.glimpsed(data) if isinstance(error, TooLarge) else getattr(error, "id", None)
            self.refuse(id, error)
            if self._refused >= _MOST_REFUSED:
                await self._close(codes.TOO_MANY_REFUSED)
            return
        operation = sent.operation
        try:
            for of in COUNTED[type(operation)]:
                meter.spend(of, now)
        except RateLimited as error:
            self.refuse(getattr(operation, "id", None), error)
            self.pause(_REFUSED_PAUSE_S)
            try:
                meter.spend("refusals", now)
            except RateLimited:
                await self._close(codes.RATE_LIMITED)
            return
        await self._slots.acquire()
        try:
            answering = self._requests.carry_out(operation)
        except FabricError as error:
            self._slots.release()
            self.refuse(getattr(operation, "id", None), error)
        else:
            if answering is None:
                self._slots.release()
                self._refused = 0
            else:
                # A task that is cancelled before its first step never gets to await it.
                self.spawn(self._answer(sent, answering)).add_done_callback(lambda _: answering.close())
        if self._refused >= _MOST_REFUSED:
            await self._close(codes.TOO_MANY_REFUSED)

    async def _answer(self, sent: Sent, answering: Coroutine[Any, Any, None]) -> None:
        id = getattr(sent.operation, "id", None)
        try:
            with spans.of_operation(self._gateway.traces, sent) as span:
                try:
                    with self._gateway.busy():
                        await answering
                    self._refused = 0
                except FabricError as error:
                    spans.refused(span, error)
                    self.refuse(id, error)
                except ConnectionError:
                    pass
                except Exception as error:
                    log.exception("request_failed", op=sent.op)
                    span.failed(type(error).__name__)
                    self.refuse(id, Defect(f"The request failed: {type(error).__name__}."))
        finally:
            self._slots.release()

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run something that ends with this connection at the latest."""
        assert self._group is not None
        task = self._group.create_task(work, context=Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if self._finished:
            task.cancel()
        return task

    # --- frames out ---------------------------------------------------------------------------------

    def opened(self, session: str) -> Subscription | None:
        """Return what this connection has open of a session."""
        return self._requests.shown(session)

    def say(self, op: str, **fields: Any) -> None:
        self.outbox.put(op_frame(op, **fields))

    def answer(self, payload: bytes) -> None:
        self.outbox.put(text_frame(payload))

    def refuse(self, id: int | None, error: FabricError) -> None:
        """Answer with an error; those that no well-made client gets are counted towards the end."""
        if isinstance(error, InvalidInput | Denied):
            self._refused += 1
        facts = facts_of(error)
        self._gateway.metrics.refusals.labels(facts["code"]).inc()
        self.say("error", id=id, **facts)

    # --- gateway.Peer -------------------------------------------------------------------------------

    def check(self, now: float, now_ms: int) -> None:
        if not self._closing and (close := look_after(self._vitals, self.outbox, now, now_ms)) is not None:
            self.end(close)

    def tell(self, op: str, fields: Mapping[str, Any]) -> None:
        if self.grant is not None:
            self.say(op, **fields)

    def end(self, close: Close) -> None:
        if not self._closing and self._group is not None and not self._finished:
            self._leave()
            # Not among the tasks that the end of the loop cancels: it is what ends the loop.
            self._group.create_task(self._close(close))

    async def _close(self, close: Close) -> None:
        if self._closing:
            return
        self._closing = True
        self._leave()
        await self._link.close(self.id, close, self.outbox)

    def _leave(self) -> None:
        """Send nothing more, from this moment on."""
        self._requests.forget_all()
        self.outbox.shut()

    def _paused(self) -> None:
        self._gateway.metrics.lagged.inc()
        self._requests.fall_behind()
