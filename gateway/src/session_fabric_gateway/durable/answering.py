"""What server-sent events other than the gateway's own have in common: how an answer is looked after, and ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final

from aiohttp import HttpVersion11, web
from session_fabric import Session, SessionRecord

from session_fabric_gateway import codes
from session_fabric_gateway.admission import admit, takes_part
from session_fabric_gateway.auth import Grant
from session_fabric_gateway.codes import Close
from session_fabric_gateway.gateway import Gateway
from session_fabric_gateway.http import GRANT
from session_fabric_gateway.inbound import judged
from session_fabric_gateway.outbox import Outbox
from session_fabric_gateway.vitals import Vitals

# Answers end about then, so that caches between can join those who read the same (protocol, section 10.2); clients
# come back by themselves.
LIFE_S: Final = 60.0
COMMENT: Final = b":\n\n"
HEADERS: Final = {"Content-Type": "text/event-stream", "Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


class Answer:
    """One answer; a `gateway.Peer` but for `narrow`."""

    def __init__(self, gateway: Gateway, request: web.Request) -> None:
        grant = request[GRANT]
        self.grant: Grant | None = grant
        self.outbox = Outbox(gateway.sender, request, self._paused, chunked=request.version >= HttpVersion11)
        self.ended = asyncio.Event()
        self._gateway = gateway
        self._vitals = Vitals(time.monotonic(), gateway.patience, greeted=True)
        self._vitals.expires_ms = grant.expires_ms
        self._spoken = time.monotonic()

    def check(self, now: float, now_ms: int) -> None:
        outbox = self.outbox
        if not outbox.stalled:
            self._vitals.heard(now)
        verdict = judged(self._vitals, outbox, now, now_ms)
        if isinstance(verdict, Close):
            self.end(verdict)
        elif now - self._spoken >= self._gateway.patience.heartbeat_s and not outbox.stalled:
            self._spoken = now
            outbox.put(COMMENT)

    def tell(self, op: str, fields: Mapping[str, Any]) -> None:
        """The protocol has no words for it: who is sent elsewhere comes back by itself."""

    def end(self, close: Close) -> None:
        if self.ended.is_set():
            return
        self._gateway.metrics.closes.labels(str(close.code)).inc()
        if close is codes.SLOW_CONSUMER:
            self._gateway.metrics.slow.inc()
        self._finish()

    def _finish(self) -> None:
        """Send nothing more, from this moment on; who does not read is not waited for."""
        self.outbox.shut()
        if self.outbox.stalled:
            self.outbox.abort()
        self.ended.set()

    def let_go(self) -> None:
        """It is over: what refers to itself would be the collector's, which stops everybody."""
        self.outbox.on_paused = None

    def _paused(self) -> None:
        self._gateway.metrics.lagged.inc()


class SessionAnswer(Answer):
    """An answer that ends when its session may be read no more; a `gateway.Peer`."""

    def __init__(self, gateway: Gateway, request: web.Request, session: Session) -> None:
        super().__init__(gateway, request)
        self._session = session
        self._request = request

    async def serve(self, response: web.StreamResponse, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Begin an answer and have `work` fill it, until one of the two has ended."""
        self._gateway.door.streams(self._request)
        unwatch = self._session.on_record(self.record_changed)
        try:
            # It was admitted a moment ago: since then it is watched.
            await admit(self._request[GRANT], self._session, "read")
            await response.prepare(self._request)
            await response.write(COMMENT)  # the headers go with it; from here on bytes are written past the response
            async with asyncio.TaskGroup() as group:
                with self._gateway.serving(self, "sse"):
                    running = group.create_task(work())
                    await self.ended.wait()
                running.cancel()
        finally:
            unwatch()
            self.let_go()

    def record_changed(self, record: SessionRecord | None) -> None:
        """Somebody may take part no more."""
        if self.grant is not None and record is not None and not takes_part(self.grant, record):
            self.end(codes.TOKEN_REVOKED)

    def narrow(self, grant: Grant) -> None:
        self.grant = grant
        if not grant.grants.allows(self._session.name, "read"):
            self.end(codes.TOKEN_REVOKED)
