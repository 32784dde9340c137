"""Reading a session: what is stored of it, what follows, and what can be made out of both."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Literal, get_args

from session_fabric import following
from session_fabric.follow import Follower, FollowSink
from session_fabric.history import Count, Messages, Page, StoredPage
from session_fabric.inspection import Findings, inspect
from session_fabric.parts import Parts
from session_fabric.ports import Wanted
from session_fabric.rules import segments
from session_fabric.rules.messages import Run as RunSeen
from session_fabric.words.arguments import check_after, check_choice, check_offset
from session_fabric.words.events import Deltas, Event
from session_fabric.words.names import check_id
from session_fabric.words.positions import After, Offset
from session_fabric.words.subjects import Place
from session_fabric.words.wire import Record


class Past:
    """A facet of `Session`."""

    place: Place
    _parts: Parts

    async def head(self) -> Offset:
        """Return the newest event's offset."""
        return await self._parts.history.head()

    async def newest_of_run(self, run: str) -> Event | None:
        """Return the newest of what claims a run and ends it: RUN_STARTED while it is under way; None: no such run."""
        record = await self._parts.directory.load(self.place)
        found = await self._parts.broker.log.newest(record.stretch, Wanted("own", check_id(run, "run")))
        return None if found is None else found.event()

    async def check(self, offset: Offset) -> None:
        """Raise `OffsetForeign` for an offset of another session, or of an earlier life of this one."""
        record = await self._parts.directory.load(self.place)
        segments.check(record.segments, offset, record.floor_offset)

    async def within(self, after: After, head: Offset) -> After:
        """Check an offset against the session's end; `head` when the events behind it have expired."""
        return await self._parts.history.within(after, head)

    def counted_by(self, count: Count) -> None:
        """Have `count` hear of each batch that is read through this object, and say how long the next one waits."""
        self._parts.history.count = count

    def read(
        self, after: After = "start", *, upto: Offset | None = None, deltas: Deltas = "open"
    ) -> AsyncGenerator[Sequence[Record], None]:
        """Read what is stored, in batches of records; see `follow` for events and for what happens next."""
        return self._parts.history.read(after, upto=upto, deltas=deltas)

    async def read_back(self, before: Offset | Literal["tail"], limit: int) -> StoredPage:
        """Read a page of records backwards; see `history` for events."""
        return await self._parts.history.back(before, limit)

    async def check_kept(self, after: Offset | Literal["start"], first: Offset | None) -> None:
        """Return if nothing behind an offset was removed while it was read; `first`: the first event of it.

        For whoever does not go on with `read` to its end, which finds out itself. Raises `OffsetGone`, `SessionGone`.
        """
        await self._parts.history.check_kept(after, first)

    async def history(self, *, before: Offset | Literal["tail"] = "tail", limit: int = 100) -> Page:
        """Return a page of events, oldest first; `page.previous` is the next `before`."""
        records, previous = await self.read_back(check_after(before, "tail", what="before"), limit)  # type: ignore[arg-type]
        return Page([record.event() for record in records], previous)

    async def messages(
        self, *, before: Offset | None = None, limit: int = 100, branch: Literal["all", "visible"] = "all"
    ) -> Messages:
        """Return messages, oldest first: completed ones, and the text so far of open runs.

        `branch="visible"`: of edits and answers made anew those alone that are shown.
        """
        check_choice(branch, "branch", ("all", "visible"))
        if before is not None:
            check_offset(before, "before")
        await self._parts.create()
        return await self._parts.history.messages(before, limit, visible=branch == "visible")

    def follower(self, sink: FollowSink, *, after: After = "tail", deltas: Deltas = "all") -> Follower:
        """Return a follower that calls `sink`; the gateway's way, without a queue between, and with all that users
        do not see."""
        return self._parts.follower(sink, after=after, deltas=deltas)

    async def follow(self, after: After = "start", *, deltas: Deltas = "open") -> AsyncGenerator[Event, None]:
        """Yield every event behind an offset, then each that happens, for ever; survives a lost broker.

        In the session's order; an event that the live path lost is found within about a second and yielded then,
        behind later ones of other writers. `deltas="open"`: those of finished answers are left out, since what
        completes them follows. A caller that reads slowly is caught up from the log. Raises `OffsetGone`,
        `OffsetForeign`, `SessionGone`. Close it (`aclosing`) to end.
        """
        check_after(after, "start", "tail")
        check_choice(deltas, "deltas", get_args(Deltas))
        async with aclosing(following.follow(self._parts, after, deltas)) as events:
            async for event in events:
                yield event

    async def runs(self) -> list[RunSeen]:
        """Return the session's runs as they are now, oldest first: who makes them, and how they stand or ended."""
        return await self._parts.history.runs()

    async def inspect(self, *, limit: int = 2000) -> Findings:
        """Find out what can be found of the session, by whoever looks after it: the newest `limit` (1-100,000) of its
        milestones, who is there and whose processes live, how far its workers and readers have come. No delta is read.

        Raises `SessionNotFound`, `SessionGone`, `InvalidRequest`, `BrokerUnavailable`.
        """
        return await inspect(self._parts, limit)
