"""Calls, as one connection makes and answers them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from session_fabric.memory.link import Link
from session_fabric.memory.server import Server
from session_fabric.words.errors import BrokerUnavailable, NobodyAnswers
from session_fabric.words.logs import log

MOST_AT_ONCE: Final = 256


class MemoryCalls:
    def __init__(self, server: Server, link: Link) -> None:
        self._server = server
        self._link = link

    async def serve(self, name: str, answer: Callable[[bytes], Awaitable[bytes]]) -> Served:
        await asyncio.sleep(0)
        self._link.check()
        served = Served(self._server, self._link, name, answer)
        self._server.calls.setdefault(name, []).append(served)
        return served

    async def ask(self, name: str, data: bytes, *, timeout_s: float) -> bytes:
        await asyncio.sleep(0)
        self._link.check()
        living = [served for served in self._server.calls.get(name, ()) if served.link.connected]
        if not living:
            raise NobodyAnswers(f"Nobody answers to {name!r}.", hint="It has gone.", name=name)
        reply: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        living[0].asked(data, reply)
        try:
            async with asyncio.timeout(timeout_s):
                answer = await reply
        except TimeoutError as error:
            raise BrokerUnavailable(f"{name!r} did not answer within {timeout_s:g} s.") from error
        self._link.check()
        return answer


class Served:
    """A name that is answered to; its answers under way end with it."""

    def __init__(self, server: Server, link: Link, name: str, answer: Callable[[bytes], Awaitable[bytes]]) -> None:
        self.link = link
        self._server = server
        self._name = name
        self._answer = answer
        self._tasks: set[asyncio.Task[None]] = set()

    def asked(self, data: bytes, reply: asyncio.Future[bytes]) -> None:
        if len(self._tasks) < MOST_AT_ONCE:
            task = asyncio.get_running_loop().create_task(self._reply(data, reply), name=self._name)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _reply(self, data: bytes, reply: asyncio.Future[bytes]) -> None:
        try:
            answer = await self._answer(data)
        except Exception as error:
            log.warning("call_failed", name=self._name, error=type(error).__name__)
            return
        if self.link.connected and not reply.done():
            reply.set_result(answer)

    async def close(self) -> None:
        there = self._server.calls.get(self._name, [])
        if self in there:
            there.remove(self)
        if not there:
            self._server.calls.pop(self._name, None)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
