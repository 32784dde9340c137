"""`WebSocketChatTransport` of the AI SDK 7: `send`, `resume` and `abort` in; `start`, `chunk`, `end` and others out."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal

import orjson
import structlog
from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field
from session_fabric import FabricError, Session
from session_fabric.words.errors import InvalidRequest
from session_fabric.words.wire import Record

from session_fabric_gateway import operations
from session_fabric_gateway.codes import Defect
from session_fabric_gateway.dialects import inputs
from session_fabric_gateway.dialects.ai_sdk.asked import Chat, asked_of
from session_fabric_gateway.dialects.ai_sdk.chats import Begun, Chats, Options, spelled
from session_fabric_gateway.dialects.ai_sdk.chunks import Chunks
from session_fabric_gateway.dialects.ai_sdk.parts import Reader
from session_fabric_gateway.dialects.pouring import pour
from session_fabric_gateway.dialects.sockets import DialectSocket, open_socket
from session_fabric_gateway.framing import text_frame
from session_fabric_gateway.gateway import METER, Gateway
from session_fabric_gateway.weighing import weigh

log = structlog.get_logger()

_EXAMPLE: Final = 'For example {"type":"resume","requestId":"r1","id":"chat-1"}.'


class _Frame(BaseModel):
    """What all frames have; a page's own headers, body and metadata are left alone."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    request_id: Annotated[str, Field(alias="requestId", min_length=1, max_length=200)]


class _Send(_Frame, Chat):
    type: Literal["send"]


class _Resume(_Frame):
    type: Literal["resume"]
    id: str


class _Abort(_Frame):
    type: Literal["abort"]


_MODELS: Final[dict[str, type[_Send | _Resume | _Abort]]] = {"send": _Send, "resume": _Resume, "abort": _Abort}


async def serve(gateway: Gateway, request: web.Request, chats: Chats, options: Options) -> web.StreamResponse:
    """Serve one socket to its end."""
    socket = await open_socket(gateway, request)
    return await socket.run(_Talk(gateway, request, socket, chats, options).heard)


class _Talk:
    """What one socket has asked for."""

    def __init__(
        self, gateway: Gateway, request: web.Request, socket: DialectSocket, chats: Chats, options: Options
    ) -> None:
        self._gateway = gateway
        self._meter = request[METER]
        self._socket = socket
        self._chats = chats
        self._options = options
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self._told: dict[str, tuple[Session, str]] = {}

    async def heard(self, data: bytes) -> None:
        """Carry out one frame; what is wrong with it is told under its request's id."""
        id = ""
        try:
            await weigh(data, "The frame")
            value = operations.parsed(data, "The frame", _EXAMPLE)
            kind = value.get("type") if isinstance(value, dict) else None
            if isinstance(value, dict) and isinstance(value.get("requestId"), str):
                id = value["requestId"][:200]
            model = _MODELS.get(kind) if isinstance(kind, str) else None
            if model is None:
                raise InvalidRequest(f"The frame's type is {kind!r:.60}.", hint="Use send, resume or abort.")
            frame = operations.check(model, value, f"The {kind} frame")
            self._socket.count(writes=not isinstance(frame, _Resume))
            if isinstance(frame, _Abort):
                await self._abort(frame.request_id)
            else:
                await self._begin(frame)
        except FabricError as error:
            self._refuse(id, error)

    async def _begin(self, frame: _Send | _Resume) -> None:
        id = frame.request_id
        if id in self._under_way:
            raise InvalidRequest(f"The request {id!r:.80} is under way.", hint="Give each one an id of its own.")
        task = self._under_way[id] = await self._socket.spawn(self._answer(id, frame))
        task.add_done_callback(lambda _: self._forget(id))

    def _forget(self, id: str) -> None:
        self._under_way.pop(id, None)
        self._told.pop(id, None)

    async def _abort(self, id: str) -> None:
        told, task = self._told.get(id), self._under_way.get(id)
        if task is not None:
            task.cancel()
        if told is not None and self._options.abort == "interrupt":
            await inputs.stop(self._gateway, self._socket.allowed, *told, "interrupt")

    async def _answer(self, id: str, frame: _Send | _Resume) -> None:
        try:
            await (self._send(frame) if isinstance(frame, _Send) else self._resume(frame))
        except FabricError as error:
            self._refuse(id, error)
        except ConnectionError:
            pass
        except Exception as error:
            log.exception("request_failed", op="ai-sdk")
            self._refuse(id, Defect(f"The request failed: {type(error).__name__}."))

    def _refuse(self, id: str, error: FabricError) -> None:
        self._socket.refused(error)
        self._say("error", id, errorText=spelled(error))

    def _say(self, type: str, id: str, **fields: Any) -> None:
        self._socket.put(orjson.dumps({"type": type, "requestId": id, **fields}))

    # --- what is asked ------------------------------------------------------------------------------

    async def _send(self, frame: _Send) -> None:
        grant = self._socket.allowed
        session = self._gateway.session(grant, inputs.session_name(frame.id, "chat's id"))
        begun = await self._chats.carry_out(grant, session, asked_of(frame), self._options)
        await self._tell(frame.request_id, session, begun)

    async def _resume(self, frame: _Resume) -> None:
        grant = self._socket.allowed
        session = self._gateway.session(grant, inputs.session_name(frame.id, "chat's id"))
        begun = await self._chats.under_way(grant, session)
        if begun is None:
            self._say("no-active", frame.request_id)
        else:
            await self._tell(frame.request_id, session, begun)

    async def _tell(self, id: str, session: Session, begun: Begun) -> None:
        self._told[id] = session, begun.input.run
        gateway, socket = self._gateway, self._socket
        reader = Reader(socket.allowed.participant, self._options.sdk)
        frames = _Frames(id)
        with socket.reading(session):
            async with gateway.hub.reading(session.place) as feed:
                tale = await self._chats.tale(feed, session, begun, reader, self._meter, frames.of)
                self._say("start", id)
                await pour(tale, socket.outbox, socket.outbox.put)
                self._say("end", id)


class _Frames:
    """Numbers the chunks of one request, over all that is told for it."""

    def __init__(self, id: str) -> None:
        self.head = b'{"type":"chunk","requestId":%b,"sequence":' % orjson.dumps(id)
        self.next = 0

    def of(self, chunks: Chunks) -> _Framed:
        return _Framed(self, chunks)


class _Framed:
    """A run as frames; a `pouring.Teller`."""

    def __init__(self, frames: _Frames, chunks: Chunks) -> None:
        self._frames = frames
        self._chunks = chunks

    @property
    def over(self) -> bool:
        return self._chunks.over

    def tell(self, records: Sequence[Record]) -> bytes:
        out = []
        for record in records:
            for chunk in self._chunks.add(record):
                out.append(text_frame(b'%b%d,"chunk":%b}' % (self._frames.head, self._frames.next, chunk)))
                self._frames.next += 1
        return b"".join(out)

    def failed(self, error: FabricError) -> bytes:
        return b""  # the request's own error follows
