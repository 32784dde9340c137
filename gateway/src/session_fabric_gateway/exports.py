"""A session as a file, line by line as it is read: whoever takes it slowly is waited for, and nothing is gathered."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

import structlog
from aiohttp import web
from session_fabric import FabricError, Offset, Session
from session_fabric.exporting import Previous
from session_fabric.words.errors import InvalidRequest

from session_fabric_gateway.admission import admit
from session_fabric_gateway.gateway import Gateway
from session_fabric_gateway.http import GRANT, query_of, session_of

log = structlog.get_logger()

TYPE: Final = "application/x-ndjson"
# Lines that leave in one write.
_TOGETHER_BYTES: Final = 64 * 1024
# Who takes nothing for so long is cut off.
_READ_WITHIN_S: Final = 30.0
_CHAIN: Final = re.compile(r"[0-9a-f]{64}")


class Exports:
    """The handler of one gateway; `routes` lists it."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/v1/sessions/{session}/export", self.get, allow_head=False)]

    async def get(self, request: web.Request) -> web.StreamResponse:
        """Answer with the lines of `Session.export`. What fails once it has begun cuts the answer off: without its
        end the file does not verify."""
        session = await session_of(self._gateway, request, "export")
        previous, cursors = _asked(request)
        self._gateway.refuse_while_draining()
        async with aclosing(session.export(previous=previous, cursors=cursors)) as lines:
            first = await anext(lines)  # what it refuses is answered as a problem
            headers = {"Content-Type": TYPE, "X-Accel-Buffering": "no"}
            headers["Content-Disposition"] = f'attachment; filename="{session.name}.jsonl"'
            response = web.StreamResponse(headers=headers)
            self._gateway.door.streams(request)
            await response.prepare(request)
            try:
                await self._send(request, response, session, first, lines)
            except (FabricError, TimeoutError) as error:
                log.info("export_cut_off", session=session.name, error=type(error).__name__)
                if request.transport is not None:
                    request.transport.abort()
        return response

    async def _send(
        self,
        request: web.Request,
        response: web.StreamResponse,
        session: Session,
        first: bytes,
        lines: AsyncGenerator[bytes, None],
    ) -> None:
        gathered = bytearray(first)
        async for line in lines:
            gathered += line
            if len(gathered) >= _TOGETHER_BYTES:
                await _write(response, gathered)
                gathered.clear()
                await self._gateway.sender.history.turn()
                await admit(self._gateway.still(request[GRANT]), session, "export")
        await _write(response, gathered)
        await response.write_eof()


async def _write(response: web.StreamResponse, data: bytearray) -> None:
    async with asyncio.timeout(_READ_WITHIN_S):
        await response.write(bytes(data))


def _asked(request: web.Request) -> tuple[Previous | None, bool]:
    query = query_of(request, "after", "chain", "cursors")
    cursors = query.get("cursors", "false")
    if cursors not in ("true", "false"):
        raise InvalidRequest(f"cursors is {cursors!r:.40}.", hint="Use true or false.", field="cursors")
    if ("after" in query) != ("chain" in query):
        raise InvalidRequest(
            "A file that continues another needs both where that ended and its last hash.",
            hint="Send `after` (the end's `head`) and `chain`.",
        )
    if "after" not in query:
        return None, cursors == "true"
    if _CHAIN.fullmatch(query["chain"]) is None:
        raise InvalidRequest(f"chain is {query['chain']!r:.80}.", hint="Use the last hash of a file.", field="chain")
    return Previous(query["chain"], Offset.parse(query["after"])), cursors == "true"
