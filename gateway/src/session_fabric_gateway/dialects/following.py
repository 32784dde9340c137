"""A session from an offset on, as one iteration: what is stored, then what happens, from the gateway's own feed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Final

from session_fabric import Offset
from session_fabric.history import Read as FromLog
from session_fabric.rules.audience import for_users, sees_all
from session_fabric.words.errors import OffsetGone, Unavailable
from session_fabric.words.events import RUN_OVER, RUN_SUSPENDED
from session_fabric.words.positions import After
from session_fabric.words.wire import Record

from session_fabric_gateway.accounts import Meter
from session_fabric_gateway.bills import Bill
from session_fabric_gateway.encoding import pieces
from session_fabric_gateway.feed import Feed
from session_fabric_gateway.ring import Join, Read, Wait, next_step
from session_fabric_gateway.rota import Rota

_LAST: Final = RUN_OVER | {RUN_SUSPENDED}
_IN_FLIGHT_S: Final = 0.1
_PATIENCE_S: Final = 2.0
_RETRY_S: Final = 0.25
_LOOK_S: Final = 60.0


class Following:
    """Reads one session for one answer, as fast as it is iterated; nothing is queued.

    What is read from the log is put down to `meter`, and slowed down when that is too much. In the session's order and
    without holes, but that after a rewind of the feed events come again: fold them by offset (`Telling` does). Users
    are not given what is whispered. A batch without events says that all that is stored was given.
    """

    def __init__(self, feed: Feed, after: After, role: str, rota: Rota, meter: Meter) -> None:
        self.feed = feed
        self._bill = Bill(meter)
        self._position = after
        self._everything = sees_all(role)
        self._rota = rota
        self._begun: AsyncGenerator[Sequence[Record], None] | None = None
        self._first: Sequence[Record] = ()
        self._upto: Offset | None = None
        self._live = False

    async def begin(self) -> None:
        """Find out whether the session can be read from there; `batches` or `close` must follow.

        Raises `OffsetForeign`, `OffsetGone`, `SessionGone`, `BrokerUnavailable`, `RateLimited`.
        """
        self._bill.open()
        feed, after = self.feed, self._position
        if isinstance(after, Offset) and feed.ring.covers(after):
            return
        head = await feed.session.head()
        after = self._position = await feed.session.within(after, head)
        if after == "tail":
            self._position = head
            return
        step = next_step(after, feed.ring)
        if isinstance(step, Read):
            self._upto = step.upto
            self._begun = feed.session.read(after, upto=step.upto)
            try:
                self._first = await anext(self._begun, ())
            except BaseException:
                await self.close()
                raise

    async def close(self) -> None:
        """Let go of what `begin` has begun to read."""
        self._bill.settle()
        if self._begun is not None:
            begun, self._begun = self._begun, None
            await begun.aclose()

    async def batches(self) -> AsyncGenerator[Sequence[Record], None]:
        """Yield what comes, for ever. Raises what the session ends with. Use it with `aclosing`."""
        feed, patient = self.feed, True
        feed.when_rewound(self, self._rewound)
        try:
            while True:
                if feed.error is not None:
                    raise feed.error
                step = next_step(self._position, feed.ring, patient=patient)
                match step:
                    case Read(upto):
                        self._live = False
                        async with aclosing(self._read(upto)) as batches:
                            async for records in batches:
                                yield records
                    case Wait():
                        patient = await self._wait_for_delivery()
                    case Join(records, rewind):
                        patient = True
                        if rewind is not None:
                            self._position = rewind
                            continue
                        caught_up, self._live = not self._live, True
                        self._position = feed.ring.delivered
                        if records:
                            if missed := await self._missed(records):
                                yield self._seen(missed)
                            yield self._seen(records)
                        if caught_up:
                            yield ()
                        elif not records:
                            await feed.progress(_LOOK_S)
        finally:
            feed.when_rewound(self, None)
            await self.close()

    async def _missed(self, records: Sequence[Record]) -> Sequence[Record]:
        """Return what is stored before the end of a run, where one is among these, or where it waits for an answer:
        behind that nobody listens, and what the live path has lost of other subjects is not found yet."""
        last = next((one for one in reversed(records) if one.type in _LAST and one.parts.kind == "own"), None)
        while last is not None:
            try:
                upto = Offset(last.segment, last.sequence - 1)
                return await self.feed.since_mark(upto)
            except OffsetGone:
                return ()
            except Unavailable:
                await asyncio.sleep(_RETRY_S)
        return ()

    def _seen(self, records: Sequence[Record]) -> Sequence[Record]:
        return records if self._everything else for_users(records)

    def _rewound(self, to: Offset) -> None:
        if self._live and isinstance(self._position, Offset):
            self._position = min(self._position, to)

    async def _wait_for_delivery(self) -> bool:
        if await self.feed.progress(_IN_FLIGHT_S):
            return True
        if isinstance(self._position, Offset):
            self.feed.follower.expect(self._position)
        return await self.feed.progress(_PATIENCE_S)

    async def _read(self, upto: Offset) -> AsyncGenerator[Sequence[Record], None]:
        """Yield what the log holds up to here; as often as the broker goes away, go on from where it was."""
        batches, first = self._begun, self._first
        if batches is None or self._upto is None:
            batches, first = self.feed.session.read(self._position, upto=upto), ()
        else:
            upto, self._begun, self._first = self._upto, None, ()
        try:
            async with aclosing(batches):
                for piece in pieces(first):
                    await self._pay(piece)
                    yield self._seen(piece)
                async for records in batches:
                    for piece in pieces(records):
                        await self._pay(piece)
                        yield self._seen(piece)
        except Unavailable:
            await asyncio.sleep(_RETRY_S)
            return
        self._position = upto

    async def _pay(self, piece: Sequence[Record]) -> None:
        """Have a turn, and wait where more is read than may be."""
        await self._rota.turn()
        self._position = piece[-1].offset
        if pause_s := self._bill.owe(FromLog.of(piece)):
            await asyncio.sleep(pause_s)
