"""Signals, as one connection sees them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from session_fabric.memory.link import Link
from session_fabric.memory.server import Server
from session_fabric.ports import Listening
from session_fabric.words.subjects import Place


class MemorySignals:
    def __init__(self, server: Server, link: Link) -> None:
        self._server = server
        self._link = link

    async def send(self, place: Place, data: bytes) -> None:
        await asyncio.sleep(0)
        self._link.check()
        for interest in self._server.signals.at(place):
            interest.post(data)

    async def listen(self, place: Place, sink: Callable[[bytes], None]) -> Listening:
        await asyncio.sleep(0)
        self._link.check()
        return self._server.signals.add(place, self._link, sink)
