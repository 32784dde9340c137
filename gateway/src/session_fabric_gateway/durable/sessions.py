"""Sessions as durable streams: a session's log, and each of its runs, for any client of the protocol; to read alone.

The entries are events as `GET /v1/sessions/{session}/events` has them, and offsets are the session's own. A session's
stream ends when the session is closed, a run's when the run has ended.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from functools import partial
from typing import Final

from aiohttp import web
from session_fabric import Offset, Session
from session_fabric.rules.appends import JSON
from session_fabric.words.events import RUN_OVER, SESSION_CLOSED
from session_fabric.words.positions import ZERO
from session_fabric.words.wire import Record, event_json

from session_fabric_gateway.admission import admit
from session_fabric_gateway.codes import NotFound
from session_fabric_gateway.durable import heads, spelling
from session_fabric_gateway.durable.heads import Reading
from session_fabric_gateway.durable.session_live import Found, stream
from session_fabric_gateway.durable.told import told as _told
from session_fabric_gateway.gateway import Gateway
from session_fabric_gateway.http import GRANT, session_of

_SESSION: Final = "/v1/sessions/{session}/stream"
_RUN: Final = "/v1/sessions/{session}/runs/{run}/stream"
_SLICE_S: Final = 1.0
_CHUNK_BYTES: Final = 1024 * 1024
# Events that are spelled in one turn of the loop.
_TOGETHER: Final = 32


class SessionStreams:
    """Handlers of one gateway; `routes` lists them."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def routes(self) -> list[web.RouteDef]:
        told = partial(_told, self._gateway.metrics)
        return [
            *(web.get(path, told(self.get), allow_head=False) for path in (_SESSION, _RUN)),
            *(web.head(path, told(self.head)) for path in (_SESSION, _RUN)),
        ]

    async def head(self, request: web.Request) -> web.Response:
        session, run = await self._named(request)
        found = await self._read(session, run, await session.head())
        headers = _headers(found) | {"Content-Type": JSON, "Cache-Control": "no-store"}
        return web.Response(headers=headers)

    async def get(self, request: web.Request) -> web.StreamResponse:
        session, run = await self._named(request)
        asked = heads.reading_of(request.query)
        if asked.live == "sse":
            return await self._stream(request, session, run, asked)
        if asked.live == "long-poll":
            return await self._poll(request, session, run, asked)
        after = await session.head() if asked.after is None else asked.after
        return _answer(await self._read(session, run, after))

    async def _named(self, request: web.Request) -> tuple[Session, str | None]:
        session = await session_of(self._gateway, request, "read", by_ticket=request.query.get("live") == "sse")
        await session.record(create=False)
        run = request.match_info.get("run")
        if run is not None and await session.newest_of_run(run) is None:
            raise NotFound(f"Session {session.name!r} has no run {run!r:.100}.", hint="See its RUN_STARTED events.")
        return session, run

    async def _read(self, session: Session, run: str | None, after: Offset) -> Found:
        """Read what is behind an offset, up to the end as the leader names it."""
        head = await session.head()
        within = await session.within("start" if after == ZERO else after, head)
        events: list[bytes] = []
        size = 0
        async with aclosing(session.read(within, upto=head)) as batches:
            async for records in batches:
                for at, record in enumerate(records):
                    if at % _TOGETHER == 0:
                        await self._gateway.sender.history.turn()
                    if run is not None and record.run != run:
                        continue
                    events.append(event_json(record))
                    size += len(events[-1])
                    if _is_last(record, run):
                        return Found(events, record.offset, True, True)
                    if size >= _CHUNK_BYTES:
                        return Found(events, record.offset, record.offset == head, False)
        return Found(events, head, True, await self._closed(session, run, head))

    async def _closed(self, session: Session, run: str | None, head: Offset) -> bool:
        """Say whether nothing comes behind the end."""
        if run is None:
            return (await session.record(create=False)).state == "closed"
        newest = await session.newest_of_run(run)
        return newest is not None and newest.type in RUN_OVER and newest.offset <= head

    async def _poll(self, request: web.Request, session: Session, run: str | None, asked: Reading) -> web.Response:
        gateway, loop = self._gateway, asyncio.get_running_loop()
        gateway.refuse_while_draining()
        deadline = loop.time() + gateway.settings.stream_poll_s
        async with gateway.hub.reading(session.place) as feed:
            after = await session.head() if asked.after is None else asked.after
            while True:
                found = await self._read(session, run, after)
                left_s = deadline - loop.time()
                if found.events or found.closed or left_s <= 0 or gateway.draining:
                    break
                if feed.ring.delivered > found.next or await feed.progress(min(left_s, _SLICE_S)):
                    after = found.next
                if feed.error is not None:
                    raise feed.error
                await self._still(request, session)
            await self._still(request, session)  # reading has taken a while
        return _answer(found, live=True, said=asked.cursor)

    async def _still(self, request: web.Request, session: Session) -> None:
        """Return if who waits may still read. Raises what says that he may not."""
        await admit(self._gateway.still(request[GRANT]), session, "read")

    async def _stream(
        self, request: web.Request, session: Session, run: str | None, asked: Reading
    ) -> web.StreamResponse:
        """Answer with server-sent events: each read as one data event with its control event."""
        gateway = self._gateway
        gateway.refuse_while_draining()
        async with gateway.hub.reading(session.place) as feed:
            after = await session.head() if asked.after is None else asked.after
            found = await self._read(session, run, after)  # what it refuses is answered as a problem
            read = partial(self._read, session, run)
            return await stream(gateway, request, session, feed, read, found, asked.cursor)


def _is_last(record: Record, run: str | None) -> bool:
    if run is None:
        return record.type == SESSION_CLOSED
    return record.parts.kind == "own" and record.type in RUN_OVER


def _headers(found: Found) -> dict[str, str]:
    headers = {"Stream-Next-Offset": str(found.next)}
    if found.end:
        headers["Stream-Up-To-Date"] = "true"
    if found.closed:
        headers["Stream-Closed"] = "true"
    return headers


def _answer(found: Found, *, live: bool = False, said: str | None = None) -> web.Response:
    headers = _headers(found) | {"Cache-Control": "private, no-cache"}
    if live:
        headers["Stream-Cursor"] = spelling.cursor(time.time(), said)
        if not found.events:
            return web.Response(status=204, headers=headers)
    return web.Response(body=spelling.joined("json", found.events), headers=headers | {"Content-Type": JSON})
