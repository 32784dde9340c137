"""Requests between processes that live: core NATS, answered at once or known to have nobody."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from session_fabric.jetstream.live import Tapped
from session_fabric.jetstream.receive import Connection
from session_fabric.jetstream.requests import Nobody, Requests
from session_fabric.words.errors import NobodyAnswers
from session_fabric.words.logs import log
from session_fabric.words.subjects import ANSWERS, call_subject

MOST_AT_ONCE = 256
_ANSWERS = ANSWERS.encode()


class JetStreamCalls:
    """`requests` are answered where those may publish who have no other rights: never at an inbox of the broker's."""

    def __init__(self, connection: Connection, requests: Requests) -> None:
        self._connection = connection
        self._requests = requests

    async def serve(self, name: str, answer: Callable[[bytes], Awaitable[bytes]]) -> Served:
        served = Served(self._connection, name, answer)
        await served.open()
        return served

    async def ask(self, name: str, data: bytes, *, timeout_s: float) -> bytes:
        try:
            reply = await self._requests.one(call_subject(name), data, timeout_s=timeout_s)
        except Nobody as nobody:
            raise NobodyAnswers(f"Nobody answers to {name!r}.", hint="It has gone.", name=name) from nobody
        return reply.payload


class Served:
    """A name that is answered to; its answers under way end with it."""

    def __init__(self, connection: Connection, name: str, answer: Callable[[bytes], Awaitable[bytes]]) -> None:
        self._connection = connection
        self._name = name
        self._answer = answer
        self._tasks: set[asyncio.Task[None]] = set()
        self._tapped: Tapped | None = None

    async def open(self) -> None:
        number = await self._connection.tap_now(call_subject(self._name), self._asked)
        self._tapped = Tapped(self._connection, number)

    def _asked(self, _: bytes, reply: bytes, __: bytes, payload: bytes) -> None:
        # Elsewhere our answer, with our rights, would be what whoever asks may not say itself.
        if reply.startswith(_ANSWERS) and reply.isascii() and len(self._tasks) < MOST_AT_ONCE:
            task = asyncio.get_running_loop().create_task(self._reply(reply.decode(), payload), name=self._name)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _reply(self, reply: str, payload: bytes) -> None:
        try:
            await self._connection.publish(reply, await self._answer(payload))
        except Exception as error:
            log.warning("call_failed", name=self._name, error=type(error).__name__)

    async def close(self) -> None:
        if self._tapped is not None:  # away too: else the client would subscribe again with the next connection
            await self._tapped.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
