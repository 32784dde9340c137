"""One reader of one session: from its offset through the log to the live line, and back when it is too slow."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextlib import aclosing
from typing import Any, Final

import structlog
from session_fabric import FabricError, Offset
from session_fabric.words.errors import Unavailable
from session_fabric.words.positions import After
from session_fabric.words.wire import Record

from session_fabric_gateway.codes import Defect
from session_fabric_gateway.encoding import Refs, encoded, pieces, seen
from session_fabric_gateway.endings import end
from session_fabric_gateway.feed import Feed, Line
from session_fabric_gateway.framing import op_frame, text_frame
from session_fabric_gateway.outbox import Outbox
from session_fabric_gateway.ring import Join, Read, Wait, next_step

log = structlog.get_logger()

# What the leader names is republished within milliseconds: after this it was lost on its way, and is looked for;
_IN_FLIGHT_S: Final = 0.1
# after this it is gone.
_PATIENCE_S: Final = 2.0
_RETRY_S: Final = 0.25
# What takes less than a turn is worth: who comes back from another gateway has missed a few events.
_FEW: Final = 16

Batches = AsyncGenerator[Sequence[Record], None]


class Reader:
    """Reads one session for one connection. `spawn` runs a coroutine under the connection's ownership."""

    __slots__ = (
        "_begun",
        "_events",
        "_first",
        "_on_ended",
        "_on_live",
        "_since",
        "_spawn",
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
        key: object = None,
    ) -> None:
        self.feed = feed
        self.line = line
        self.outbox = outbox
        self.key = self if key is None else key
        self.position: After = "start"
        self.live = False
        self._spawn = spawn
        self._on_ended = on_ended
        # Hears how many events came before it was live, and after how many seconds.
        self._on_live = on_live
        self._events = 0
        self._since = time.monotonic()
        self._task: asyncio.Task[None] | None = None
        self._begun: Batches | None = None
        self._first: Sequence[Record] = ()
        self._upto: Offset | None = None

    async def begin(self, after: After) -> Offset:
        """Find out whether the session can be read from here; return its head. `go` sends what there is.

        Who was here a moment ago costs the broker nothing: a gateway that goes sends thousands at once.

        Raises `OffsetForeign`, `OffsetGone`, `SessionGone`, `BrokerUnavailable`.
        """
        if isinstance(after, Offset) and self.feed.ring.covers(after):
            self.position = after
            return self.feed.ring.delivered
        head = await self.feed.session.head()
        after = await self.feed.session.within(after, head)
        if after == "tail":
            self.position = head
            return head
        self.position = after
        step = next_step(after, self.feed.ring)
        if isinstance(step, Read):
            # The first batch before the answer: an offset that cannot be read from is an error of the request.
            self._upto = step.upto
            self._begun = self.feed.session.read(after, upto=step.upto)
            try:
                self._first = await anext(self._begun, ())
            except BaseException:
                await self._forget_begun()
                raise
        return head

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
            self._task = self._spawn(self._come_live(first_time=True))

    def fall_behind(self) -> None:
        """Leave the live line: the connection takes no more. It is brought back from its position when it does."""
        if self.live:
            self.live = False
            self.line.boxes.pop(self.key, None)
            self.position = self.feed.ring.delivered
            self._task = self._spawn(self._come_live(first_time=False))

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
        refs = Refs(self.line.sub) if self.line.form == "compact" else None
        patient = True
        try:
            while True:
                await self.outbox.drained()
                step = next_step(self.position, self.feed.ring, patient=patient)
                match step:
                    case Read(upto):
                        await self._read(upto, refs)
                    case Wait():
                        patient = await self._wait_for_delivery()
                    case Join(records, rewind):
                        self._join(records, rewind, refs, first_time)
                        return
        except ConnectionError:
            return  # the connection's own loop finds out too, and cleans up
        except FabricError as error:
            self._gone(error)
        except Exception as error:
            log.exception("reader_failed", session=self.feed.session.name)
            self._gone(Defect(f"Reading failed: {type(error).__name__}."))

    async def _wait_for_delivery(self) -> bool:
        if await self.feed.progress(_IN_FLIGHT_S):
            return True
        if isinstance(self.position, Offset):
            self.feed.follower.expect(self.position)
        return await self.feed.progress(_PATIENCE_S)

    async def _read(self, upto: Offset, refs: Refs | None) -> None:
        """Send what the log holds up to here; as often as the broker goes away, go on from where it was."""
        batches, first = self._begun, self._first
        if batches is None or self._upto is None:
            batches, first = self.feed.session.read(self.position, upto=upto), ()
        else:
            upto, self._begun, self._first = self._upto, None, ()
        try:
            async with aclosing(batches):
                if first:
                    await self._send(first, refs)
                async for records in batches:
                    await self._send(records, refs)
        except Unavailable:
            await asyncio.sleep(_RETRY_S)
            return
        self.position = upto

    async def _send(self, records: Sequence[Record], refs: Refs | None) -> None:
        for piece in pieces(records):
            await self.outbox.drained()
            if len(piece) > _FEW:
                await self.outbox.sender.history.turn()
            data = encoded(self.line.sub, self.line.form, refs, seen(piece, self.line.sight))
            if data:
                self.outbox.put(data)
            self.position = piece[-1].offset
            self._events += len(piece)
            # The write happens at the end of the tick; only then is it known whether more may follow.
            await asyncio.sleep(0)

    def _join(self, records: Sequence[Record], rewind: Offset | None, refs: Refs | None, first_time: bool) -> None:
        """In one step without a pause: send what the ring holds, and stand in the live line behind it."""
        line, put = self.line, self.outbox.put
        if rewind is not None:
            put(line.said("rewind", to=str(rewind)))
        data = encoded(line.sub, line.form, refs, seen(records, line.sight))
        if data:
            put(data)
        if line.refs is not None:
            if not line.boxes:
                line.refs = Refs(line.sub)  # nobody has heard of what the old ones stood for
            for announcement in line.refs.announcements():
                put(text_frame(announcement))
        if first_time:
            self._on_live(self._events + len(records), time.monotonic() - self._since)
        if first_time and line.form != "sse":
            put(op_frame("live", sub=line.sub))
        if isinstance(self.position, Offset) and rewind is None:
            # Up to here it was read from the log, without holes.
            put(line.said("mark", offset=str(self.position)))
        self.live = True
        line.boxes[self.key] = self.outbox
