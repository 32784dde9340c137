"""TanStack's `webSocket()`: one socket a conversation, on which runs are asked for and told; one to join a run."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import orjson
import structlog
from aiohttp import web
from session_fabric import FabricError, Session
from session_fabric.rules.routing import run_of_input

from session_fabric_gateway import operations
from session_fabric_gateway.admission import admit
from session_fabric_gateway.codes import Close, Defect, facts_of
from session_fabric_gateway.dialects import inputs
from session_fabric_gateway.dialects.ag_ui.api import abort_of
from session_fabric_gateway.dialects.ag_ui.places import read_place
from session_fabric_gateway.dialects.ag_ui.saying import failure
from session_fabric_gateway.dialects.ag_ui.speaking import Turn
from session_fabric_gateway.dialects.ag_ui.turns import Turns
from session_fabric_gateway.dialects.ag_ui.wishes import RunInput
from session_fabric_gateway.dialects.pouring import pour
from session_fabric_gateway.dialects.sockets import DialectSocket, open_socket
from session_fabric_gateway.dialects.tanstack.hydrating import check_thread
from session_fabric_gateway.framing import text_frame
from session_fabric_gateway.gateway import METER, Gateway
from session_fabric_gateway.http import grant_of, query_of
from session_fabric_gateway.weighing import weigh

log = structlog.get_logger()

_TOLD = Close(1000, "all of it was told")
_POLICY = 1008
_EXAMPLE = 'Send a RunAgentInput, or {"type":"abort","runId":"…"}.'


async def serve(gateway: Gateway, request: web.Request) -> web.StreamResponse:
    """Serve one socket to its end."""
    query = query_of(request, "abort", "offset", "runId", "ticket")
    abort = abort_of(gateway, query)
    grant = await grant_of(gateway, request, by_ticket=True)
    session = gateway.session(grant, request.match_info["session"])
    await admit(grant, session, "read", makes="offset" not in query)
    socket = await open_socket(gateway, request)
    talk = _Talk(gateway, request, socket, session, abort)
    if "offset" in query:
        return await socket.run(talk.unheard, talk.join(query.get("runId", ""), query["offset"]))
    return await socket.run(talk.heard)


def frame(event: bytes, id: str) -> bytes:
    """Spell an event as a frame: with its id in an envelope, or bare."""
    return text_frame(b'{"id":%b,"chunk":%b}' % (orjson.dumps(id), event) if id else event)


class _Talk:
    """What one socket has asked for."""

    def __init__(
        self, gateway: Gateway, request: web.Request, socket: DialectSocket, session: Session, abort: inputs.Abort
    ) -> None:
        self._gateway = gateway
        self._socket = socket
        self._session = session
        self._meter = request[METER]
        self._abort = abort
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self._told: dict[str, str] = {}  # by the client's name of a run: its own

    @property
    def _turns(self) -> Turns:
        return Turns(self._gateway, self._socket.allowed, self._session, self._meter, frame, eager=True)

    # --- a conversation ---------------------------------------------------------------------------------

    async def heard(self, data: bytes) -> None:
        """Carry out one frame; what is wrong with it is told as the failure of its run."""
        run = ""
        try:
            await weigh(data, "The frame")
            value = operations.parsed(data, "The frame", _EXAMPLE)
            if isinstance(value, dict) and value.get("type") == "abort":
                await self._aborted(str(value.get("runId")))
                return
            if isinstance(value, dict) and isinstance(value.get("runId"), str):
                run = value["runId"][:200]
            asked = operations.check(RunInput, value, "The RunAgentInput")
            check_thread(self._session, asked.thread_id)
            self._socket.count(writes=True)
            await self._end(run)
            task = self._under_way[run] = await self._socket.spawn(self._answer(asked))
            task.add_done_callback(lambda done: self._forget(run, done))
        except FabricError as error:
            self._refuse(run, error)

    def _forget(self, run: str, task: asyncio.Task[None]) -> None:
        if self._under_way.get(run) is task:
            del self._under_way[run]
            self._told.pop(run, None)

    async def _aborted(self, run: str) -> None:
        """Say nothing more of a run; with `abort=interrupt` stop it."""
        self._socket.count(writes=self._abort == "interrupt")
        of = self._told.get(run, run_of_input(run)) if run in self._under_way else None
        await self._end(run)
        if of is not None and self._abort == "interrupt":
            await inputs.stop(self._gateway, self._socket.allowed, self._session, of, "interrupt")

    async def _end(self, run: str) -> None:
        task = self._under_way.pop(run, None)
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def _answer(self, asked: RunInput) -> None:
        try:
            await self._tell(await self._turns.posted(asked))
        except FabricError as error:
            self._refuse(asked.run_id, error)
        except ConnectionError:
            pass
        except Exception as error:
            log.exception("request_failed", op="tanstack")
            self._refuse(asked.run_id, Defect(f"The request failed: {type(error).__name__}."))

    def _refuse(self, run: str, error: FabricError) -> None:
        self._socket.refused(error)
        self._socket.outbox.put(frame(orjson.dumps(failure(error, self._session.name, run)), ""))

    # --- a run that is joined ---------------------------------------------------------------------------

    async def unheard(self, data: bytes) -> None:
        """Whoever joins a run has nothing to say."""
        self._socket.count(writes=False)

    async def join(self, run: str, offset: str) -> None:
        """Tell a run, whole or behind a place, and close: 1000 when all was told, 1008 when it cannot be."""
        close = _TOLD
        try:
            turns, place = self._turns, None if offset == "-1" else read_place(offset)
            await self._tell(await turns.joined(self._session.name, run, place))
        except FabricError as error:
            code: Any = facts_of(error)["code"]
            close = Close(_POLICY, f"{code}: {error.message}".encode()[:100].decode(errors="ignore"))
        except ConnectionError:
            return
        await self._socket.close(close)

    async def _tell(self, turn: Turn) -> None:
        self._told[turn.run] = turn.of
        put = self._socket.outbox.put
        with self._socket.reading(self._session):
            async with self._gateway.hub.reading(self._session.place) as feed:
                tale = await self._turns.tale(turn, feed)
                with suppress(FabricError):  # told already
                    await pour(tale, self._socket.outbox, put)
