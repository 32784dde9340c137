"""A WebSocket that speaks a dialect: who it is for is known from its handshake; looked after like all connections."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import Context
from typing import Any, Final

import structlog
from aiohttp import web
from session_fabric import FabricError, Session, SessionRecord
from session_fabric.words.errors import Denied, InvalidInput, RateLimited
from session_fabric.words.names import new_id

from session_fabric_gateway import codes
from session_fabric_gateway.admission import shut_out, takes_part
from session_fabric_gateway.auth import Grant
from session_fabric_gateway.codes import Close
from session_fabric_gateway.framing import text_frame
from session_fabric_gateway.gateway import METER, Gateway
from session_fabric_gateway.http import GRANT, grant_of
from session_fabric_gateway.inbound import Inbound, look_after
from session_fabric_gateway.links import Whole
from session_fabric_gateway.socket import Socket, check_handshake
from session_fabric_gateway.vitals import Vitals

log = structlog.get_logger()

_MOST_REFUSED: Final = 100
# What one connection asks for at a time; it is not read on while there is so much.
_MOST_IN_FLIGHT: Final = 64

# Gets each text frame; what it raises as `FabricError` closes nothing, and is its own to tell.
Heard = Callable[[bytes], Awaitable[None]]


async def open_socket(gateway: Gateway, request: web.Request, protocols: Sequence[str] = ()) -> DialectSocket:
    """Let a socket in by its ticket (`?ticket=`), its header or its cookie. Raises what is answered as a problem."""
    gateway.refuse_while_draining()
    check_handshake(request.headers)
    await grant_of(gateway, request, by_ticket=True)
    socket = Socket(protocols, gateway.settings.limits.max_frame_bytes)
    gateway.door.streams(request)
    await socket.prepare(request)
    return DialectSocket(gateway, request, socket)


class DialectSocket:
    """One socket; a `gateway.Peer`. `run` serves it to its end; what it spawned ends with it."""

    def __init__(self, gateway: Gateway, request: web.Request, socket: Socket) -> None:
        grant = request[GRANT]
        self.grant: Grant | None = grant
        self.socket = socket
        self.id = new_id("c")
        self._link = Whole(gateway, request, socket, gateway.door.address_of(request))
        self.outbox = self._link.outbox(self.id, self._paused)
        self._gateway = gateway
        self._meter = request[METER]
        self._vitals = Vitals(time.monotonic(), gateway.patience, greeted=True)
        self._vitals.expires_ms = grant.expires_ms
        self._inbound = Inbound(self._link, gateway.rota, self._vitals, self._meter)
        self._group: asyncio.TaskGroup | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._slots = asyncio.Semaphore(_MOST_IN_FLIGHT)
        self._readers: dict[object, Callable[[Grant], None]] = {}
        self._refused = 0
        self._closing = False
        self._finished = False

    @property
    def allowed(self) -> Grant:
        """What it may do by now."""
        assert self.grant is not None
        return self.grant

    async def run(self, heard: Heard, first: Coroutine[Any, Any, None] | None = None) -> Socket:
        """Serve until it is closed, with `first` begun before anything is heard.

        Cancelled: everything that it began is cancelled too.
        """
        with self._gateway.serving(self, "websocket"):
            try:
                async with asyncio.TaskGroup() as self._group:
                    try:
                        if first is not None:
                            await self.spawn(first)
                        await self._serve(heard)
                    finally:
                        self._finished = True
                        for task in self._tasks:
                            task.cancel()
            except* ConnectionError:
                pass
            finally:
                self._group = None
                self.outbox.on_paused = None
        return self.socket

    async def _serve(self, heard: Heard) -> None:
        try:
            while isinstance(data := await self._inbound.frame(), bytes):
                if self.outbox.paused:
                    await self.outbox.drained()
                await heard(data)
                if self._refused >= _MOST_REFUSED:
                    await self.close(codes.TOO_MANY_REFUSED)
            if data is not None:
                await self.close(data)
        except ConnectionError:
            return
        except Exception:
            log.exception("connection_failed", connection=self.id)
            await self.close(codes.DEFECT)

    # --- what a dialect does with it ----------------------------------------------------------------

    def count(self, *, writes: bool) -> None:
        """Count what a frame asks for. Raises `RateLimited`."""
        now = time.monotonic()
        try:
            self._meter.spend("operations", now)
            if writes:
                self._meter.spend("appends", now)
        except RateLimited as error:
            self._inbound.pause(error.facts["retry_after_ms"] / 1000)
            raise
        self._refused = 0

    def refused(self, error: FabricError) -> None:
        """Count a refusal; a hundred in a row that no well-made client gets close it."""
        if isinstance(error, InvalidInput | Denied):
            self._refused += 1
        self._gateway.metrics.refusals.labels(codes.facts_of(error)["code"]).inc()

    def put(self, payload: bytes) -> None:
        """Send one text frame at the end of the tick."""
        self.outbox.put(text_frame(payload))

    async def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run something that ends with this connection at the latest; waits while 64 of them are under way."""
        try:
            await self._slots.acquire()
        except BaseException:
            work.close()
            raise
        assert self._group is not None
        task = self._group.create_task(work, context=Context())
        self._tasks.add(task)

        def ended(task: asyncio.Task[None]) -> None:
            work.close()  # a task that is cancelled before its first step never gets to await it
            self._tasks.discard(task)
            self._slots.release()

        task.add_done_callback(ended)
        return task

    @contextmanager
    def reading(self, session: Session) -> Iterator[None]:
        """Cut the block short once the session may be read no more, and raise why."""
        task, why = asyncio.current_task(), list[FabricError]()
        assert task is not None

        def shut(error: FabricError) -> None:
            why.append(error)
            task.cancel()

        def narrowed(grant: Grant) -> None:
            if not grant.grants.allows(session.name, "read"):
                shut(shut_out(grant, "may not read it any more"))

        def changed(record: SessionRecord | None) -> None:
            if record is not None and not takes_part(self.allowed, record):
                shut(shut_out(self.allowed))

        key = object()
        self._readers[key] = narrowed
        unwatch = session.on_record(changed)
        try:
            yield
        except asyncio.CancelledError:
            if not why:
                raise
            task.uncancel()
            raise why.pop() from None
        finally:
            unwatch()
            del self._readers[key]

    # --- gateway.Peer -------------------------------------------------------------------------------

    def check(self, now: float, now_ms: int) -> None:
        if not self._closing and (close := look_after(self._vitals, self.outbox, now, now_ms)) is not None:
            self.end(close)

    def tell(self, op: str, fields: Mapping[str, Any]) -> None:
        """The dialects have no words for it: who is sent elsewhere comes back by itself."""

    def narrow(self, grant: Grant) -> None:
        self.grant = grant
        self._vitals.expires_ms = grant.expires_ms
        for narrowed in list(self._readers.values()):
            narrowed(grant)

    def end(self, close: Close) -> None:
        if not self._closing and self._group is not None and not self._finished:
            self.outbox.shut()
            # Not among the tasks that the end of the loop cancels: it is what ends the loop.
            self._group.create_task(self.close(close))

    async def close(self, close: Close) -> None:
        """Close it, with what waits sent before."""
        if self._closing:
            return
        self._closing = True
        await self._link.close(self.id, close, self.outbox)

    def _paused(self) -> None:
        self._gateway.metrics.lagged.inc()
