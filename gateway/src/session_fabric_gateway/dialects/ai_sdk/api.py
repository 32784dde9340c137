"""The AI SDK's wires, for its own clients (`ai` 7 and 6): `DefaultChatTransport`, and what a page asks beside."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing, suppress
from typing import Final

from aiohttp import web
from session_fabric import FabricError, Session
from session_fabric.words.positions import Offset
from session_fabric.words.wire import Record

from session_fabric_gateway import operations
from session_fabric_gateway.admission import admit
from session_fabric_gateway.dialects import inputs
from session_fabric_gateway.dialects.ai_sdk.asked import Chat, asked_of
from session_fabric_gateway.dialects.ai_sdk.chats import Begun, Chats, Options, error_text
from session_fabric_gateway.dialects.ai_sdk.chunks import Chunks
from session_fabric_gateway.dialects.ai_sdk.messages import Transcript
from session_fabric_gateway.dialects.ai_sdk.parts import Reader
from session_fabric_gateway.dialects.ai_sdk.socket import serve
from session_fabric_gateway.dialects.pouring import stream
from session_fabric_gateway.gateway import BILL, METER, Gateway
from session_fabric_gateway.http import GRANT, grant_of, json, json_of, number, query_of

API: Final = "/v1/ai-sdk/chat"
_ONE: Final = API + "/{chat}"
_HEADERS: Final = {"x-vercel-ai-ui-message-stream": "v1"}
_OPTIONS: Final = ("abort", "pool", "sdk")
# How long stopping a run may take for somebody who has left.
_STOPPING_S: Final = 5.0
_DONE: Final = b"data: [DONE]\n\n"


class AiSdk:
    """Handlers of one gateway; `routes` lists them."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._chats = Chats(gateway)

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post(API, self.send),
            web.get(f"{_ONE}/stream", self.resume, allow_head=False),
            web.get(f"{_ONE}/messages", self.messages, allow_head=False),
            web.post(f"{_ONE}/stop", self.stop),
            web.get("/v1/ai-sdk/ws", self.socket, allow_head=False),
        ]

    async def send(self, request: web.Request) -> web.StreamResponse:
        gateway = self._gateway
        gateway.refuse_while_draining()
        grant = await grant_of(gateway, request)
        options = Options.of(query_of(request, *_OPTIONS), gateway.settings.dialect_abort)
        chat = operations.check(Chat, await json_of(request), "The request")
        session = gateway.session_of(request, grant, inputs.session_name(chat.id, "chat's id"))
        begun = await self._chats.carry_out(grant, session, asked_of(chat), options)
        return await self._stream(request, session, begun, options)

    async def resume(self, request: web.Request) -> web.StreamResponse:
        gateway = self._gateway
        gateway.refuse_while_draining()
        grant = await grant_of(gateway, request)
        query = query_of(request, *_OPTIONS, "after")
        options = Options.of(query, gateway.settings.dialect_abort)
        session = gateway.session_of(request, grant, inputs.session_name(request.match_info["chat"], "chat's id"))
        after = Offset.parse(query["after"]) if "after" in query else None
        found = await self._chats.under_way(grant, session, after)
        if found is None:
            return web.Response(status=204)
        return await self._stream(request, session, found, options)

    async def _stream(
        self, request: web.Request, session: Session, begun: Begun, options: Options
    ) -> web.StreamResponse:
        gateway = self._gateway
        try:
            async with gateway.hub.reading(session.place) as feed:
                reader = Reader(request[GRANT].participant, options.sdk)
                tale = await self._chats.tale(feed, session, begun, reader, request[METER], Sse)
                return await stream(gateway, request, session, tale, _HEADERS)
        except asyncio.CancelledError:
            if options.abort == "interrupt":  # whoever leaves before the end, by will or not
                with suppress(FabricError, TimeoutError):
                    async with asyncio.timeout(_STOPPING_S):
                        await inputs.stop(gateway, request[GRANT], session, begun.input.run, "interrupt")
            raise

    async def messages(self, request: web.Request) -> web.Response:
        gateway = self._gateway
        grant = await grant_of(gateway, request)
        query = query_of(request, "limit", "sdk")
        limit, options = number(query, "limit", 1000), Options.of(query, "detach")
        session = gateway.session_of(request, grant, inputs.session_name(request.match_info["chat"], "chat's id"))
        await admit(grant, session, "read")
        request[BILL].open()
        await session.record(create=False)
        head = await session.head()
        transcript = Transcript(Reader(grant.participant, options.sdk))
        async with aclosing(session.read("start", upto=head)) as batches:
            async for records in batches:
                await gateway.sender.history.turn()
                transcript.add(records)
        all = transcript.messages()
        return json({"messages": all[-limit:], "offset": str(head), "more": len(all) > limit})

    async def stop(self, request: web.Request) -> web.Response:
        gateway = self._gateway
        grant = await grant_of(gateway, request)
        query_of(request)
        session = gateway.session_of(request, grant, inputs.session_name(request.match_info["chat"], "chat's id"))
        await admit(grant, session, "control:cancel")
        found = await inputs.under_way(session)
        if found is None:
            return web.Response(status=204)
        offset = await inputs.stop(gateway, grant, session, found[0].run, "cancel")
        if offset is None:
            return web.Response(status=204)
        return json({"run": found[0].run, "offset": str(offset)}, 201)

    async def socket(self, request: web.Request) -> web.StreamResponse:
        gateway = self._gateway
        await grant_of(gateway, request, by_ticket=True)  # who it is first, then what is wrong with the rest
        query = query_of(request, *_OPTIONS, "ticket")
        return await serve(gateway, request, self._chats, Options.of(query, gateway.settings.dialect_abort))


class Sse:
    """A run as server-sent events; a `pouring.Teller`."""

    def __init__(self, chunks: Chunks) -> None:
        self.chunks = chunks

    @property
    def over(self) -> bool:
        return self.chunks.over

    def tell(self, records: Sequence[Record]) -> bytes:
        told = b"".join(b"data: %b\n\n" % chunk for record in records for chunk in self.chunks.add(record))
        return told + _DONE if self.chunks.over and self.chunks.took is None else told

    def failed(self, error: FabricError) -> bytes:
        return b"data: %b\n\n" % error_text(error) + _DONE
