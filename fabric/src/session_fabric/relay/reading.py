"""What remote brokers read of logs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import aclosing
from typing import Final

from session_fabric.history import Read
from session_fabric.ports import Log, Stretch, Wanted
from session_fabric.relay.asked import Asked, answered, kinds_of, size_of
from session_fabric.relay.rights import Rights, Span
from session_fabric.rules.newest import maybe_cut
from session_fabric.spelling import read_place, read_stretch, read_wanted
from session_fabric.words.errors import Forbidden
from session_fabric.words.packing import MOST_BYTES, pack
from session_fabric.words.wire import Record

_MOST_RECORDS: Final = 500
_MOST_BACK: Final = 10_000


class Reading:
    """`on_read` hears who has read how much of the past."""

    def __init__(self, log: Log, on_read: Callable[[Rights, Read], None]) -> None:
        self._log = log
        self._on_read = on_read

    async def _read_of(self, asked: Asked) -> tuple[Stretch, Span]:
        to = read_stretch(asked.head.get("to"))
        return to, await asked.rights.read(to, asked.text("via"))

    async def _end_of(self, asked: Asked) -> Stretch:
        """Return a stretch whose end is the session's own: of a fork's past nobody is told what came after it."""
        to, span = await self._read_of(asked)
        if span.upto is not None:
            raise Forbidden(
                f"Of {to.place.session!r:.140} it has what was said until the fork.", hint="Read that, up to there."
            )
        return to

    async def on_home(self, asked: Asked) -> bytes:
        place = read_place(asked.head.get("place"))
        asked.rights.enter(place)
        return pack(list(await self._log.home(place)))

    async def on_head(self, asked: Asked) -> bytes:
        return pack(await self._log.head(await self._end_of(asked), kinds=kinds_of(asked)))

    async def on_end(self, asked: Asked) -> bytes:
        return pack(await self._log.end(await self._end_of(asked)))

    async def on_newest(self, asked: Asked) -> bytes:
        (wanted,) = read_wanted(asked.head.get("wanted"))
        record = await self._log.newest(await self._end_of(asked), wanted)
        return answered([] if record is None else [record], {})

    async def on_lasts(self, asked: Asked) -> bytes:
        to = await self._end_of(asked)
        after, upto = asked.number("after"), asked.number("upto")
        return pack(dict(await self._log.lasts(to, after, upto, kinds=kinds_of(asked))))

    async def on_read(self, asked: Asked) -> bytes:
        (to, span), wanted = await self._read_of(asked), read_wanted(asked.head.get("wanted"))
        after, upto = max(asked.number("after"), span.after), asked.number("upto")
        upto = upto if span.upto is None else min(upto, span.upto)
        page, more = await self._page(to, after, upto, wanted)
        self._on_read(asked.rights, Read.of(page))
        return answered(page, {"next": page[-1].sequence if more else None})

    async def _page(self, to: Stretch, after: int, upto: int, wanted: Sequence[Wanted]) -> tuple[list[Record], bool]:
        """Return what fits into an answer, and whether there is more."""
        page, size = list[Record](), 0
        async with aclosing(self._log.read(to, after=after, upto=upto, wanted=wanted)) as batches:
            async for records in batches:
                for record in records:
                    size += size_of(record)
                    if page and (size > MOST_BYTES or len(page) >= _MOST_RECORDS):
                        return page, True
                    page.append(record)
        return page, False

    async def on_read_back(self, asked: Asked) -> bytes:
        (to, span), wanted = await self._read_of(asked), read_wanted(asked.head.get("wanted"))
        before, limit = asked.number("before"), asked.number("limit", _MOST_BACK)
        before = before if span.upto is None else min(before, span.upto + 1)
        found = list[Record]()
        async with aclosing(
            self._log.read_back(
                to, before=before, limit=min(limit, _MOST_RECORDS), most_bytes=MOST_BYTES, wanted=wanted
            )
        ) as batches:
            async for records in batches:
                found += [record for record in records if record.sequence > span.after]
        page, size = list[Record](), 0
        for record in reversed(found):
            size += size_of(record)
            if page and size > MOST_BYTES:
                break
            page.append(record)
        self._on_read(asked.rights, Read.of(page))
        more = len(page) < len(found) or (len(page) < limit and maybe_cut(found, _MOST_RECORDS, MOST_BYTES))
        return answered(page[::-1], {"more": more})

    async def on_piece(self, asked: Asked) -> bytes:
        (to, span), sequence, at = await self._read_of(asked), asked.number("sequence"), asked.number("at")
        if sequence <= span.after or (span.upto is not None and sequence > span.upto):
            return pack({}, [b""])
        async with aclosing(self._log.read(to, after=sequence - 1, upto=sequence)) as batches:
            async for records in batches:
                for record in records:
                    piece = record.payload[at : at + MOST_BYTES]
                    self._on_read(asked.rights, Read(0, len(piece)))
                    return pack({}, [piece])
        return pack({}, [b""])

    async def on_runs(self, asked: Asked) -> bytes:
        return pack(dict(await self._log.runs_with_deltas(await self._end_of(asked))))
