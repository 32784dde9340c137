"""What server-sent events of durable streams have in common: how an answer is looked after, and how it ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any, Final

from aiohttp import HttpVersion11, web

from session_fabric_gateway import codes
from session_fabric_gateway.auth import Grant
from session_fabric_gateway.codes import Close
from session_fabric_gateway.gateway import Gateway
from session_fabric_gateway.http import GRANT
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
        unread = outbox.unread_bytes if outbox.stalled else 0
        verdict = self._vitals.check(now, now_ms, stalled=outbox.stalled, unread=unread)
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

    def _paused(self) -> None:
        self._gateway.metrics.lagged.inc()
