"""The documents that the fabric itself keeps: computed from the log and the cursors, never stored."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any, Final

from session_fabric import kept, seen
from session_fabric.parts import SERVICE, Parts
from session_fabric.ports import Entry
from session_fabric.records import SessionRecord
from session_fabric.rules import unread
from session_fabric.rules.fold import Fold
from session_fabric.rules.states import SEEN, State
from session_fabric.rules.tools import TYPES, ToolsInFlight
from session_fabric.rules.unread import Cursor
from session_fabric.words.errors import FabricError, OffsetForeign, SessionGone
from session_fabric.words.events import DELTA_KEYS, Event
from session_fabric.words.positions import ZERO, Offset
from session_fabric.words.wire import Record

# What changes all the time is computed anew no more often than this.
EVERY_S: Final = 0.2


async def get(parts: Parts, name: str) -> State:
    """Compute a document as of now. Raises `SessionNotFound`, `SessionGone`."""
    view = _view(name)
    await _catch_up(parts, view)
    return view.state()


async def watch(parts: Parts, name: str) -> AsyncGenerator[State, None]:
    """Yield a document, then each change that is seen when it is computed anew; see `Document.watch`."""
    record, _ = await parts.persist(parts.create)
    view = _view(name)
    head = await parts.persist(lambda: _catch_up(parts, view))
    # No task group: one must not be left by a generator that is closed between two items.
    tasks = [asyncio.create_task(parts.follower(_Sink(view), after=head).run(), name=f"{name} {parts.place.session}")]
    if isinstance(view, _Seen):
        tasks.append(asyncio.create_task(_follow_cursors(parts, record, view)))
    for task in tasks:
        task.add_done_callback(view.left)
    try:
        state = view.state()
        yield state
        while True:
            await view.changed.wait()
            view.changed.clear()
            if view.error is not None:
                raise view.error
            new = view.state()
            if new.body != state.body:
                state = new
                yield state
            await asyncio.sleep(EVERY_S)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _catch_up(parts: Parts, view: _View) -> Offset:
    head = await parts.history.head()
    async with aclosing(parts.history.read("start", upto=head)) as batches:
        async for records in batches:
            for record in records:
                view.add(record.event())
    if isinstance(view, _Seen):
        for entry in await seen.entries(parts):
            view.moved(parts, entry)
    view.upto = max(view.upto, head)
    return head


async def _follow_cursors(parts: Parts, record: SessionRecord, view: _Seen) -> None:
    changes = kept.changes(parts, record, seen.BUCKET, parts.place.key(), lambda: seen.entries(parts))
    async with aclosing(changes) as batches:
        async for entries in batches:
            for entry in entries:
                view.moved(parts, entry)
            view.changed.set()


class _Sink:
    """What a follower tells, folded at once: nothing is queued."""

    def __init__(self, view: _View) -> None:
        self._view = view

    def records(self, batch: Sequence[Record]) -> None:
        for record in batch:
            if self._view.add(record.event()):
                self._view.changed.set()

    def rewind(self, to: Offset) -> None:
        """What follows repeats, and changes nothing."""

    def mark(self, offset: Offset) -> None:
        self._view.upto = max(self._view.upto, offset)

    def live(self) -> None: ...
    def connected(self, connected: bool) -> None: ...

    def ended(self, error: FabricError) -> None:
        if isinstance(error, OffsetForeign):  # the head that it gave us is of an earlier life
            error = SessionGone("The session was deleted.")
        self._view.fail(error)


class _View:
    """A document in the making. Its `revision` is the sequence of the newest event that it accounts for."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.upto = ZERO
        self.changed = asyncio.Event()
        self.error: BaseException | None = None

    def fail(self, error: BaseException) -> None:
        self.error = self.error or error
        self.changed.set()

    def left(self, task: asyncio.Task[None]) -> None:
        """What feeds it has ended: by a defect, if it has not said why."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self.fail(error)

    def state(self) -> State:
        return State(self.name, self.upto.sequence, self.body(), SERVICE, time.time_ns() // 1_000_000)

    def add(self, event: Event) -> bool:
        """Fold an event; say whether the document may be another now."""
        raise NotImplementedError

    def body(self) -> dict[str, Any]:
        raise NotImplementedError


class _Tools(_View):
    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._tools = ToolsInFlight()

    def add(self, event: Event) -> bool:
        self._tools.add(event)
        return event.type in TYPES

    def body(self) -> dict[str, Any]:
        return self._tools.body()


class _Seen(_View):
    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._fold = Fold()
        self._cursors: dict[str, Cursor] = {}

    def add(self, event: Event) -> bool:
        self._fold.add(event)
        # Of a message that is being written the first piece makes it one that can be read.
        return event.type not in DELTA_KEYS or not event.at

    def body(self) -> dict[str, Any]:
        return unread.seen(self._cursors.values(), self._fold.messages())

    def moved(self, parts: Parts, entry: Entry) -> None:
        cursor = seen.cursor_of(parts, entry)
        if cursor is None:
            self._cursors.pop(entry.key, None)
        else:
            self._cursors[entry.key] = cursor


def _view(name: str) -> _View:
    return _Seen(name) if name == SEEN else _Tools(name)
