"""A client for tests: speaks the socket's frames as docs/protocol.md says, and folds them back to events."""

from __future__ import annotations

import asyncio
import json
import socket as sockets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from aiohttp import WSMsgType

SUBPROTOCOL = "session-fabric.v1"
Frame = dict[str, Any]

DELTA_KEYS = {
    "TEXT_MESSAGE_CONTENT": "messageId",
    "REASONING_MESSAGE_CONTENT": "messageId",
    "TOOL_CALL_ARGS": "toolCallId",
}


class Closed(Exception):
    def __init__(self, code: int | None) -> None:
        super().__init__(f"closed with {code}")
        self.code = code


class Expander:
    """Puts back what frames leave out; a second implementation of it, beside the TypeScript client's."""

    def __init__(self) -> None:
        self.refs: dict[tuple[int, int], Frame] = {}

    def events(self, frame: Any) -> list[Frame]:
        if isinstance(frame, list):
            return self._deltas(frame)
        if frame["op"] == "ref":
            self.refs[frame["sub"], frame["ref"]] = dict(frame)
            return []
        if frame["op"] != "events":
            return []
        out: list[Frame] = []
        last: Frame = {}
        for event in frame["events"]:
            last = {key: event.get(key, last.get(key)) for key in ("type", "actor", "run", "ts")}
            out.append({**event, **last})
        return out

    def _deltas(self, frame: list[Any]) -> list[Frame]:
        out = []
        for at in range(1, len(frame), 3):
            ref = self.refs[frame[0], frame[at]]
            text = frame[at + 2]
            body = {"type": ref["type"], DELTA_KEYS[ref["type"]]: ref["message"], "delta": text}
            event = {key: ref[key] for key in ("type", "actor", "run", "at")}
            out.append({**event, "offset": f"{ref['segment']}_{frame[at + 1]:016d}", "body": body})
            ref["at"] += len(text.encode("utf-16-le")) // 2
        return out


def close_code(socket: aiohttp.ClientWebSocketResponse, last: aiohttp.WSMessage) -> int | None:
    """Return the code with which the gateway closed; aiohttp's own is 1006 where its answer to that came too late."""
    return last.data if last.type is WSMsgType.CLOSE else socket.close_code


def transport_of(answer: aiohttp.ClientResponse) -> asyncio.Transport:
    """Return what carries an answer, or a socket's frames: for what no client does by itself."""
    assert answer.connection is not None
    transport = answer.connection.transport
    assert transport is not None
    return transport


def stop_reading(answer: aiohttp.ClientResponse) -> asyncio.Transport:
    """Let the kernel's buffers fill: nothing is taken any more, until `resume_reading` of what is returned."""
    transport = transport_of(answer)
    transport.get_extra_info("socket").setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, 65536)
    transport.pause_reading()
    return transport


class Client:
    """One socket. `frames` holds everything that has come and was not asked for."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self.frames: list[Any] = []
        self.events: list[Frame] = []
        self._expander = Expander()
        self._ids = 0

    @property
    def transport(self) -> asyncio.Transport:
        return transport_of(self.socket._response)

    def stop_reading(self) -> asyncio.Transport:
        return stop_reading(self.socket._response)

    def vanish(self) -> None:
        """Be gone without a word."""
        self.transport.abort()

    async def next(self, timeout_s: float = 10.0) -> Any:
        """Return the next frame. Raises `Closed`."""
        message = await self.socket.receive(timeout=timeout_s)
        if message.type is WSMsgType.TEXT:
            frame = json.loads(message.data)
            self.events += self._expander.events(frame)
            return frame
        raise Closed(close_code(self.socket, message))

    async def until(self, condition: Callable[[Any], bool], timeout_s: float = 10.0) -> Any:
        """Return the next frame for which the condition holds; keep the others."""
        async with asyncio.timeout(timeout_s):
            while True:
                frame = await self.next(timeout_s)
                if condition(frame):
                    return frame
                self.frames.append(frame)

    async def op(self, op: str, timeout_s: float = 10.0) -> Frame:
        for at, frame in enumerate(self.frames):
            if isinstance(frame, dict) and frame["op"] == op:
                return self.frames.pop(at)  # type: ignore[no-any-return]
        return await self.until(lambda f: isinstance(f, dict) and f["op"] == op, timeout_s)  # type: ignore[no-any-return]

    async def until_events(self, condition: Callable[[list[Frame]], bool], timeout_s: float = 10.0) -> list[Frame]:
        """Wait until the events so far satisfy a condition."""
        async with asyncio.timeout(timeout_s):
            while not condition(self.events):
                self.frames.append(await self.next(timeout_s))
        return self.events

    async def closed(self, timeout_s: float = 15.0) -> int:
        """Return the code with which the gateway closes."""
        async with asyncio.timeout(timeout_s):
            while True:
                try:
                    self.frames.append(await self.next(timeout_s))
                except Closed as closed:
                    return closed.code or 1006

    async def send(self, **frame: Any) -> None:
        await self.socket.send_str(json.dumps(frame))

    async def ask(self, op: str, **fields: Any) -> Frame:
        """Send a request; return its answer, an error too."""
        self._ids += 1
        number = self._ids
        await self.send(op=op, id=number, **fields)
        return await self.until(lambda f: isinstance(f, dict) and f.get("id") == number)  # type: ignore[no-any-return]

    async def hello(self, token: str | None = None, **more: Any) -> Frame:
        await self.send(op="hello", **({} if token is None else {"token": token}), **more)
        return await self.op("welcome")

    async def open(self, session: str, **more: Any) -> Frame:
        """Open a session; return `opened`."""
        answer = await self.ask("open", session=session, **more)
        assert answer["op"] == "opened", answer
        return answer

    async def append(self, session: str, body: Frame, **more: Any) -> Frame:
        return await self.ask("append", session=session, event={"body": body, **more})


@asynccontextmanager
async def connect(url: str, *, protocols: tuple[str, ...] = (SUBPROTOCOL,), **more: Any) -> AsyncIterator[Client]:
    """Open a socket without a word."""
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{url}/v1/ws", protocols=protocols, max_msg_size=0, **more) as socket,
    ):
        yield Client(socket)


@asynccontextmanager
async def greeted(url: str, token: str | None = None, **hello: Any) -> AsyncIterator[Client]:
    """Open a socket and say hello."""
    async with connect(url) as client:
        await client.hello(token, **hello)
        yield client


def user_message(text: str, id: str = "m1") -> Frame:
    return {"type": "message.user", "message": {"id": id, "role": "user", "content": text}}
