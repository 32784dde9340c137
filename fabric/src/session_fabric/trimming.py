"""Removing the beginning of a session: first its record says up to where, then what is there is removed.

In this order a reader can always find out: whoever read on while it was removed sees the floor afterwards and is told
(`OffsetGone`). What is cut off between the two (a process that dies) is in the record too (`owed`), and is removed by
whoever comes next. What a fork needs of its source's past stays, readable through the fork alone, until that has gone
or has cut it off for itself; a legal hold keeps everything.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final, NamedTuple

from session_fabric.counting import NOT_COUNTED, Metrics
from session_fabric.ports import Broker, Stretch, Wanted
from session_fabric.records import Directory, SessionRecord, stretch_of
from session_fabric.rules.cuts import GRACE_MS, Cutting, Seen, Weight
from session_fabric.rules.retention import Retention
from session_fabric.rules.segments import Segment
from session_fabric.tenants import Tenants
from session_fabric.words.errors import SessionNotFound
from session_fabric.words.events import RUN_OVER
from session_fabric.words.logs import log
from session_fabric.words.measures import PURGED
from session_fabric.words.positions import Offset
from session_fabric.words.subjects import Kind, Place, parse_stored

_LASTING: Final = (Wanted("ev"), Wanted("in"), Wanted("own"))
_KINDS: Final[tuple[Kind, ...]] = ("ev", "in", "tok")
# Of one session at a time; it is looked at again at once then.
MOST_CUT: Final = 50_000
_FLOORS: Final = "floor/"


class Weighed(NamedTuple):
    """What a session weighs between two offsets."""

    after: Offset
    upto: Offset
    weight: Weight


class Looked(NamedTuple):
    """What a look at a session has found: its oldest event that is left, as far as that was read; whether more than
    was cut off now has to go; what it weighs, where that has a limit."""

    floor: Offset
    oldest_ms: int | None = None
    more: bool = False
    weighed: Weighed | None = None


@dataclass(frozen=True, slots=True)
class Trimming:
    """Trims sessions. `broker` may be the one below the seals: nothing of what was said is looked at."""

    broker: Broker
    directory: Directory
    grace_ms: int = GRACE_MS
    metrics: Metrics = NOT_COUNTED

    async def trim(
        self, record: SessionRecord, limits: Retention, now_ms: int, before: Weighed | None = None
    ) -> Looked:
        """Remove what the limits say must go, as far as it may. Raises `BrokerUnavailable`: again, nothing is lost."""
        floor = record.floor_offset
        if not limits.trims or record.holds:
            return Looked(floor)
        to = record.stretch
        head = Offset(to.segment, await self.broker.log.head(to))
        weighed = await self._weighed(record, head, before) if limits.sizes else None
        whole = Weight() if weighed is None else weighed.weight
        cutting = Cutting(limits, whole, record.policy.answer_within_s * 1000, now_ms, self.grace_ms)
        oldest: Seen | None = None
        async with aclosing(self._events(record, floor, head)) as events:
            async for seen in events:
                if seen.at.segment != to.segment:
                    cutting.past()
                if cutting.taken.events >= MOST_CUT or not cutting.take(seen):
                    oldest = seen
                    break
        under_way = {run for run in cutting.unended if await self._goes_on(to, run)}
        cut = cutting.cut(under_way)
        if cut is not None:
            await self._cut_off(record, cut.at)
            if weighed is not None:
                weighed = Weighed(cut.at, weighed.upto, weighed.weight - cut.weight)
        more = cut is not None and cutting.taken.events >= MOST_CUT
        return Looked(floor if cut is None else cut.at, None if oldest is None else oldest.ts, more, weighed)

    async def _cut_off(self, seen: SessionRecord, cut: Offset) -> None:
        if (await Tenants(self.broker).rules(seen.tenant)).holds:
            return

        def raised(record: SessionRecord) -> SessionRecord:
            if (
                record.segments != seen.segments
                or record.state == "deleted"
                or record.holds
                or cut <= record.floor_offset
            ):
                return record
            return record.model_copy(update={"floor": tuple(cut), "owed": True})

        record = await self.directory.change(seen.place, raised)
        if record.owed:
            log.info("floor_raised", session=record.session, floor=str(record.floor_offset))
            await self.pay(record.place)
            # What this one has let go of its sources' past may be nobody's any more.
            for place in {Place(s.tenant, s.session) for s in record.segments} - {record.place}:
                await self.pay(place)

    async def pay(self, place: Place) -> bool:
        """Remove what a session's record says is to be removed; False when some of it has to stay for now."""
        found = await self.directory.find(place, fresh=True)
        if found is None or not found[0].owed:
            return True
        record = found[0]
        if record.holds or (await Tenants(self.broker).rules(record.tenant)).holds:
            return False
        whole = True
        for segment in record.segments:
            if Place(segment.tenant, segment.session) != place:
                continue
            wanted = _end_below(record, segment)
            upto = min([wanted, *[await self._needed_by(record, fork, segment) for fork in record.forks]])
            whole = whole and upto == wanted
            if upto > segment.after:
                await self._remove(stretch_of(segment), segment.after, upto)
        if whole:
            await self._paid(record)
        return whole

    async def _paid(self, paid: SessionRecord) -> None:
        def settled(record: SessionRecord) -> SessionRecord:
            return record.model_copy(update={"owed": False}) if record.floor == paid.floor else record

        try:
            await self.directory.change(paid.place, settled)
        except SessionNotFound:
            return  # deleted meanwhile

    async def _needed_by(self, record: SessionRecord, fork: str, segment: Segment) -> int:
        """Return the last sequence of a segment that a fork does not need."""
        found = await self.directory.find(Place(record.tenant, fork), fresh=True)
        of_it = [] if found is None else [s for s in found[0].segments if s.id == segment.id]
        if found is None or not of_it:
            return _FOR_EVER  # it has gone, or comes to be, and begins at this session's floor
        return _end_below(found[0], segment)

    async def _remove(self, to: Stretch, after: int, upto: int) -> None:
        """Remove everything up to a sequence, but for who has a pool's floor now."""
        log_ = self.broker.log
        await self._remove_blobs(to, after, upto)
        for kind in _KINDS:
            await self._purge(to, Wanted(kind), upto)
        names = {parse_stored(subject).name for subject in await log_.subjects(to, "own")}
        newest = [await log_.newest(to, Wanted("own", name)) for name in names if name.startswith(_FLOORS)]
        kept = {
            record.parts.name: record.sequence for record in newest if record is not None and record.sequence <= upto
        }
        if not kept:
            await self._purge(to, Wanted("own"), upto)
            return
        await self._purge(to, Wanted("own"), min(kept.values()) - 1)
        for name in names:
            await self._purge(to, Wanted("own", name), kept[name] - 1 if name in kept else upto)

    async def _purge(self, to: Stretch, wanted: Wanted, upto: int) -> None:
        self.metrics.count(PURGED, "retention", await self.broker.log.purge(to, wanted=wanted, upto=upto))

    async def _remove_blobs(self, to: Stretch, after: int, upto: int) -> None:
        """Remove the large bodies of what is about to go: without their events nobody would know of them."""
        there = set(await self.broker.blobs(to.place))
        if not there:
            return
        gone: list[str] = []
        async with aclosing(self.broker.log.read(to, after=after, upto=upto, wanted=_LASTING)) as batches:
            async for records in batches:
                gone += [blob.name for record in records if (blob := record.blob) is not None and blob.name in there]
        await self.broker.delete_blobs(to.place, gone)

    async def _weighed(self, record: SessionRecord, head: Offset, before: Weighed | None) -> Weighed:
        """Weigh what lies behind the floor; what was weighed before is not read again."""
        floor = record.floor_offset
        weight, after = Weight(), floor
        if before is not None and before.after == floor and before.upto.segment == head.segment:
            weight, after = before.weight, before.upto
        async with aclosing(self._events(record, after, head)) as events:
            async for seen in events:
                weight += Weight(1, seen.bytes)
        return Weighed(floor, max(head, after), weight)

    async def _events(self, record: SessionRecord, after: Offset, head: Offset) -> AsyncGenerator[Seen, None]:
        """Read what lies behind an offset, over every segment, as far as cutting goes; without deltas."""
        for segment in record.segments:
            if segment.id < after.segment:
                continue
            low = max(segment.after, after.sequence if segment.id == after.segment else 0)
            end = head.sequence if segment.upto is None else segment.upto
            if end <= low:
                continue
            read = self.broker.log.read(stretch_of(segment), after=low, upto=end, wanted=_LASTING)
            async with aclosing(read) as batches:
                async for records in batches:
                    for one in records:
                        blob, parts = one.blob, one.parts
                        size = len(one.payload) if blob is None else blob.size
                        yield Seen(one.offset, one.ts, size, parts.kind, parts.name, one.type)

    async def _goes_on(self, to: Stretch, run: str) -> bool:
        newest = await self.broker.log.newest(to, Wanted("own", run))
        return newest is not None and newest.type not in RUN_OVER


_FOR_EVER: Final = 10**16


def _end_below(record: SessionRecord, segment: Segment) -> int:
    """Return the last sequence of a segment that lies at or below a session's floor."""
    floor = record.floor_offset
    if segment.id < floor.segment:
        return _FOR_EVER if segment.upto is None else segment.upto
    return floor.sequence if segment.id == floor.segment else segment.after
