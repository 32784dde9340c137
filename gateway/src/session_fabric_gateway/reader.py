"""One reader of one session: from its offset through the log to the live line, and back when it is too slow."""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_right
from collections.abc import Callable, Coroutine, Sequence
from contextlib import aclosing
from typing import Any, Final, Literal

import structlog
from session_fabric import FabricError, Offset
from session_fabric.history import Read as FromLog
from session_fabric.words.errors import Unavailable
from session_fabric.words.positions import After
from session_fabric.words.wire import Record

from session_fabric_gateway.accounts import Meter
from session_fabric_gateway.bills import Bill
from session_fabric_gateway.codes import Defect
from session_fabric_gateway.encoding import Refs
from session_fabric_gateway.endings import end
from session_fabric_gateway.feed import Feed, Line
from session_fabric_gateway.framing import text_frame
from session_fabric_gateway.outbox import Outbox
from session_fabric_gateway.ring import Join, Read, Wait, next_step
from session_fabric_gateway.stored import FEW, Portion, Portions, Stored

log = structlog.get_logger()

# What the leader names is republished within milliseconds: after this it was lost on its way, and is looked for;
_IN_FLIGHT_S: Final = 0.1
# after this it is gone.
_PATIENCE_S: Final = 2.0
_RETRY_S: Final = 0.25


class Reader:
    """Reads one session for one connection. `spawn` runs a coroutine under the connection's ownership."""

    __slots__ = (
        "_back",
        "_begun",
        "_bill",
        "_events",
        "_first",
        "_on_ended",
        "_on_live",
        "_owed_s",
        "_since",
        "_spawn",
        "_stored",
        "_task",
        "_upto",
        "feed",
        "key",
        "line",
        "live",
        "outbox",
        "position",
    )

    def __init__(
        self,
        feed: Feed,
        line: Line,
        outbox: Outbox,
        spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
        on_ended: Callable[[Reader, FabricError], None],
        on_live: Callable[[int, float], None],
        meter: Meter,
        key: object = None,
    ) -> None:
        self.feed = feed
        self.line = line
        self.outbox = outbox
        self.key = object() if key is None else key  # not we, who would be the collector's then
        self.position: After = "start"
        self.live = False
        self._spawn = spawn
        self._on_ended = on_ended
        # Hears how many events came before it was live, and after how many seconds.
        self._on_live = on_live
        self._bill = Bill(meter)
        self._events = 0
        self._since = time.monotonic()
        self._task: asyncio.Task[None] | None = None
        self._stored = Stored(feed, line, outbox)
        self._begun: Portions | None = None
        self._first: Portion | None = None
        self._upto: Offset | None = None
        self._back: Offset | None = None
        self._owed_s = 0.0

    async def begin(self, after: After) -> Offset:
        """Find out whether the session can be read from here; return its head. `go` sends what there is.

        Who was here a moment ago costs the broker nothing: a gateway that goes sends thousands at once.

        Raises `OffsetForeign`, `OffsetGone`, `SessionGone`, `RateLimited`, `BrokerUnavailable`.
        """
        if isinstance(after, Offset) and self.feed.ring.covers(after):
            if len(self.feed.ring.after(after)) > FEW:
                self._bill.open()
            self.position = after
            return self.feed.ring.delivered
        if after == "start":  # which there always is: both may be asked for at once
            looked, head = await asyncio.gather(self._look(after), self.feed.session.head(), return_exceptions=True)
            for failed in (looked, head):
                if isinstance(failed, BaseException):
                    await self._forget_begun()
                    raise failed
            assert isinstance(head, Offset)
            return head
        head = await self.feed.session.head()
        after = await self.feed.session.within(after, head)
        if after == "tail":
            self.position = head
            return head
        await self._look(after)
        return head

    async def _look(self, after: Offset | Literal["start"]) -> None:
        """Read the first of what is behind an offset: one that cannot be read from is an error of the request."""
        self.position = after
        step = next_step(after, self.feed.ring)
        if not isinstance(step, Read):
            return
        self._bill.open()
        self._upto = step.upto
        self._begun = self._stored.read(after, step.upto)
        try:
            self._first = await anext(self._begun, None)
            self._owed_s = 0.0 if self._first is None else self._bill.owe(self._first.read)
        except BaseException as error:
            if isinstance(error, FabricError):  # who leaves in the middle has paid for what he has begun
                self._bill.settle()
            await self._forget_begun()
            raise

    @property
    def reads_log(self) -> bool:
        """What is behind its position is in the log alone."""
        return self._begun is not None

    def go(self) -> None:
        """Send what is behind the position, then everything that happens."""
        self.feed.when_gone(self, self._gone)
        if self.feed.error is not None:
            self._gone(self.feed.error)
        else:
            self._begin_task(first_time=True)

    def fall_behind(self) -> None:
        """Leave the live line: the connection takes no more. It is brought back from its position when it does."""
        if self.live:
            self.live = False
            self.line.boxes.pop(self.key, None)
            self.position = self.feed.ring.delivered
            self.feed.when_rewound(self, self._rewound)
            self._stored = Stored(self.feed, self.line, self.outbox)
            self._begin_task(first_time=False)

    def _begin_task(self, *, first_time: bool) -> None:
        self._task = self._spawn(self._come_live(first_time=first_time))
        self._task.add_done_callback(self._forget_task)

    def _forget_task(self, task: asyncio.Task[None]) -> None:
        """Let go of a task that is over: what it was cancelled with holds the frames that hold us."""
        if self._task is task:
            self._task = None

    async def stop(self) -> None:
        """End it without a word."""
        self.leave()
        if self._task is not None:
            await end([self._task])
        await self._forget_begun()

    def leave(self) -> None:
        """Get nothing more, at once; what is under way is cancelled, and over with `stop` or the connection."""
        self.live = False
        self.line.boxes.pop(self.key, None)
        self.feed.when_gone(self, None)
        self.feed.when_rewound(self, None)
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()

    def _gone(self, error: FabricError) -> None:
        self.leave()
        self._on_ended(self, error)

    async def _forget_begun(self) -> None:
        if self._begun is not None:
            begun, self._begun = self._begun, None
            await begun.aclose()

    # --- coming to be live --------------------------------------------------------------------------

    async def _come_live(self, *, first_time: bool) -> None:
        patient = True
        try:
            while True:
                await self.outbox.drained()
                self._go_back()
                step = next_step(self.position, self.feed.ring, patient=patient)
                match step:
                    case Read(upto):
                        await self._read(upto)
                    case Wait():
                        patient = await self._wait_for_delivery()
                    case Join(records, rewind):
                        self._join(records, rewind, first_time)
                        return
        except ConnectionError:
            return  # the connection's own loop finds out too, and cleans up
        except FabricError as error:
            self._gone(error)
        except Exception as error:
            log.exception("reader_failed", session=self.feed.session.name)
            self._gone(Defect(f"Reading failed: {type(error).__name__}."))

    def _rewound(self, to: Offset) -> None:
        """Hear, while behind, that what it had as a live reader had a hole."""
        if isinstance(self.position, Offset) and to < self.position:
            self._back = to if self._back is None else min(self._back, to)

    def _go_back(self) -> None:
        if self._back is not None:
            self.outbox.put(self.line.said("rewind", to=str(self._back)))
            self.position, self._back = self._back, None

    async def _wait_for_delivery(self) -> bool:
        if await self.feed.progress(_IN_FLIGHT_S):
            return True
        if isinstance(self.position, Offset):
            self.feed.follower.expect(self.position)
        return await self.feed.progress(_PATIENCE_S)

    async def _read(self, upto: Offset) -> None:
        """Send what the log holds up to here; as often as the broker goes away, go on from where it was."""
        portions, first = self._begun, self._first
        if portions is None or self._upto is None:
            portions, first = self._stored.read(self.position, upto), None
        else:
            upto, self._begun, self._first = self._upto, None, None
        try:
            async with aclosing(portions):
                if first is not None:
                    await self._send(first, self._owed_s)
                async for portion in portions:
                    await self._send(portion, self._bill.owe(portion.read))
        except Unavailable:
            await asyncio.sleep(_RETRY_S)

    async def _send(self, portion: Portion, pause_s: float) -> None:
        if portion.data:
            self.outbox.put(portion.data)
        self.position = portion.position
        self._events += portion.read.events
        # The write happens at the end of the tick; only then is it known whether more may follow.
        await asyncio.sleep(pause_s)

    def _join(self, records: Sequence[Record], rewind: Offset | None, first_time: bool) -> None:
        """In one step without a pause: send what the ring holds, and stand in the live line behind it."""
        line, put = self.line, self.outbox.put
        if rewind is not None:
            put(line.said("rewind", to=str(rewind)))
        sure = self._sure(first_time) if rewind is None else None
        whole = 0 if sure is None else bisect_right(records, sure, key=lambda record: record.offset)
        self._put(records[:whole])
        if sure is not None and whole < len(records):
            # What the live path has brought since then may have holes: who leaves now comes back from here.
            put(line.said("mark", offset=str(sure)))
        self._put(records[whole:])
        if line.refs is not None:
            if not line.boxes:
                line.refs = Refs(line.sub)  # nobody has heard of what the old ones stood for
            for announcement in line.refs.announcements():
                put(text_frame(announcement))
        if first_time:
            self._bill.owe(FromLog.of(records))
            self._on_live(self._events + len(records), time.monotonic() - self._since)
            put(line.said("live"))
        if sure is not None:
            put(line.said("mark", offset=str(sure)))
        if away := self.feed.away(line):
            put(away)
        self.feed.when_rewound(self, None)
        self.live = True
        line.boxes[self.key] = self.outbox

    def _put(self, records: Sequence[Record]) -> None:
        if data := self._stored.spelled(records):
            self.outbox.put(data)

    def _sure(self, first_time: bool) -> Offset | None:
        """Return up to where it has had, or gets now, all there is: it was read from the log, or the feed has found it
        whole. What it had as a live reader before is only the latter."""
        marked = self.feed.marked
        if not first_time or not isinstance(self.position, Offset):
            return marked
        return self.position if marked is None else max(marked, self.position)
