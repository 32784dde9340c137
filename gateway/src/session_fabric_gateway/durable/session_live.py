"""A session or a run as server-sent events of a durable stream: what is stored, then what comes."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from aiohttp import web
from session_fabric import FabricError, Offset, Session

from session_fabric_gateway.durable import spelling
from session_fabric_gateway.durable.answering import HEADERS, LIFE_S, SessionAnswer
from session_fabric_gateway.feed import Feed
from session_fabric_gateway.gateway import Gateway


class Found(NamedTuple):
    """What a read has found. `end`: nothing is behind `next` for now; `closed`: nor will be."""

    events: list[bytes]
    next: Offset
    end: bool
    closed: bool


# from an offset on
Read = Callable[[Offset], Awaitable[Found]]


async def stream(
    gateway: Gateway,
    request: web.Request,
    session: Session,
    feed: Feed,
    read: Read,
    found: Found,
    said: str | None,
) -> web.StreamResponse:
    """Answer with what was found and what `read` finds behind it, until that ends, or about a minute has passed."""
    response = web.StreamResponse(headers=HEADERS)
    one = _Stream(gateway, request, session, feed, read, said)
    await one.serve(response, lambda: one.run(found))
    return response


class _Stream(SessionAnswer):
    """One answer."""

    def __init__(
        self, gateway: Gateway, request: web.Request, session: Session, feed: Feed, read: Read, said: str | None
    ) -> None:
        super().__init__(gateway, request, session)
        self._feed = feed
        self._read = read
        self._said = said

    async def run(self, found: Found) -> None:
        """Send what was found, then what comes, as fast as it is read."""
        try:
            async with asyncio.timeout(LIFE_S * random.uniform(0.9, 1.1)):
                self._send(found)
                while not found.closed:
                    await self.outbox.drained()
                    if found.end:
                        await self._moved(found.next)
                    found = await self._read(found.next)
                    if found.events or found.closed:
                        self._send(found)
        except TimeoutError:
            pass
        except FabricError:
            pass  # the session is gone: a client that comes back is told so
        except ConnectionError:
            pass  # the client has left
        finally:
            self._finish()

    async def _moved(self, position: Offset) -> None:
        """Wait for something behind a position. Raises what the session has ended with."""
        while self._feed.ring.delivered <= position:
            if self._feed.error is not None:
                raise self._feed.error
            await self._feed.progress(LIFE_S)

    def _send(self, found: Found) -> None:
        cursor = spelling.cursor(time.time(), self._said)
        control = spelling.control_event(found.next, end=found.end, closed=found.closed, cursor=cursor)
        self.outbox.put(spelling.data_event("json", found.events) + control)
        self._spoken = time.monotonic()
