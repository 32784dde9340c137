"""What a bucket keeps of a session, as it is and as it changes, without a gap when the broker goes and comes back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Final

from session_fabric.parts import Parts
from session_fabric.ports import Entry, Listening
from session_fabric.records import SessionRecord, gone, is_gone
from session_fabric.words.errors import FabricError

# A reader that is behind by more than this is told the newest of each key alone.
MOST_WAITING: Final = 256


async def changes(
    parts: Parts, record: SessionRecord, bucket: str, prefix: str, read: Callable[[], Awaitable[list[Entry]]]
) -> AsyncGenerator[list[Entry], None]:
    """Yield what `read` returns, then what changes at or under a key prefix, in order, for ever.

    The first list is whole, and may be empty; later ones hold changes, `value` None for what is gone. After a lost
    broker it reads again and yields what has moved. Who reads too slowly misses versions in between, never the newest
    one. Raises `SessionGone` when the session of this record is. Close it (`aclosing`) to end.
    """
    heard = _Heard()
    unhook = parts.broker.on_connection(lambda connected: heard.connection(connected or parts.broker.closed))
    unwatch = parts.directory.watch(parts.place, heard.record)
    listening: Listening | None = None
    known: dict[str, int] = {}
    first = True
    try:
        listening = await parts.persist(lambda: parts.broker.bucket(bucket).watch(prefix, heard.entry))
        while True:
            heard.whole = True
            found = await parts.persist(lambda: _read(parts, record, read))
            moved = [entry for entry in found if known.get(entry.key) != entry.revision]
            there = {entry.key for entry in found}
            moved += [Entry(key, None, 0) for key in known if key not in there]
            known = {entry.key: entry.revision for entry in found}
            if first or moved:
                yield moved
            first = False
            while heard.whole:
                later = [entry for entry in await heard.next() if entry.revision > known.get(entry.key, 0)]
                for entry in later:
                    known[entry.key] = entry.revision
                    if entry.value is None:
                        del known[entry.key]
                if later:
                    yield later
    finally:
        unwatch()
        unhook()
        if listening is not None:
            await listening.close()


async def _read(parts: Parts, record: SessionRecord, read: Callable[[], Awaitable[list[Entry]]]) -> list[Entry]:
    # Behind its answer the broker tells those who listen of every change: what is read then leaves no gap.
    await parts.broker.ping()
    await lives_on(parts, record)
    return await read()


class _Heard:
    """What has come since the reader last looked; bounded."""

    def __init__(self) -> None:
        self.whole = True
        self._waiting: list[Entry] = []
        self._error: FabricError | None = None
        self._wake = asyncio.Event()

    def entry(self, entry: Entry) -> None:
        self._waiting.append(entry)
        if len(self._waiting) > MOST_WAITING:
            self._waiting = list({waiting.key: waiting for waiting in self._waiting}.values())
        self._wake.set()

    def record(self, record: SessionRecord | None) -> None:
        self._error = self._error or is_gone(record)
        self._wake.set()

    def connection(self, again: bool) -> None:
        """`again`: it is to be read anew."""
        if again:
            self.whole = False
            self._wake.set()

    async def next(self) -> list[Entry]:
        """Wait for changes and return them; nothing when the connection was lost. Raises `SessionGone`."""
        while self.whole and not self._waiting and self._error is None:
            self._wake.clear()
            await self._wake.wait()
        if self._error is not None:
            raise self._error
        waiting, self._waiting = self._waiting, []
        return waiting


async def lives_on(parts: Parts, record: SessionRecord) -> None:
    """Raise `SessionGone` unless the leader still has the session, in the life of this record.

    Asked behind a write it says that a deletion which had not begun then will find what was written.
    """
    found = await parts.directory.find(parts.place, fresh=True)
    if found is None or found[0].state == "deleted" or found[0].created != record.created:
        raise gone(record)
