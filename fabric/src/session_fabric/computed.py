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
from session_fabric.rules.messages import Message
from session_fabric.rules.states import SEEN, State
from session_fabric.rules.tools import TYPES, ToolsInFlight
from session_fabric.rules.unread import Cursor
from session_fabric.words.errors import FabricError, OffsetForeign, SessionGone
from session_fabric.words.events import DELTA_KEYS
from session_fabric.words.positions import ZERO, Offset
from session_fabric.words.wire import Record

# What changes all the time is computed anew no more often than this.
EVERY_S: Final = 0.2
# Of a long session it takes longer (0.05 s for 10,000 messages): at most a tenth of the time.
_REST: Final = 10


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
            begun = time.monotonic()
            new = view.state()
            rest_s = max(EVERY_S, _REST * (time.monotonic() - begun))
            if new.body != state.body:
                state = new
                yield state
            await asyncio.sleep(rest_s)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _catch_up(parts: Parts, view: _View) -> Offset:
    head = await parts.history.head()
    async with aclosing(parts.history.read("start", upto=head)) as batches:
        async for records in batches:
            for record in records:
                view.add(record)
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
            if self._view.add(record):
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

    def add(self, record: Record) -> bool:
        """Fold an event; say whether the document may be another now."""
        raise NotImplementedError

    def body(self) -> dict[str, Any]:
        raise NotImplementedError


class _Tools(_View):
    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._tools = ToolsInFlight()

    def add(self, record: Record) -> bool:
        if record.type not in TYPES:
            return False
        self._tools.add(record.event())
        return True

    def body(self) -> dict[str, Any]:
        return self._tools.body()


class _Seen(_View):
    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._fold = Fold()
        self._messages: list[Message] | None = None
        self._cursors: dict[str, Cursor] = {}

    def add(self, record: Record) -> bool:
        event = record.event()
        self._fold.add(event)
        # Of a message that is being written the first piece makes it one that can be read.
        changes = event.type not in DELTA_KEYS or not event.at
        if changes:
            self._messages = None
        return changes

    def body(self) -> dict[str, Any]:
        if self._messages is None:
            self._messages = self._fold.messages()
        return unread.seen(self._cursors.values(), self._messages)

    def moved(self, parts: Parts, entry: Entry) -> None:
        cursor = seen.cursor_of(parts, entry)
        if cursor is None:
            self._cursors.pop(entry.key, None)
        else:
            self._cursors[entry.key] = cursor


def _view(name: str) -> _View:
    return _Seen(name) if name == SEEN else _Tools(name)
