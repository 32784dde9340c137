"""One order for all who read a session, in whatever order its events arrive: as they are given, or given again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import pytest
from session_fabric import Event, Offset, Session
from session_fabric.follow import RecordsOnly
from session_fabric.ports import Listening, Log, Stretch
from session_fabric.words.subjects import Kind
from session_fabric.words.wire import Record

from tests.support.sessions import Fabrics, follow_until, note, stored, values
from tests.support.waiting import eventually


class InOrder(RecordsOnly):
    """What a reader has when it takes what it is given, as it comes, and goes back when it is told to."""

    def __init__(self) -> None:
        self.offsets: list[Offset] = []
        self.rewinds = 0
        self.out_of_order: list[Offset] = []

    def records(self, batch: Sequence[Record]) -> None:
        for record in batch:
            if self.offsets and record.offset <= self.offsets[-1]:
                self.out_of_order.append(record.offset)
            self.offsets.append(record.offset)

    def rewind(self, to: Offset) -> None:
        self.rewinds += 1
        self.offsets = [offset for offset in self.offsets if offset <= to]


def swapping(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have events of two subjects arrive the other way round; of one subject brokers keep the order."""
    listen = log.listen

    async def listening(
        stretch: Stretch, arrived: Callable[[Record], None], *, kinds: Sequence[Kind] = ()
    ) -> Listening:
        held: list[Record] = []

        def swapped(record: Record) -> None:
            before = held.pop() if held else None
            if before is None:
                held.append(record)
            elif before.subject == record.subject:
                arrived(before)
                held.append(record)
            else:
                arrived(record)
                arrived(before)

        return await listen(stretch, swapped, kinds=kinds)

    monkeypatch.setattr(log, "listen", listening)


@pytest.mark.parametrize("arrive", ["as stored", "swapped"])
async def test_every_reader_is_given_one_order_in_whatever_order_events_arrive(
    arrive: str, session: Session, fabrics: Fabrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = [(await fabrics.open(f"user:u{n}")).session(session.name) for n in range(3)]
    await session.create()
    if arrive == "swapped":
        for one in (session, *others):
            swapping(one._parts.broker.log, monkeypatch)
    readers = [InOrder() for _ in range(4)]

    async def write(who: int) -> None:
        for n in range(40):
            await others[who].append(note(f"{who}.{n}"))

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        followers = [
            one._parts.follower(sink, after="start") for one, sink in zip((session, *others), readers, strict=True)
        ]
        tasks = [group.create_task(follower.run()) for follower in followers]
        for follower in followers:
            await follower.ready()
        async with asyncio.TaskGroup() as writers:
            for who in range(3):
                writers.create_task(write(who))
        log = [event.offset for event in await stored(session)]
        assert len(log) > 120
        for reader in readers:
            await eventually(
                lambda reader=reader: reader.offsets[-1:] == log[-1:] and len(reader.offsets) == len(log), 30.0
            )
        for task in tasks:
            task.cancel()
    for reader in readers:
        assert reader.offsets == log
        assert reader.out_of_order == []
        assert (reader.rewinds > 0) >= (arrive == "swapped")


async def test_a_follower_yields_each_event_once_and_each_writers_in_their_order(
    session: Session, fabrics: Fabrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = [(await fabrics.open(f"user:u{n}")).session(session.name) for n in range(3)]
    await session.create()
    swapping(session._parts.broker.log, monkeypatch)

    async def write(who: int) -> None:
        for n in range(40):
            await others[who].append(note(f"{who}.{n}"))

    def all_there(events: list[Event]) -> bool:
        return len(values(events)) == 120

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        followers = [group.create_task(follow_until(s, all_there, timeout_s=60)) for s in (session, *others)]
        for who in range(3):
            group.create_task(write(who))
    log = {event.offset for event in await stored(session)}
    for events in (task.result() for task in followers):
        # What comes late, of another writer, is yielded late: it cannot be taken back what was yielded before it.
        assert {event.offset for event in events} == log
        assert len(events) == len(log)
        for who in range(3):
            assert [v for v in values(events) if v.startswith(f"{who}.")] == [f"{who}.{n}" for n in range(40)]
