"""A durable stream as server-sent events: what is stored, then what comes, each data event with its control event."""

from __future__ import annotations

import asyncio
import random
import time

from aiohttp import web
from session_fabric.rules.appends import Standing
from session_fabric.streams.tails import Tail
from session_fabric.words.errors import FabricError, Forbidden, StreamNotFound
from session_fabric.words.positions import Offset
from session_fabric.words.subjects import Place

from session_fabric_gateway import codes
from session_fabric_gateway.auth import Grant
from session_fabric_gateway.durable import spelling
from session_fabric_gateway.durable.answering import COMMENT, HEADERS, LIFE_S, Answer
from session_fabric_gateway.durable.heads import Reading
from session_fabric_gateway.durable.rights import may
from session_fabric_gateway.durable.spelling import Form
from session_fabric_gateway.gateway import Gateway


async def stream(gateway: Gateway, request: web.Request, place: Place, asked: Reading) -> web.StreamResponse:
    """Answer with what is behind an offset and what comes, until the stream ends, or about a minute has passed."""
    gateway.refuse_while_draining()
    async with gateway.tails.following(place) as tail:
        page = await gateway.streams.look(place)
        after = page.standing.tail if asked.after is None else asked.after
        await gateway.streams.read(page, after, most_bytes=1)  # what it refuses is answered as a problem
        form = spelling.form_of(page.record.content_type)
        encoding = {"stream-sse-data-encoding": "base64"} if form == "bytes" else {}
        response = web.StreamResponse(headers=HEADERS | encoding)
        gateway.door.streams(request)
        one = _Stream(gateway, request, tail, place, form, after, asked.cursor)
        try:
            await response.prepare(request)
            await response.write(COMMENT)  # the headers go with it; from here on bytes are written past the response
            with gateway.serving(one, "sse"):
                await one.run()
        finally:
            one.let_go()
    return response


class _Stream(Answer):
    """One answer; a `gateway.Peer`, and an heir of its stream's tail."""

    def __init__(
        self,
        gateway: Gateway,
        request: web.Request,
        tail: Tail,
        place: Place,
        form: Form,
        after: Offset,
        said: str | None,
    ) -> None:
        super().__init__(gateway, request)
        self._tail = tail
        self._place = place
        self._form = form
        self._after = after
        self._said = said
        self._behind = asyncio.Event()

    async def run(self) -> None:
        """Send what is stored, then hear what comes; whoever does not read is left, and caught up when it does."""
        try:
            async with asyncio.timeout(LIFE_S * random.uniform(0.9, 1.1)):
                while not self.ended.is_set():
                    await self._catch_up()
                    await self._either(self.ended, self._behind)
                    self._tail.heirs.pop(self, None)
        except TimeoutError:
            pass
        except FabricError:
            pass  # the stream is gone: a client that comes back is told so
        except ConnectionError:
            pass  # it did not read, and was cut
        finally:
            self._tail.heirs.pop(self, None)
        self.outbox.flush()

    async def _catch_up(self) -> None:
        """Send what is stored up to where the tail is, then become its heir."""
        self._behind.clear()
        first = True
        while not self.ended.is_set():
            await self.outbox.drained()
            page = self._tail.page
            if self._tail.error is not None or page is None:
                raise self._tail.error or StreamNotFound("The stream is gone.")
            chunk = await self._gateway.streams.read(page, min(self._after, page.standing.tail))
            if self.ended.is_set():
                return
            if chunk.entries or first:
                self._send([one.payload for one in chunk.entries], chunk.next, page.standing, end=chunk.end)
                first = False
            now = self._tail.page
            # No turn of the loop lies between this look and becoming an heir.
            if chunk.end and now is not None and now.standing.guard == page.standing.guard and not self.outbox.paused:
                self._tail.heirs[self] = self
                return

    def _send(self, payloads: list[bytes], next: Offset, standing: Standing, *, end: bool) -> None:
        closed = end and standing.closed
        cursor = spelling.cursor(time.time(), self._said)
        control = spelling.control_event(next, end=end, closed=closed, cursor=cursor)
        self._put(spelling.data_event(self._form, payloads) + control, next, closed=closed)

    def _put(self, block: bytes, next: Offset, *, closed: bool) -> None:
        self.outbox.put(block)
        self._after = next
        self._spoken = time.monotonic()
        if closed:
            self.ended.set()

    async def _either(self, *events: asyncio.Event) -> None:
        waits = [asyncio.ensure_future(event.wait()) for event in events]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    # --- what the tail tells --------------------------------------------------------------------------

    def entry(self, offset: Offset, payload: bytes, standing: Standing) -> None:
        if offset <= self._after or self._behind.is_set():
            return
        end = offset == standing.tail
        closed, cursor = end and standing.closed, spelling.cursor(time.time(), self._said)
        shared, key = self._tail.shared, (self._form, end, closed, cursor)
        block = shared.get(key)
        if block is None:
            block = shared[key] = spelling.data_event(self._form, [payload]) + spelling.control_event(
                offset, end=end, closed=closed, cursor=cursor
            )
        self._put(block, offset, closed=closed)

    def closed(self, standing: Standing) -> None:
        if not self.ended.is_set() and not self._behind.is_set():
            self._send([], standing.tail, standing, end=True)

    def over(self, error: FabricError) -> None:
        self.ended.set()

    def _paused(self) -> None:
        super()._paused()
        self._behind.set()

    def narrow(self, grant: Grant) -> None:
        self.grant = grant
        try:
            may(grant, self._place, "read")
        except Forbidden:
            self.end(codes.TOKEN_REVOKED)

    def _finish(self) -> None:
        self._tail.heirs.pop(self, None)
        super()._finish()
