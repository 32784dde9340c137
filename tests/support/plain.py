"""Clients without a socket: server-sent events and long polls, over every gateway that goes."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import aiohttp

_AGAIN_S = 0.2


class Plain:
    """Follows a session over HTTP; `offsets` are those it was given, in order, `doubled` those that came again."""

    def __init__(self, url: str, session: str, live: str) -> None:
        self.offsets: list[str] = []
        self.doubled: list[str] = []
        self.cut = 0
        self._url = f"{url}/v1/sessions/{session}/events"
        self._read: Callable[[aiohttp.ClientSession], Awaitable[None]] = self._stream if live == "sse" else self._poll

    async def run(self) -> None:
        """Follow until cancelled; whatever ends a request, the next one goes on from the last offset."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=30)
        async with aiohttp.ClientSession(timeout=timeout) as http:
            while True:
                try:
                    await self._read(http)
                except (aiohttp.ClientError, OSError, TimeoutError):
                    self.cut += 1
                await asyncio.sleep(random.uniform(0, _AGAIN_S))

    async def _stream(self, http: aiohttp.ClientSession) -> None:
        headers = {"Last-Event-ID": self.offsets[-1]} if self.offsets else {}
        async with http.get(self._url, params={"live": "sse"}, headers=headers) as response:
            response.raise_for_status()
            async for line in response.content:
                if line.startswith(b"id:"):
                    self._got(line[3:].strip().decode())

    async def _poll(self, http: aiohttp.ClientSession) -> None:
        after = self.offsets[-1] if self.offsets else "start"
        asked = {"live": "long-poll", "after": after, "timeout_ms": "2000", "limit": "1000"}
        async with http.get(self._url, params=asked) as response:
            response.raise_for_status()
            for event in (await response.json())["events"]:
                self._got(event["offset"])

    def _got(self, offset: str) -> None:
        if self.offsets and offset <= self.offsets[-1]:
            self.doubled.append(offset)
        else:
            self.offsets.append(offset)
