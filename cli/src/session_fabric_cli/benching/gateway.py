"""The way through a gateway, as a client goes it: protocol.md, section 4."""

from __future__ import annotations

import asyncio
import errno
import os
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
import orjson
from session_fabric.words import errors
from session_fabric.words.errors import Draining, FabricError, InvalidRequest, NobodyAnswers, Refused
from session_fabric.words.names import new_id

from session_fabric_cli.benching.driving import Heard

_SCHEMES: Final = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}
_PATH: Final = "/v1/ws"
_ERRORS: Final = {
    one.code: one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, FabricError)
}


class _Subscription:
    def __init__(self) -> None:
        self.events = 0
        self.live = asyncio.Event()


class Socket:
    """One connection to a gateway. `heard` is called with the id of each event that comes.

    Once it has ended, every call raises why, and so does `ended`.
    """

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, timeout_s: float) -> None:
        self._socket, self._timeout_s = socket, timeout_s
        self.heard: Heard = lambda _: None
        self._asked: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._number = 0
        self._subscriptions: defaultdict[int, _Subscription] = defaultdict(_Subscription)
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.welcome: dict[str, Any] = {}

    async def greet(self, token: str | None) -> None:
        hello = {"op": "hello", "device": new_id(), "client": "fabricctl"}
        await self._socket.send_str(_spelled(hello if token is None else hello | {"token": token}))
        async with _answering("hello", self._timeout_s):
            frame = await self._next()
        if frame["op"] != "welcome":
            raise _error(frame)
        self.welcome = frame

    async def run(self) -> None:
        """Read until the connection ends, and tell everybody who waits."""
        try:
            while True:
                self._take(await self._next())
        except FabricError as error:
            waiting: list[asyncio.Future[Any]] = [self.ended, *self._asked.values()]
            for future in waiting:
                if not future.done():
                    future.set_exception(error)

    async def ask(self, op: str, **fields: Any) -> dict[str, Any]:
        """Return the answer. Raises what the gateway answered, `NobodyAnswers`."""
        if self.ended.done():
            self.ended.result()
        self._number += 1
        number = self._number
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._asked[number] = answer
        try:
            async with _answering(op, self._timeout_s):
                await self._socket.send_str(_spelled({"op": op, "id": number, **fields}))
                return await answer
        finally:
            del self._asked[number]

    async def replay(self, session: str) -> int:
        """Read a session from its beginning until it is live; return how many events came."""
        opened = await self.ask("open", session=session, after="start")
        subscription = self._subscriptions[opened["sub"]]
        async with _answering("open", self._timeout_s):
            await subscription.live.wait()
        await self.ask("close", sub=opened["sub"])
        return subscription.events

    async def _next(self) -> dict[str, Any]:
        message = await self._socket.receive()
        if message.type is not aiohttp.WSMsgType.TEXT:
            why = f"{self._socket.close_code} {message.extra or ''}".strip()
            raise NobodyAnswers(f"The gateway has ended the connection: {why}.", hint="Its log says more.")
        return dict(orjson.loads(message.data))

    def _take(self, frame: dict[str, Any]) -> None:
        answer = self._asked.get(frame.get("id", 0))
        match frame["op"]:
            case "events":
                self._subscriptions[frame["sub"]].events += len(frame["events"])
                for event in frame["events"]:
                    self.heard(event["id"])
            case "live":
                self._subscriptions[frame["sub"]].live.set()
            case "gone":
                raise _error(frame)
            case "error" if answer is None:
                raise _error(frame)
            case "error" if answer is not None and not answer.done():
                answer.set_exception(_error(frame))
            case _ if answer is not None and not answer.done():
                answer.set_result(frame)


class Through:
    """Writes by one connection, listens by another, and reads again by a third."""

    through = "gateway"

    def __init__(self, writing: Socket, listening: Socket, reading: Socket) -> None:
        self._writing, self._listening, self._reading = writing, listening, reading

    async def append(self, session: str, id: str, body: Mapping[str, Any]) -> None:
        await self._writing.ask("append", session=session, event={"id": id, "body": body})

    async def listen(self, session: str, heard: Heard) -> None:
        self._listening.heard = heard
        await self._listening.ask("open", session=session, after="start")
        await asyncio.shield(self._listening.ended)

    async def read(self, session: str) -> int:
        return await self._reading.replay(session)


@asynccontextmanager
async def connected(url: str, token: str | None, timeout_s: float) -> AsyncIterator[tuple[Through, dict[str, Any]]]:
    """Connect three times; with what the gateway said in its `welcome`. Raises what it refuses, `NobodyAnswers`."""
    address = socket_url(url)
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(aiohttp.ClientSession())
        sockets = [await stack.enter_async_context(_socket(client, address, token, timeout_s)) for _ in range(3)]
        yield Through(*sockets), sockets[0].welcome


def socket_url(url: str) -> str:
    """Return where a gateway's socket is, of its address. Raises `InvalidRequest`."""
    parts = urlsplit(url)
    scheme = _SCHEMES.get(parts.scheme)
    if scheme is None or not parts.hostname:
        raise InvalidRequest(f"--gateway {url!r:.80} is no gateway's URL.", hint="Write https://host or wss://host.")
    path = parts.path.rstrip("/")
    return f"{scheme}://{parts.netloc}{path if path.endswith(_PATH) else path + _PATH}"


@asynccontextmanager
async def _socket(
    client: aiohttp.ClientSession, url: str, token: str | None, timeout_s: float
) -> AsyncIterator[Socket]:
    try:
        async with asyncio.timeout(timeout_s):
            raw = await client.ws_connect(url, protocols=["session-fabric.v1"], max_msg_size=0)
    except (aiohttp.ClientError, TimeoutError) as error:
        if isinstance(error, aiohttp.WSServerHandshakeError) and error.status == 503:
            raise Draining(
                f"The gateway at {url} takes nobody now: it is drained, or stops.",
                hint="`fabricctl gateway ls` shows which others there are.",
            ) from error
        raise NobodyAnswers(
            f"The gateway at {url} cannot be reached: {_why(error, timeout_s)}.",
            hint="Is --gateway right, and does it run? `fabricctl gateway ls` lists those that live.",
        ) from error
    async with raw:
        socket = Socket(raw, timeout_s)
        await socket.greet(token)
        reading = asyncio.create_task(socket.run())
        try:
            yield socket
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            if socket.ended.done():
                socket.ended.exception()  # told to whoever waited


@asynccontextmanager
async def _answering(what: str, timeout_s: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(timeout_s):
            yield
    except TimeoutError as late:
        raise NobodyAnswers(f"The gateway did not answer {what!r} within {timeout_s:g} s.") from late
    except ConnectionError as broken:
        raise NobodyAnswers("The gateway has ended the connection.", hint="Its log says why.") from broken


def _why(error: aiohttp.ClientError | TimeoutError, timeout_s: float) -> str:
    """Say in a few words why there is no connection: aiohttp's are for programmers."""
    match error:
        case TimeoutError():
            return f"no answer within {timeout_s:g} s"
        case aiohttp.ClientConnectorDNSError():
            return "its name is not known"
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientConnectorSSLError():
            return "its certificate is not trusted, or it speaks no TLS"
        case aiohttp.ClientConnectorError(os_error=OSError(errno=int(number))) if number in errno.errorcode:
            return os.strerror(number).lower()
        case aiohttp.WSServerHandshakeError():
            return f"it takes no WebSocket there, and answers {error.status}"
    return "the connection could not be made, or broke off"


def _spelled(frame: Mapping[str, Any]) -> str:
    return orjson.dumps(frame).decode()


def _error(frame: Mapping[str, Any]) -> FabricError:
    error = _ERRORS.get(str(frame.get("code")), Refused)
    return error(f"The gateway says: {frame.get('message')}", hint=str(frame.get("hint") or ""))
