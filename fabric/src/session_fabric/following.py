"""Following a session as an async iterator: bounded, at the reader's pace."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing

from session_fabric.parts import Parts
from session_fabric.rules.audience import is_whispered, sees_all
from session_fabric.words.errors import SessionGone, SessionNotFound, Unavailable
from session_fabric.words.events import Deltas, Event
from session_fabric.words.positions import ZERO, After, Offset
from session_fabric.words.wire import Record

# A follower that does not read is caught up from the log later instead of being buffered without bound.
MOST_QUEUED_EVENTS = 10_000


async def follow(parts: Parts, after: After, deltas: Deltas) -> AsyncGenerator[Event, None]:
    """Yield what is stored, then what happens; see `Session.follow`."""
    await parts.persist(parts.create)
    seen: set[Offset] = set()
    mark = ZERO
    whole = sees_all(parts.identity.role)
    while True:
        # What is stored is read as fast as the caller takes it; only what happens meanwhile is queued.
        while after != "tail":
            try:
                head = await parts.history.head()
                async with aclosing(parts.history.read(after, upto=head, deltas=deltas)) as batches:
                    async for records in batches:
                        for record in records:
                            if record.offset not in seen:
                                yield record.event()
                        after = mark = records[-1].offset
                # What the read left out stays left out; it is through up to the head.
                after = mark = max(head, mark)
                break
            except Unavailable:
                await parts.until_connected()
            except SessionNotFound as error:
                raise SessionGone("The session was deleted.", session=parts.place.session) from error
        seen = {offset for offset in seen if offset > mark}
        queue = _Queue()
        follower = parts.follower(queue, after=after, deltas=deltas)
        # No task group: one must not be left by a generator that is closed between two items.
        task = asyncio.create_task(follower.run(), name=f"follow {parts.place.session}")
        task.add_done_callback(queue.left)
        try:
            async for item in queue.items():
                if isinstance(item, Offset):
                    mark = max(mark, item)
                    seen = {offset for offset in seen if offset > mark}
                    after = mark
                    continue
                offset = item.offset
                if offset <= mark or offset in seen:
                    continue
                seen.add(offset)
                if whole or not is_whispered(item):
                    yield item.event()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        if queue.error is not None:
            raise queue.error
        # The queue was full: go on from the last mark; what was yielded already is in `seen`.


async def first(parts: Parts, after: Offset, wanted: Callable[[Event], bool]) -> Event:
    """Return the first event behind an offset that is wanted, now or later. Raises what following raises."""
    async with aclosing(follow(parts, after, "open")) as events:
        async for event in events:
            if wanted(event):
                return event
    raise SessionGone("The session was deleted.", session=parts.place.session)


class _Queue:
    """A sink between a follower and an async iterator; bounded: when it is full, it ends, to be made anew."""

    def __init__(self) -> None:
        self._items: deque[Record | Offset] = deque()
        self._event = asyncio.Event()
        self._full = False
        self.error: BaseException | None = None
        self._over = False

    async def items(self) -> AsyncGenerator[Record | Offset, None]:
        while True:
            while self._items:
                yield self._items.popleft()
            if self._over or self._full:
                return
            self._event.clear()
            await self._event.wait()

    def _put(self, items: Sequence[Record | Offset]) -> None:
        if self._full:
            return
        if len(self._items) >= MOST_QUEUED_EVENTS:
            self._full = True
        else:
            self._items.extend(items)
        self._event.set()

    def records(self, batch: Sequence[Record]) -> None:
        self._put(batch)

    def rewind(self, to: Offset) -> None:
        """What follows repeats: the iterator leaves out what it has yielded."""

    def mark(self, offset: Offset) -> None:
        self._put([offset])

    def live(self) -> None: ...
    def connected(self, connected: bool) -> None: ...

    def ended(self, error: BaseException) -> None:
        self.error = error
        self._over = True
        self._event.set()

    def left(self, task: asyncio.Task[None]) -> None:
        """Its follower has ended: by a defect, if it has not said why."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self.ended(error)
