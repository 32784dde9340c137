"""A session as server-sent events: the same lines as the sockets', spelled otherwise."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Mapping
from typing import Any, Final

from aiohttp import HttpVersion11, web
from session_fabric import FabricError, Session, SessionRecord
from session_fabric.rules.audience import sees_all
from session_fabric.words.positions import After

from session_fabric_gateway import codes
from session_fabric_gateway.admission import admit, shut_out, takes_part
from session_fabric_gateway.auth import Grant
from session_fabric_gateway.codes import Close, facts_of
from session_fabric_gateway.encoding import Sight, View
from session_fabric_gateway.framing import sse_block
from session_fabric_gateway.gateway import METER, Gateway
from session_fabric_gateway.http import grant_of
from session_fabric_gateway.inbound import judged
from session_fabric_gateway.outbox import Outbox
from session_fabric_gateway.reader import Reader
from session_fabric_gateway.vitals import Vitals

# A browser that is cut off comes back after this; the gateway says `moved` when it should take its time.
_BEGINNING: Final = b"retry: 1000\n\n"
_COMMENT: Final = b":\n\n"
_HEADERS: Final = {
    "Content-Type": "text/event-stream; charset=utf-8",
    # nginx would hold events back.
    "X-Accel-Buffering": "no",
}


async def stream(
    gateway: Gateway, request: web.Request, session: Session, after: After, view: View
) -> web.StreamResponse:
    """Answer with a stream that ends with the session, the token, the gateway or the client."""
    gateway.refuse_while_draining()
    grant = await grant_of(gateway, request)
    async with gateway.hub.reading(session.place) as feed:
        response = web.StreamResponse(headers=_HEADERS)
        gateway.door.streams(request)
        one = _Stream(gateway, request, grant, session.name)
        line = feed.line(Sight(view, sees_all(grant.role)), "sse")
        caught_up, meter = gateway.metrics.caught_up, request[METER]
        reader = one.reader = Reader(feed, line, one.outbox, one.spawn, one.ended, caught_up, meter)
        await _begin(gateway, reader, after)  # what it refuses is answered as a problem
        one.outbox.chunked = request.version >= HttpVersion11
        unwatch = session.on_record(one.record_changed)
        try:
            await admit(grant, session, "read")  # it was admitted a moment ago: since then it is watched
            await response.prepare(request)
            # The headers go with it; from here on bytes are written past the response.
            await response.write(_BEGINNING)
            async with asyncio.TaskGroup() as one.group:
                with gateway.serving(one, "sse"):
                    reader.go()
                    await one.over.wait()
                await reader.stop()
            one.outbox.flush()
        finally:
            unwatch()
            await reader.stop()
            # What refers to itself would be the collector's, which stops everybody.
            one.group = one.reader = one.outbox.on_paused = None
    return response


async def _begin(gateway: Gateway, reader: Reader, after: After) -> None:
    if isinstance(after, str):
        await reader.begin(after)
        return
    try:
        await reader.begin(after)
    except FabricError as error:
        gateway.metrics.resumed(error.code)
        raise
    gateway.metrics.resumed("log" if reader.reads_log else "memory")


class _Stream:
    """One stream; a `gateway.Peer`."""

    def __init__(self, gateway: Gateway, request: web.Request, grant: Grant, session: str) -> None:
        self.grant: Grant | None = grant
        self._session = session
        self.outbox = Outbox(gateway.sender, request, self._paused)
        self.over = asyncio.Event()
        self.reader: Reader | None = None
        self.group: asyncio.TaskGroup | None = None
        self._gateway = gateway
        self._vitals = Vitals(time.monotonic(), gateway.patience, greeted=True)
        self._vitals.expires_ms = grant.expires_ms
        self._said = time.monotonic()

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run something that ends with the stream at the latest."""
        assert self.group is not None
        return self.group.create_task(work)

    def ended(self, _: Reader, error: FabricError) -> None:
        """The session is gone, or cannot be read on."""
        if not error.retryable:
            self.outbox.put(sse_block("gone", **_facts(error)))
        self._finish()

    def record_changed(self, record: SessionRecord | None) -> None:
        """Somebody may take part no more."""
        if self.grant is not None and record is not None and not takes_part(self.grant, record):
            self.outbox.put(sse_block("gone", **_facts(shut_out(self.grant))))
            self._finish()

    def check(self, now: float, now_ms: int) -> None:
        outbox = self.outbox
        if not outbox.stalled:
            self._vitals.heard(now)  # it has nothing to say: only what it reads counts
        verdict = judged(self._vitals, outbox, now, now_ms)
        if isinstance(verdict, Close):
            self.end(verdict)
        elif now - self._said >= self._gateway.patience.heartbeat_s / 2 and not outbox.stalled:
            self._said = now
            outbox.put(_COMMENT)

    def tell(self, op: str, fields: Mapping[str, Any]) -> None:
        self.outbox.put(sse_block(op, **fields))

    def narrow(self, grant: Grant) -> None:
        self.grant = grant
        if not grant.grants.allows(self._session, "read"):
            self.end(codes.TOKEN_REVOKED)

    def end(self, close: Close) -> None:
        if self.over.is_set():
            return
        metrics = self._gateway.metrics
        metrics.closes.labels(str(close.code)).inc()
        if close is codes.SLOW_CONSUMER:
            metrics.slow.inc()
        self._finish()

    def _finish(self) -> None:
        """Send nothing more, from this moment on; who does not read is not waited for."""
        if self.reader is not None:
            self.reader.leave()
        self.outbox.shut()
        if self.outbox.stalled:
            self.outbox.abort()
        self.over.set()

    def _paused(self) -> None:
        self._gateway.metrics.lagged.inc()
        if self.reader is not None:
            self.reader.fall_behind()


def _facts(error: FabricError) -> dict[str, Any]:
    facts = facts_of(error)
    facts.pop("retryable")
    return facts
