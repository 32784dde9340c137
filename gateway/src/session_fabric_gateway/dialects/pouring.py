"""What a dialect tells of a session, as server-sent events: bounded, looked after, cut when it may not go on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import NamedTuple, Protocol

from aiohttp import web
from session_fabric import FabricError, Session
from session_fabric.words.wire import Record

from session_fabric_gateway.dialects.following import Following
from session_fabric_gateway.durable.answering import HEADERS, SessionAnswer
from session_fabric_gateway.gateway import Gateway
from session_fabric_gateway.outbox import Outbox


class Teller(Protocol):
    """Spells events in a dialect. Pure; it gets what `Following` yields, repeats after rewinds included."""

    @property
    def over(self) -> bool:
        """Nothing more is to be told."""

    def tell(self, records: Sequence[Record]) -> bytes:
        """Return what goes out for these events, whole frames of the transport; often nothing."""

    def failed(self, error: FabricError) -> bytes:
        """Return what tells that the session cannot be read on; nothing more goes out behind it."""


class Tale(NamedTuple):
    """What is read, and who tells it. `then` returns what is told behind it, in the same answer; None: nothing."""

    following: Following
    teller: Teller
    then: Callable[[], Awaitable[Tale | None]] | None = None


async def pour(tale: Tale, outbox: Outbox, put: Callable[[bytes], None]) -> None:
    """Put what is told until it is over; who does not read is waited for.

    Raises what the session ends with, told already, and `ConnectionError`.
    """
    one: Tale | None = tale
    while one is not None:
        following, teller = one.following, one.teller
        try:
            async with aclosing(following.batches()) as batches:
                async for records in batches:
                    data = teller.tell(records)
                    if data:
                        put(data)
                    if teller.over:
                        break
                    # The write happens at the end of the tick; only then is it known whether more may follow.
                    await asyncio.sleep(0)
                    await outbox.drained()
            one = None if one.then is None else await one.then()
        except FabricError as error:
            put(teller.failed(error))
            raise
        finally:
            await following.close()


async def stream(
    gateway: Gateway, request: web.Request, session: Session, tale: Tale, headers: Mapping[str, str]
) -> web.StreamResponse:
    """Answer with a tale, whose `Following` has begun. A connection that is ended before the tale is cut."""
    response = web.StreamResponse(headers={**HEADERS, **headers})
    one = _Stream(gateway, request, session)
    try:
        await one.serve(response, lambda: one.run(tale))
        if not one.whole:
            one.outbox.abort()  # an end would be taken for the end of what is told
    finally:
        await tale.following.close()
    return response


class _Stream(SessionAnswer):
    """One answer; `whole`: all was told."""

    def __init__(self, gateway: Gateway, request: web.Request, session: Session) -> None:
        super().__init__(gateway, request, session)
        self.whole = False

    async def run(self, tale: Tale) -> None:
        try:
            await pour(tale, self.outbox, self._put)
            self.whole = True
        except FabricError:
            self.whole = True  # and told
        except ConnectionError:
            pass  # the client has left
        finally:
            self._finish()

    def _put(self, data: bytes) -> None:
        self.outbox.put(data)
        self._spoken = time.monotonic()
