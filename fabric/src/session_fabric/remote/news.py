"""Hearing what is told live: from the broker where it lets one, else passed on by a process of the relay."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from session_fabric.jetstream.live import Tapped, hear
from session_fabric.jetstream.receive import Connection, Tap
from session_fabric.remote.link import Link
from session_fabric.words.errors import FabricError, Unavailable
from session_fabric.words.logs import log
from session_fabric.words.names import new_id
from session_fabric.words.subjects import Place

# The relay forgets who has not said for ten seconds that it is there.
_KEEP_S: Final = 2.0


class Heard:
    """Something that is heard; `close` ends it."""

    def __init__(self, news: News, id: str, place: Place | None, subjects: Sequence[str], tapped: Tapped) -> None:
        self.id = id
        self.place = place
        self.subjects = list(subjects)
        self.at = ""
        self.refused = False
        self._news = news
        self._tapped = tapped

    async def close(self) -> None:
        await self._tapped.close()
        await self._news.leave(self)


class News:
    """`sessions`: those that the broker lets one hear by name; None: all of the tenant's.

    `gap` is called when something may have been missed, as a connection that was lost and found would tell.
    """

    def __init__(
        self,
        link: Link,
        connection: Connection,
        inbox: str,
        sessions: tuple[str, ...] | None,
        gap: Callable[[], None],
    ) -> None:
        self._link = link
        self._connection = connection
        self._inbox = inbox
        self._named = None if sessions is None else frozenset(sessions)
        self._gap = gap
        self._heard: dict[str, Heard] = {}
        self._keeping: asyncio.Task[None] | None = None

    async def close(self) -> None:
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.gather(self._keeping, return_exceptions=True)

    async def hear(self, place: Place | None, subjects: Sequence[str], arrived: Tap) -> Tapped | Heard:
        """Call `arrived` with what comes at these subjects, which are a session's; `place` None: all that one sees.

        Returns when it is so. Raises `Forbidden`, `RateLimited` (too many at once), `BrokerUnavailable`.
        """
        if self._named is None or (place is not None and place.session in self._named):
            return await hear(self._connection, subjects, arrived)
        id = new_id()
        to = f"{self._inbox}.news-{id}."
        skip = len(to)

        def unwrapped(subject: bytes, reply: bytes, head: bytes, payload: bytes) -> None:
            arrived(subject[skip:], reply, head, payload)

        tapped = Tapped(self._connection, await self._connection.tap_now(f"{to}>", unwrapped))
        heard = Heard(self, id, place, subjects, tapped)
        try:
            await self._ask(heard)
        except BaseException:
            await tapped.close()
            raise
        self._heard[id] = heard
        if self._keeping is None:
            self._keeping = asyncio.create_task(self._keep(), name="news")
        return heard

    async def _ask(self, heard: Heard) -> None:
        place = None if heard.place is None else list(heard.place)
        at, _ = await self._link.ask("news", {"id": heard.id, "place": place, "subjects": heard.subjects})
        heard.at = str(at)

    async def leave(self, heard: Heard) -> None:
        if self._heard.pop(heard.id, None) is not None and self._connection.is_connected:
            with suppress(FabricError):  # it is forgotten by itself then
                await self._link.ask("news_leave", {"id": heard.id}, at=heard.at, timeout_s=1.0)

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(_KEEP_S)
            missed = False
            for at in {heard.at for heard in self._heard.values()}:
                missed = await self._keep_at(at) or missed
            if missed:
                self._gap()

    async def _keep_at(self, at: str) -> bool:
        """Go on with what one process passes on; ask others for what it does not. Return whether there was a gap."""
        ours = [heard.id for heard in self._heard.values() if heard.at == at]
        try:
            lost, _ = await self._link.ask("news_keep", {"ids": ours}, at=at, timeout_s=2.0)
        except Unavailable:
            if not self._connection.is_connected:
                return False  # that is told of otherwise, and what is passed on may be there still
            lost = ours  # it is gone: another one takes it
        except FabricError:
            lost = ours  # one of them is refused: which, asking for each says
        missed = False
        for id in ours:
            heard = self._heard.get(id)
            if heard is None:
                continue
            if id not in lost:
                heard.refused = False
                continue
            try:
                await self._ask(heard)
                heard.refused = False
                missed = True
            except FabricError as error:
                # Asked for again: another token may grant it, another gateway may have come.
                if not heard.refused:
                    log.warning("news_not_heard", code=error.code)
                heard.refused = True
        return missed
