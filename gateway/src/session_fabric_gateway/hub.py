"""The feeds of this gateway: made for the first reader, kept a little beyond the last."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from contextvars import Context
from typing import Final

import structlog
from session_fabric import Fabric
from session_fabric.words.errors import BrokerUnavailable
from session_fabric.words.subjects import Place
from session_fabric.words.wire import Record

from session_fabric_gateway.codes import Defect
from session_fabric_gateway.endings import end
from session_fabric_gateway.feed import Feed
from session_fabric_gateway.replays import Shelf

log = structlog.get_logger()

# A page that is loaded again, or a storm of them, finds the feed still there.
LINGER_S: Final = 5.0
MOST_LINGERING: Final = 1000
_READY_WITHIN_S: Final = 10.0


class Hub:
    """All feeds of the process; owns their tasks."""

    def __init__(self, fabric: Fabric, on_delivered: Callable[[Record], None]) -> None:
        self._fabric = fabric
        self._on_delivered = on_delivered
        self._shelf = Shelf()
        self._feeds: dict[Place, tuple[Feed, asyncio.Task[None]]] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self.delivered_events = 0

    def __len__(self) -> int:
        return len(self._feeds)

    async def acquire(self, place: Place) -> Feed:
        """Return a session's feed, live; `release` it when it is read no more.

        Raises `SessionNotFound`, `SessionGone`, `BrokerUnavailable` when it is not live within ten seconds.
        """
        found = self._feeds.get(place)
        if found is None or found[0].error is not None:
            found = self._begin(place)
        feed = found[0]
        feed.readers += 1
        feed.idle_since = None
        try:
            await self._ready(feed)
        except BaseException:
            self.release(feed)
            raise
        return feed

    def release(self, feed: Feed) -> None:
        feed.readers -= 1
        if feed.readers == 0:
            feed.idle_since = asyncio.get_running_loop().time()

    @asynccontextmanager
    async def reading(self, place: Place) -> AsyncIterator[Feed]:
        """Have a session's feed for as long as the block lasts; see `acquire`."""
        feed = await self.acquire(place)
        try:
            yield feed
        finally:
            self.release(feed)

    def _begin(self, place: Place) -> tuple[Feed, asyncio.Task[None]]:
        # Reading needs no name; what is written goes through the participant's own view.
        fabric = self._fabric.view(tenant=place.tenant, participant="service:gateway", gateway=True)
        feed = Feed(fabric.session(place.session), self._shelf, self._ended, self._on_delivered)
        task = asyncio.get_running_loop().create_task(
            self._follow(feed), name=f"feed {place.session}", context=Context()
        )
        self._feeds[place] = (feed, task)
        return feed, task

    async def _follow(self, feed: Feed) -> None:
        listening = []
        unwatch = feed.session.on_record(feed.record_changed)
        try:
            listening.append(await feed.session.on_said(feed.heard))
            listening.append(await feed.session.on_absence(feed.agent))
            await feed.follower.run()
        except Exception as error:
            # Its readers would wait for ever: end the feed, so that they reconnect.
            log.exception("feed_failed", session=feed.session.name)
            feed.ended(Defect(f"The feed failed: {type(error).__name__}."))
        finally:
            unwatch()
            feed.replay.forget()
            for each in listening:
                await each.close()

    async def _ready(self, feed: Feed) -> None:
        try:
            async with asyncio.timeout(_READY_WITHIN_S):
                await feed.follower.ready()
        except TimeoutError:
            raise BrokerUnavailable(
                f"The session could not be followed within {_READY_WITHIN_S:g} s.", hint="Try again."
            ) from None
        if feed.error is not None:
            raise feed.error

    def _ended(self, feed: Feed) -> None:
        found = self._feeds.get(feed.session.place)
        if found is not None and found[0] is feed:
            self._end(feed.session.place, cancel=False)

    def _end(self, place: Place, *, cancel: bool) -> None:
        feed, task = self._feeds.pop(place)
        self.delivered_events += feed.delivered_events
        if cancel:
            task.cancel()
        if not task.done():
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)

    def sweep(self, now: float) -> None:
        """End the feeds that nobody has read for a while; when many linger, those that have longest."""
        idle = [(feed.idle_since, place) for place, (feed, _) in self._feeds.items() if feed.idle_since is not None]
        idle.sort()
        excess = len(idle) - MOST_LINGERING
        for at, (since, place) in enumerate(idle):
            if at < excess or now - since >= LINGER_S:
                self._end(place, cancel=True)

    def events_delivered(self) -> int:
        return self.delivered_events + sum(feed.delivered_events for feed, _ in self._feeds.values())

    async def close(self) -> None:
        for place in list(self._feeds):
            self._end(place, cancel=True)
        await end(list(self._ending))
