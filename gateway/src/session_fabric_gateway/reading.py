"""Events over HTTP: pages, long polls, and the choice between them and streams."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Final, Literal, NamedTuple

from aiohttp import web
from session_fabric import Offset, Session
from session_fabric.history import PAGE_BYTES
from session_fabric.words.errors import InvalidRequest
from session_fabric.words.positions import After, parse_after
from session_fabric.words.wire import event_json

from session_fabric_gateway.admission import admit
from session_fabric_gateway.encoding import View, in_messages
from session_fabric_gateway.gateway import Gateway
from session_fabric_gateway.http import GRANT, number, query_of, session_of
from session_fabric_gateway.rota import Rota
from session_fabric_gateway.sse import stream

_SLICE_S: Final = 1.0
# Events that are spelled in one turn of the loop: a fifth of a millisecond's work.
_TOGETHER: Final = 32
_QUERY: Final = ("after", "before", "limit", "live", "ticket", "timeout_ms", "view")


class Asked(NamedTuple):
    """What a GET of events asks for."""

    after: After
    before: Offset | Literal["tail"] | None
    limit: int
    live: str | None
    timeout_ms: int
    view: View


class Events:
    """`GET /v1/sessions/{session}/events` in all its forms."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/v1/sessions/{session}/events", self.get, allow_head=False)]

    async def get(self, request: web.Request) -> web.StreamResponse:
        streams = request.query.get("live") == "sse"  # what an EventSource asks for, which sends no headers
        session = await session_of(self._gateway, request, "read", by_ticket=streams)
        asked = _asked(request)
        await session.record(create=False)
        if asked.before is not None:
            return await self._back(session, asked.before, asked)
        if asked.live == "sse":
            return await stream(self._gateway, request, session, asked.after, asked.view)
        if asked.live == "long-poll":
            return await self._poll(request, session, asked)
        return await self._page(session, asked)

    async def _page(self, session: Session, asked: Asked) -> web.Response:
        return _answer(await _read(session, asked.after, asked, self._gateway.sender.history))

    async def _back(self, session: Session, before: Offset | Literal["tail"], asked: Asked) -> web.Response:
        rota, events = self._gateway.sender.history, list[bytes]()
        records, previous = await session.read_back(before, asked.limit)
        for at, record in enumerate(records):
            if at % _TOGETHER == 0:
                await rota.turn()
            if asked.view == "full" or in_messages(record.type):
                events.append(event_json(record))
        told = b"null" if previous is None else b'"%b"' % str(previous).encode()
        return _json(b'{"events":[%b],"previous":%b}' % (b",".join(events), told))

    async def _poll(self, request: web.Request, session: Session, asked: Asked) -> web.Response:
        """Wait for the first event behind an offset; what a view leaves out is no reason to answer."""
        gateway = self._gateway
        gateway.refuse_while_draining()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + asked.timeout_ms / 1000
        async with gateway.hub.reading(session.place) as feed:
            found = await _read(session, asked.after, asked, self._gateway.sender.history)
            while not found.events and (left_s := deadline - loop.time()) > 0 and not gateway.draining:
                if feed.error is not None:
                    raise feed.error
                if feed.ring.delivered > found.position:
                    found = await _read(session, found.position, asked, gateway.sender.history)
                else:
                    # In slices, so that a gateway that stops is not waited for.
                    await feed.progress(min(left_s, _SLICE_S))
                    await self._still(request, session)
            await self._still(request, session)  # reading has taken a while
            return _answer(found)

    async def _still(self, request: web.Request, session: Session) -> None:
        """Return if who waits may still read. Raises what says that he may not."""
        grant = self._gateway.still(request[GRANT])
        await admit(grant, session, "read")


class Found(NamedTuple):
    """Events as JSON; everything up to `position` was read, and `head` was the end."""

    events: list[bytes]
    position: Offset
    head: Offset


async def _read(session: Session, after: After, asked: Asked, rota: Rota) -> Found:
    """Read a page behind an offset, cut where it grows too large."""
    head = await session.head()
    after = await session.within(after, head)
    if after in ("tail", head):
        return Found([], head, head)
    events: list[bytes] = []
    size = 0
    async with aclosing(session.read(after, upto=head)) as batches:
        async for records in batches:
            for at, record in enumerate(records):
                if at % _TOGETHER == 0:
                    await rota.turn()
                if asked.view == "messages" and not in_messages(record.type):
                    continue
                events.append(event_json(record))
                size += len(events[-1])
                if len(events) >= asked.limit or size >= PAGE_BYTES:
                    return Found(events, record.offset, head)
    return Found(events, head, head)


def _answer(found: Found) -> web.Response:
    position, head = str(found.position).encode(), str(found.head).encode()
    return _json(b'{"events":[%b],"next":"%b","head":"%b"}' % (b",".join(found.events), position, head))


def _json(body: bytes) -> web.Response:
    return web.Response(body=body, content_type="application/json")


def _asked(request: web.Request) -> Asked:
    query = query_of(request, *_QUERY)
    live, view, before = query.get("live"), query.get("view", "full"), query.get("before")
    if live not in (None, "sse", "long-poll"):
        raise InvalidRequest(f"live is {live!r:.40}.", hint="Use sse or long-poll.", field="live")
    if view not in ("full", "messages"):
        raise InvalidRequest(f"view is {view!r:.40}.", hint="Use full or messages.", field="view")
    if "ticket" in query and live != "sse":
        raise InvalidRequest("A ticket is for live=sse alone.", hint="Send the token in Authorization.", field="ticket")
    if before is not None and (live is not None or "after" in query):
        raise InvalidRequest("before goes neither with after nor with live.", field="before")
    # An EventSource that comes back says where it was.
    last = request.headers.get("Last-Event-ID") if live == "sse" else None
    return Asked(
        after=parse_after(last or query.get("after", "start")),
        before=None if before is None else "tail" if before == "tail" else Offset.parse(before),
        limit=number(query, "limit", 100),
        live=live,
        timeout_ms=number(query, "timeout_ms", 25_000, 0, 60_000),
        view="full" if view == "full" else "messages",
    )
