"""Reads of durable streams: what is stored, and long polls for what comes. Streams of events are in `durable.live`."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from aiohttp import web
from session_fabric.streams.ledger import Page
from session_fabric.streams.records import place_of
from session_fabric.streams.streams import Chunk
from session_fabric.words.positions import Offset
from session_fabric.words.subjects import Place

from session_fabric_gateway.durable import heads, spelling
from session_fabric_gateway.durable.heads import Reading
from session_fabric_gateway.durable.live import stream
from session_fabric_gateway.durable.rights import may
from session_fabric_gateway.gateway import Gateway
from session_fabric_gateway.http import GRANT, grant_of

# In slices, so that a gateway that stops, and a token that ends, are not waited for.
_SLICE_S: Final = 1.0
# What is behind an offset and whole stays as it is; what is at the end may grow.
_WHOLE: Final = "private, max-age=60, stale-while-revalidate=300"
_AT_THE_END: Final = "private, no-cache"


class Reads:
    """`GET` of a stream in all its forms."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def get(self, request: web.Request) -> web.StreamResponse:
        grant = await grant_of(self._gateway, request, by_ticket=request.query.get("live") == "sse")
        place = place_of(grant.tenant, request.match_info["path"])
        may(grant, place, "read")
        asked = heads.reading_of(request.query)
        page = await self._gateway.streams.look(place, touch=True)
        if asked.live == "sse":
            return await stream(self._gateway, request, place, asked)
        if asked.live == "long-poll":
            return await self._poll(request, place, asked)
        return await self._stored(request, page, asked)

    async def _stored(self, request: web.Request, page: Page, asked: Reading) -> web.Response:
        if asked.after is None:
            chunk = Chunk((), page.standing.tail, True)
            response = self._answer(page, chunk)
            response.headers["Cache-Control"] = "no-store"
            return response
        chunk = await self._gateway.streams.read(page, asked.after)
        closed = page.standing.closed and chunk.end
        tag = spelling.tag(page.record.life, asked.after, chunk.next, closed=closed)
        headers = {"ETag": tag, "Cache-Control": _AT_THE_END if chunk.end else _WHOLE}
        if heads.matches(request.headers.get("If-None-Match", ""), tag):
            return web.Response(status=304, headers=headers)
        response = self._answer(page, chunk)
        response.headers.update(headers)
        return response

    async def _poll(self, request: web.Request, place: Place, asked: Reading) -> web.Response:
        gateway, loop = self._gateway, asyncio.get_running_loop()
        gateway.refuse_while_draining()
        deadline = loop.time() + gateway.settings.stream_poll_s
        async with gateway.tails.following(place) as tail:
            page = await gateway.streams.look(place)
            after = page.standing.tail if asked.after is None else asked.after
            while True:
                chunk = await gateway.streams.read(page, after)
                if chunk.entries or page.standing.closed or gateway.draining:
                    break
                left_s = deadline - loop.time()
                if left_s <= 0:
                    break
                await tail.moved(min(left_s, _SLICE_S))
                if tail.error is not None:
                    raise tail.error
                may(gateway.still(request[GRANT]), place, "read")
                page = _later(page, tail.page)
        may(gateway.still(request[GRANT]), place, "read")  # reading has taken a while
        return self._answer(page, chunk, live=True, said=asked.cursor)

    def _answer(self, page: Page, chunk: Chunk, *, live: bool = False, said: str | None = None) -> web.Response:
        record, standing = page.record, page.standing
        headers = spelling.answer_headers(standing, chunk.next, end=chunk.end)
        if live:
            headers["Stream-Cursor"] = spelling.cursor(time.time(), said)
            headers["Cache-Control"] = _AT_THE_END
            if not chunk.entries:
                return web.Response(status=204, headers=headers)
        body = spelling.joined(spelling.form_of(record.content_type), [one.payload for one in chunk.entries])
        return web.Response(body=body, headers=headers | {"Content-Type": record.content_type})


def _later(page: Page, heard: Page | None) -> Page:
    """Return the page that shows more of a stream: what was read, or what was heard since."""
    if heard is None or _end(heard) < _end(page):
        return page
    return heard


def _end(page: Page) -> Offset:
    return Offset(page.record.stretch.segment, page.standing.guard)
