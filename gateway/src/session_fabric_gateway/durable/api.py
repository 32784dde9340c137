"""Durable streams over HTTP: made, appended to, ended, looked at and removed. Reads are in `durable.reads`."""

from __future__ import annotations

import time
from functools import partial
from typing import Final

from aiohttp import web
from session_fabric.rules.appends import Asked, Known, Standing
from session_fabric.streams.ledger import Page
from session_fabric.streams.records import place_of
from session_fabric.streams.wishes import DEFAULT_TYPE
from session_fabric.words.errors import InvalidRequest, TooLarge
from session_fabric.words.subjects import Place

from session_fabric_gateway import bodies
from session_fabric_gateway.auth import Grant
from session_fabric_gateway.durable import heads, spelling
from session_fabric_gateway.durable.reads import Reads
from session_fabric_gateway.durable.rights import may
from session_fabric_gateway.durable.told import told as _told
from session_fabric_gateway.gateway import Gateway
from session_fabric_gateway.http import grant_of
from session_fabric_gateway.weighing import weigh

ROOT: Final = "/v1/stream/"
_ONE: Final = ROOT + "{path:.+}"


class DurableStreams:
    """Handlers of one gateway; `routes` lists them."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._reads = Reads(gateway)

    def routes(self) -> list[web.RouteDef]:
        told = partial(_told, self._gateway.metrics)
        return [
            web.put(_ONE, told(self.make)),
            web.post(_ONE, told(self.append)),
            web.delete(_ONE, told(self.delete)),
            web.head(_ONE, told(self.head)),
            web.get(_ONE, told(self._reads.get), allow_head=False),
        ]

    async def make(self, request: web.Request) -> web.Response:
        grant, place = await self._named(request, "create")
        body = await bodies.read(request) or None
        wish = heads.wish_of(request.headers, grant.tenant, ROOT, None)
        if wish.fork is not None:
            may(grant, wish.fork.source, "read")
        if body is not None:
            may(grant, place, "append")
            type = wish.content_type or await self._type_of_source(wish.fork and wish.fork.source)
            wish = wish.with_body(await self._payload(body, type, may_be_empty=True))
        with self._gateway.busy():
            page, made = await self._gateway.streams.make(place, wish, grant.participant)
        headers = _standing(page.standing) | {"Content-Type": page.record.content_type}
        if made:
            headers["Location"] = str(request.url.with_query(None))
            self._gateway.wakes.grown(place)
        return web.Response(status=201 if made else 200, headers=headers)

    async def _type_of_source(self, source: Place | None) -> str:
        return DEFAULT_TYPE if source is None else (await self._gateway.streams.look(source)).record.content_type

    async def append(self, request: web.Request) -> web.Response:
        grant, place = await self._named(request, "append")
        headers, streams = request.headers, self._gateway.streams
        body, close = await bodies.read(request), heads.closes(headers)
        producer, seq = heads.producer_of(headers), heads.seq_of(headers)
        if not body and not close:
            await streams.look(place)
            raise InvalidRequest("The body is empty.", hint="Append something; Stream-Closed: true alone closes.")
        type = headers.get("Content-Type")
        payload = None
        if body:
            if type is None:
                await streams.look(place)
                raise InvalidRequest("There is no Content-Type.", hint="Send the stream's own.")
            payload = await self._payload(body, type, may_be_empty=False)
        begun = time.monotonic()
        with self._gateway.busy():
            done = await streams.append(place, Asked(payload, type, seq, producer, close), grant.participant)
        self._gateway.metrics.appended(time.monotonic() - begun)
        if done.stored:
            self._gateway.wakes.grown(place)
        return web.Response(
            status=200 if payload is not None and producer is not None and done.stored else 204,
            headers=_standing(done.standing) | _producer(done.last),
        )

    async def delete(self, request: web.Request) -> web.Response:
        grant, place = await self._named(request, "erase")
        with self._gateway.busy():
            await self._gateway.streams.delete(place, grant.participant)
        return web.Response(status=204)

    async def head(self, request: web.Request) -> web.Response:
        _, place = await self._named(request, "read")
        page = await self._gateway.streams.look(place)
        headers = _standing(page.standing) | {"Content-Type": page.record.content_type} | _time(page)
        return web.Response(headers={**headers, "Cache-Control": "no-store"})

    async def _named(self, request: web.Request, operation: str) -> tuple[Grant, Place]:
        grant = await grant_of(self._gateway, request)
        place = place_of(grant.tenant, request.match_info["path"])
        may(grant, place, operation)
        return grant, place

    async def _payload(self, body: bytes, content_type: str, *, may_be_empty: bool) -> bytes:
        limit = self._gateway.settings.limits.max_body_bytes
        if len(body) > limit:
            raise TooLarge(f"The body has {len(body)} bytes.", hint=f"Append at most {limit} at once.", limit=limit)
        if spelling.form_of(content_type) != "json":
            return body
        await weigh(body, "The body")
        return spelling.inner_json(body, may_be_empty=may_be_empty)


def _standing(standing: Standing) -> dict[str, str]:
    headers = {"Stream-Next-Offset": str(standing.tail)}
    return headers | {"Stream-Closed": "true"} if standing.closed else headers


def _producer(last: Known | None) -> dict[str, str]:
    return {} if last is None else {"Producer-Epoch": str(last.epoch), "Producer-Seq": str(last.seq)}


def _time(page: Page) -> dict[str, str]:
    record = page.record
    if record.ttl_s is not None:
        return {"Stream-TTL": str(record.ttl_s)}
    return {} if record.expires_at is None else {"Stream-Expires-At": record.expires_at}
