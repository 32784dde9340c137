"""A stream's end as one process follows it: each entry once, in order, without a hole, for all who wait here."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from contextvars import Context
from typing import Final, Protocol

from session_fabric.ports import Listening, Stretch
from session_fabric.rules.appends import Standing
from session_fabric.streams import entries
from session_fabric.streams.ledger import Page
from session_fabric.streams.streams import Streams
from session_fabric.words.errors import BrokerUnavailable, FabricError, StreamGone, StreamNotFound, Unavailable
from session_fabric.words.logs import log
from session_fabric.words.positions import Offset
from session_fabric.words.subjects import Place
from session_fabric.words.wire import Record

# The leader is asked whether the last entry was heard: about so long after something was, then ever more seldom.
_BUSY_S: Final = 1.0
_IDLE_S: Final = 10.0
_READY_S: Final = 10.0
LINGER_S: Final = 5.0
# Entries that arrive before what came before them has been read.
_MOST_AHEAD: Final = 10_000


class Heir(Protocol):
    """Who is told of what comes. Called on the event loop; must neither block nor raise."""

    def entry(self, offset: Offset, payload: bytes, standing: Standing) -> None: ...
    def closed(self, standing: Standing) -> None: ...
    def over(self, error: FabricError) -> None: ...


class Tail:
    """Follows one stream. `page` is how it stands as far as it was heard."""

    def __init__(self, streams: Streams, place: Place) -> None:
        self._streams = streams
        self.place = place
        self.page: Page | None = None
        self.error: FabricError | None = None
        self.heirs: dict[object, Heir] = {}
        # What one heir has made of the entry that is handed on, for others who need the same.
        self.shared: dict[object, bytes] = {}
        self.users = 0
        self.handed = 0
        self.idle_since: float | None = None
        self._ready = asyncio.Event()
        self._moved = asyncio.Event()
        self._wake = asyncio.Event()
        self._ahead: list[Record] = []
        self._whole = False  # nothing is missing between what was read and what is heard
        self._heard = False

    async def ready(self) -> Page:
        """Wait until it follows. Raises what has ended it, and `BrokerUnavailable`."""
        try:
            async with asyncio.timeout(_READY_S):
                await self._ready.wait()
        except TimeoutError:
            raise BrokerUnavailable(
                f"The stream could not be followed within {_READY_S:g} s.", hint="Try again."
            ) from None
        if self.error is not None or self.page is None:
            raise self.error or BrokerUnavailable("The stream is not followed.")
        return self.page

    async def moved(self, timeout_s: float) -> bool:
        """Wait until there is anything new; False when there was nothing in this time."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._moved.wait()
        except TimeoutError:
            return False
        return True

    # --- its life ------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Follow until cancelled, or until the stream is gone; survives every loss of the broker."""
        broker, directory = self._streams.broker, self._streams.directory
        unhook = broker.on_connection(lambda _: self._again())
        unwatch = directory.watch(self.place, lambda _: self._again())
        listening: Listening | None = None
        stretch: Stretch | None = None
        pause_s = _BUSY_S
        try:
            while self.error is None:
                try:
                    if listening is None:
                        stretch = (await directory.stream(self.place)).stretch
                        listening = await broker.log.listen(stretch, self._arrived, kinds=(entries.KIND,))
                    if not self._whole:
                        await self._fill()
                    if self.page is not None and self.page.record.stretch != stretch:
                        await listening.close()  # appends go on in another segment
                        listening, self._whole = None, False
                        continue
                    self._wake.clear()
                    if self._whole and not await self._woken(pause_s * random.uniform(0.7, 1.3)):
                        await self._check()
                        pause_s = _BUSY_S if self._heard else min(pause_s * 2, _IDLE_S)
                        self._heard = False
                except Unavailable:
                    self._whole = False
                    await asyncio.sleep(0.2)
        except (StreamNotFound, StreamGone) as error:
            self._end(error)
        except FabricError as error:
            self._end(error)
        finally:
            unhook()
            unwatch()
            if listening is not None:
                with suppress(FabricError):
                    await listening.close()

    def _end(self, error: FabricError) -> None:
        self.error = error
        self._ready.set()
        for heir in list(self.heirs.values()):
            heir.over(error)
        self._tell()

    async def _woken(self, timeout_s: float) -> bool:
        try:
            async with asyncio.timeout(timeout_s):
                await self._wake.wait()
        except TimeoutError:
            return False
        return True

    def _again(self) -> None:
        self._whole = False
        self._wake.set()

    async def _check(self) -> None:
        """Ask the leader: a lost last entry leaves no gap behind it."""
        page = await self._streams.look(self.place)
        if (
            self.page is None
            or page.standing.guard != self.page.standing.guard
            or page.record.life != self.page.record.life
        ):
            self._whole = False

    async def _fill(self) -> None:
        """Read what is stored behind what was heard last, hand it on, then go on with what is heard."""
        page = await self._streams.look(self.place)
        before = self.page
        if before is not None and page.record.life != before.record.life:
            self._end(StreamNotFound("The stream was deleted.", hint=""))
            return
        if before is not None:
            after = before.standing.tail
            while True:
                chunk = await self._streams.read(page, after)
                for entry in chunk.entries:
                    self._hand(entry.offset, entry.payload, page.standing)
                if chunk.end:
                    break
                after = chunk.next
        was_closed = before is not None and before.standing.closed
        self.page = Page(page.record, page.standing)
        if page.standing.closed and not was_closed:
            self._closed(page.standing)
        self._whole = True
        ahead, self._ahead = self._ahead, []
        for record in ahead:
            self._arrived(record)
        self._ready.set()
        self._tell()

    def _arrived(self, record: Record) -> None:
        page = self.page
        if not self._whole or page is None:
            if len(self._ahead) < _MOST_AHEAD:
                self._ahead.append(record)
            else:
                self._ahead.clear()
            return
        standing = page.standing
        if record.segment == page.record.stretch.segment and record.sequence <= standing.guard:
            return
        if entries.after_of(record) != standing.guard or record.blob is not None or record.sealed:
            self._again()  # something is missing, or has to be fetched: a stored read brings it
            return
        self._heard = True
        if entries.is_deleted(record):
            self._again()
            return
        newest = entries.newest_of(record, record.segment, here=True)
        page.standing = newest.standing
        if entries.is_data(record):
            self._hand(record.offset, record.payload, page.standing)
        if page.standing.closed and not standing.closed:
            self._closed(page.standing)
        self._tell()

    def _hand(self, offset: Offset, payload: bytes, standing: Standing) -> None:
        self.shared.clear()
        self.handed += len(self.heirs)
        for heir in list(self.heirs.values()):
            heir.entry(offset, payload, standing)

    def _closed(self, standing: Standing) -> None:
        for heir in list(self.heirs.values()):
            heir.closed(standing)

    def _tell(self) -> None:
        self._moved.set()
        self._moved.clear()


class Tails:
    """The tails of a process: made for the first who waits, kept a little beyond the last."""

    def __init__(self, streams: Streams) -> None:
        self._streams = streams
        self._tails: dict[Place, tuple[Tail, asyncio.Task[None]]] = {}
        self._handed_before = 0

    def __len__(self) -> int:
        return len(self._tails)

    @property
    def handed(self) -> int:
        """How many entries were handed to who follows live, each counted."""
        return self._handed_before + sum(tail.handed for tail, _ in self._tails.values())

    @asynccontextmanager
    async def following(self, place: Place) -> AsyncIterator[Tail]:
        """Have a stream's tail, ready, for as long as the block lasts. Raises what `Tail.ready` does."""
        found = self._tails.get(place)
        if found is None or found[0].error is not None or found[1].done():
            self._handed_before += 0 if found is None else found[0].handed
            tail = Tail(self._streams, place)
            task = asyncio.get_running_loop().create_task(
                self._run(tail), name=f"tail {place.session}", context=Context()
            )
            found = self._tails[place] = (tail, task)
        tail = found[0]
        tail.users += 1
        tail.idle_since = None
        try:
            await tail.ready()
            yield tail
        finally:
            tail.users -= 1
            if not tail.users:
                tail.idle_since = asyncio.get_running_loop().time()

    async def _run(self, tail: Tail) -> None:
        try:
            await tail.run()
        except Exception as error:
            log.exception("tail_failed", path=tail.place.session)
            tail._end(BrokerUnavailable(f"The stream cannot be followed: {type(error).__name__}."))

    def sweep(self, now: float) -> None:
        """End the tails that nobody has used for a while."""
        for place, (tail, task) in list(self._tails.items()):
            if tail.idle_since is not None and now - tail.idle_since >= LINGER_S:
                del self._tails[place]
                self._handed_before += tail.handed
                task.cancel()

    async def close(self) -> None:
        tasks = [task for _, task in self._tails.values()]
        self._tails.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
