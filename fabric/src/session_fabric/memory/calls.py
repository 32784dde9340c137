"""Calls, as one connection makes and answers them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from session_fabric.memory.link import Link
from session_fabric.memory.server import Server
from session_fabric.words.errors import BrokerUnavailable, NobodyAnswers
from session_fabric.words.logs import log


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
        try:
            async with asyncio.timeout(timeout_s):
                return await living[0].answer(data)
        except Exception as error:
            log.warning("call_failed", name=name, error=type(error).__name__)
            raise BrokerUnavailable(f"{name!r} did not answer within {timeout_s:g} s.") from error


class Served:
    def __init__(self, server: Server, link: Link, name: str, answer: Callable[[bytes], Awaitable[bytes]]) -> None:
        self._server = server
        self.link = link
        self._name = name
        self.answer = answer

    async def close(self) -> None:
        there = self._server.calls.get(self._name, [])
        if self in there:
            there.remove(self)
