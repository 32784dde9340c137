"""A session or a run as server-sent events of a durable stream: what is stored, then what comes."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, NamedTuple

from aiohttp import HttpVersion11, web
from session_fabric import FabricError, Offset, Session, SessionRecord

from session_fabric_gateway import codes
from session_fabric_gateway.admission import admit, takes_part
from session_fabric_gateway.auth import Grant
from session_fabric_gateway.codes import Close
from session_fabric_gateway.durable import spelling
from session_fabric_gateway.feed import Feed
from session_fabric_gateway.gateway import Gateway
from session_fabric_gateway.http import GRANT
from session_fabric_gateway.outbox import Outbox
from session_fabric_gateway.vitals import Vitals

# Answers end about then: clients come back by themselves.
_LIFE_S: Final = 60.0
_COMMENT: Final = b":\n\n"
_HEADERS: Final = {"Content-Type": "text/event-stream", "Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


class Found(NamedTuple):
    """What a read has found. `end`: nothing is behind `next` for now; `closed`: nor will be."""

    events: list[bytes]
    next: Offset
    end: bool
    closed: bool


# from an offset on
Read = Callable[[Offset], Awaitable[Found]]


async def stream(
    gateway: Gateway,
    request: web.Request,
    session: Session,
    feed: Feed,
    read: Read,
    found: Found,
    said: str | None,
) -> web.StreamResponse:
    """Answer with what was found and what `read` finds behind it, until that ends, or about a minute has passed."""
    response = web.StreamResponse(headers=_HEADERS)
    gateway.door.streams(request)
    one = _Stream(gateway, request, session.name, feed, read, said)
    unwatch = session.on_record(one.record_changed)
    try:
        await admit(request[GRANT], session, "read")  # it was admitted a moment ago: since then it is watched
        await response.prepare(request)
        await response.write(_COMMENT)  # the headers go with it; from here on bytes are written past the response
        async with asyncio.TaskGroup() as group:
            with gateway.serving(one, "sse"):
                running = group.create_task(one.run(found))
                await one.over.wait()
            running.cancel()
    finally:
        unwatch()
    return response


class _Stream:
    """One answer; a `gateway.Peer`."""

    def __init__(
        self, gateway: Gateway, request: web.Request, session: str, feed: Feed, read: Read, said: str | None
    ) -> None:
        grant = request[GRANT]
        self.grant: Grant | None = grant
        self.over = asyncio.Event()
        self.outbox = Outbox(gateway.sender, request, self._paused, chunked=request.version >= HttpVersion11)
        self._gateway = gateway
        self._session = session
        self._feed = feed
        self._read = read
        self._said = said
        self._vitals = Vitals(time.monotonic(), gateway.patience, greeted=True)
        self._vitals.expires_ms = grant.expires_ms
        self._spoken = time.monotonic()

    async def run(self, found: Found) -> None:
        """Send what was found, then what comes, as fast as it is read."""
        try:
            async with asyncio.timeout(_LIFE_S * random.uniform(0.9, 1.1)):
                self._send(found)
                while not found.closed:
                    await self.outbox.drained()
                    if found.end:
                        await self._moved(found.next)
                    found = await self._read(found.next)
                    if found.events or found.closed:
                        self._send(found)
        except TimeoutError:
            pass
        except FabricError:
            pass  # the session is gone: a client that comes back is told so
        except ConnectionError:
            pass  # the client has left
        finally:
            self._finish()

    async def _moved(self, position: Offset) -> None:
        """Wait for something behind a position. Raises what the session has ended with."""
        while self._feed.ring.delivered <= position:
            if self._feed.error is not None:
                raise self._feed.error
            await self._feed.progress(_LIFE_S)

    def _send(self, found: Found) -> None:
        cursor = spelling.cursor(time.time(), self._said)
        control = spelling.control_event(found.next, end=found.end, closed=found.closed, cursor=cursor)
        self.outbox.put(spelling.data_event("json", found.events) + control)
        self._spoken = time.monotonic()

    def _paused(self) -> None:
        self._gateway.metrics.lagged.inc()

    def _finish(self) -> None:
        """Send nothing more, from this moment on; who does not read is not waited for."""
        self.outbox.shut()
        if self.outbox.stalled:
            self.outbox.abort()
        self.over.set()

    def record_changed(self, record: SessionRecord | None) -> None:
        """Somebody may take part no more."""
        if self.grant is not None and record is not None and not takes_part(self.grant, record):
            self.end(codes.TOKEN_REVOKED)

    # --- what the gateway looks after -----------------------------------------------------------------

    def check(self, now: float, now_ms: int) -> None:
        outbox = self.outbox
        if not outbox.stalled:
            self._vitals.heard(now)
        unread = outbox.unread_bytes if outbox.stalled else 0
        verdict = self._vitals.check(now, now_ms, stalled=outbox.stalled, unread=unread)
        if isinstance(verdict, Close):
            self.end(verdict)
        elif now - self._spoken >= self._gateway.patience.heartbeat_s and not outbox.stalled:
            self._spoken = now
            outbox.put(_COMMENT)

    def tell(self, op: str, fields: Mapping[str, Any]) -> None:
        """The protocol has no words for it: who is sent elsewhere comes back by itself."""

    def narrow(self, grant: Grant) -> None:
        self.grant = grant
        if not grant.grants.allows(self._session, "read"):
            self.end(codes.TOKEN_REVOKED)

    def end(self, close: Close) -> None:
        if self.over.is_set():
            return
        self._gateway.metrics.closes.labels(str(close.code)).inc()
        if close is codes.SLOW_CONSUMER:
            self._gateway.metrics.slow.inc()
        self._finish()
