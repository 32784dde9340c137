"""A page at the gateway as an event loop sees it: it notes when it is told what."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, NamedTuple, Self

import aiohttp

Frame = Mapping[str, Any]
_PROTOCOL = "session-fabric.v1"
_ANSWER_S = 30.0


class Told(NamedTuple):
    """An event, and when it was read."""

    at: float
    event: Frame


class Browser:
    """One WebSocket. Times are `time.perf_counter()` of when a frame was read from it."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, device: str) -> None:
        self.device = device
        self._socket = socket
        self._answers: dict[int, asyncio.Future[Frame]] = {}
        self._sessions: dict[int, str] = {}
        self._waiting: dict[str, list[tuple[Callable[[Frame], bool], asyncio.Future[Told]]]] = {}
        self._id = 0

    @property
    def closed(self) -> bool:
        return self._socket.closed

    async def ask(self, op: str, **fields: Any) -> Frame:
        """Send a request; return its answer. Raises `RuntimeError` where it is refused."""
        self._id += 1
        answer: asyncio.Future[Frame] = asyncio.get_running_loop().create_future()
        self._answers[self._id] = answer
        await self._socket.send_str(json.dumps({"op": op, "id": self._id, **fields}))
        async with asyncio.timeout(_ANSWER_S):
            frame = await answer
        if frame["op"] == "error":
            raise RuntimeError(f"{op} was refused: {frame['code']}: {frame['message']}")
        return frame

    async def open(self, session: str, **more: Any) -> int:
        """Follow a session from its tail on; return the number of what is open."""
        return int((await self.ask("open", session=session, after="tail", **more))["sub"])

    async def close(self, session: str, sub: int) -> None:
        """Follow it no more."""
        await self.ask("close", sub=sub)
        self.forget(session)

    def forget(self, session: str) -> None:
        """Wait for nothing of a session any more: it is gone."""
        self._waiting.pop(session, None)
        self._sessions = {sub: name for sub, name in self._sessions.items() if name != session}

    async def leave(self) -> None:
        """Close the socket."""
        await self._socket.close()

    def told(self, session: str, what: Callable[[Frame], bool]) -> asyncio.Future[Told]:
        """Wait, from now on, for the next event for which `what` holds, or what is told of an agent (type `agent`)."""
        heard: asyncio.Future[Told] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(session, []).append((what, heard))
        return heard

    async def read(self) -> None:
        """Take what comes until the socket ends."""
        async for message in self._socket:
            if message.type is aiohttp.WSMsgType.TEXT:
                self._take(json.loads(message.data), time.perf_counter())

    def _take(self, frame: Frame, at: float) -> None:
        if frame["op"] == "events":
            self._events(frame["sub"], frame["events"], at)
        elif frame["op"] == "agent":
            self._events(frame["sub"], [{**frame, "type": "agent"}], at)
        elif (answer := self._answers.pop(frame.get("id") or 0, None)) is not None and not answer.done():
            if frame["op"] == "opened":
                self._sessions[frame["sub"]] = frame["session"]["session"]
            answer.set_result(frame)

    def _events(self, sub: int, events: Sequence[Frame], at: float) -> None:
        session = self._sessions.get(sub, "")
        waiting = self._waiting.get(session)
        if not waiting:
            return
        same: dict[str, Any] = {}  # what is left out is as in the event before
        for event in events:
            same = {key: event.get(key, same.get(key)) for key in ("type", "actor", "run", "ts")}
            for entry in list(waiting):
                what, heard = entry
                whole = {**event, **same}
                if what(whole):
                    waiting.remove(entry)
                    if not heard.done():
                        heard.set_result(Told(at, whole))


class Browsers:
    """`async with Browsers() as browsers:` owns what `browsers.start` opens."""

    def __init__(self) -> None:
        self._stack = AsyncExitStack()

    async def start(self, url: str, participant: str, device: str) -> Browser:
        """Open a socket at a gateway and say hello."""
        return await self._stack.enter_async_context(_browser(self._http, url, participant, device))

    async def several(self, url: str, count: int) -> list[Browser]:
        return [await self.start(url, f"user:u{number}", f"d{number}") for number in range(count)]

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(limit=0)
        self._http = await self._stack.enter_async_context(aiohttp.ClientSession(connector=connector))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()


@asynccontextmanager
async def _browser(http: aiohttp.ClientSession, url: str, participant: str, device: str) -> AsyncIterator[Browser]:
    patience = aiohttp.ClientWSTimeout(ws_close=0.5)
    async with http.ws_connect(f"{url}/v1/ws", protocols=(_PROTOCOL,), max_msg_size=0, timeout=patience) as socket:
        await socket.send_str(json.dumps({"op": "hello", "token": participant, "device": device, "client": "bench/1"}))
        welcome = json.loads((await socket.receive(_ANSWER_S)).data)
        if welcome["op"] != "welcome":
            raise RuntimeError(f"the gateway does not welcome {participant}: {welcome}")
        browser = Browser(socket, device)
        reading = asyncio.create_task(browser.read())
        try:
            yield browser
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
