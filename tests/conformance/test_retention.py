"""What leaves the log: by purge, and by time."""

from __future__ import annotations

import pytest
from session_fabric.memory import MemoryBroker
from session_fabric.ports import Broker, Stretch, Wanted
from session_fabric.words.wire import Record

from tests.support.events import claim, delta, everything, milestone, stretch, value
from tests.support.waiting import eventually


async def some(broker: Broker, to: Stretch) -> list[int]:
    drafts = [
        milestone("a"),
        delta("b", run="r1"),
        delta("c", run="r2", writer="agent:other"),
        claim("r1"),
        delta("d", run="r1"),
        milestone("e"),
    ]
    return [(await broker.log.publish(to, d)).sequence for d in drafts]


@pytest.mark.parametrize(
    ("wanted", "upto", "left"),
    [
        (None, None, []),
        (Wanted("tok"), None, [0, 3, 5]),
        (Wanted("tok", "r1"), None, [0, 2, 3, 5]),
        (Wanted("ev"), None, [1, 2, 3, 4]),
        (Wanted("in"), None, [0, 1, 2, 3, 4, 5]),
        (None, 2, [3, 4, 5]),
        (Wanted("tok"), 2, [0, 3, 4, 5]),
        (Wanted("tok", "r1"), 1, [0, 2, 3, 4, 5]),
    ],
)
async def test_a_purge_removes_what_was_named_and_counts_it(
    broker: Broker, to: Stretch, wanted: Wanted | None, upto: int | None, left: list[int]
) -> None:
    s = await some(broker, to)
    removed = await broker.log.purge(to, wanted=wanted, upto=None if upto is None else s[upto])
    assert removed == 6 - len(left)

    async def only_the_rest() -> bool:
        return [r.sequence for r in await everything(broker, to)] == [s[i] for i in left]

    await eventually(only_the_rest)
    assert await broker.log.purge(to, wanted=wanted, upto=None if upto is None else s[upto]) == 0


async def test_a_purge_leaves_other_sessions_alone(broker: Broker, to: Stretch, tenant: str) -> None:
    others = [await stretch(broker, tenant, "chat-2"), await stretch(broker, tenant + "x")]
    for where in (to, *others):
        await broker.log.publish(where, milestone("x"))
    await broker.log.purge(to)
    assert await broker.log.head(to) == 0
    for where in others:
        assert await broker.log.head(where) > 0


async def test_sequences_rise_after_a_purge(broker: Broker, to: Stretch) -> None:
    s = await some(broker, to)
    await broker.log.purge(to)
    ack = await broker.log.publish(to, milestone("again"))
    assert ack.sequence > s[-1]
    assert await broker.log.head(to) == ack.sequence
    assert await broker.log.lasts(to, 0, ack.sequence) == {to.place.stored("ev", "_", "agent:writer"): ack.sequence}


async def test_the_first_live_event_after_a_purge_has_no_predecessor(broker: Broker, to: Stretch) -> None:
    heard: list[Record] = []
    await some(broker, to)
    listening = await broker.log.listen(to, heard.append)
    await broker.log.purge(to)
    await broker.log.publish(to, milestone("again"))
    await eventually(lambda: len(heard) == 1)
    assert heard[0].previous == 0
    await listening.close()


async def test_an_event_with_a_ttl_goes_and_the_others_stay(broker: Broker, to: Stretch) -> None:
    await broker.log.publish(to, milestone("stays"))
    await broker.log.publish(to, delta("goes", run="r1"), ttl_s=1)
    longer = await broker.log.publish(to, milestone("stays longer"), ttl_s=3600)
    assert await broker.log.runs_with_deltas(to) == {"r1": 1}

    async def gone() -> bool:
        return not await broker.log.runs_with_deltas(to)

    await eventually(gone)
    assert [value(r) for r in await everything(broker, to)] == ["stays", "stays longer"]
    assert await broker.log.head(to) == longer.sequence
    assert await broker.log.newest(to, Wanted("tok")) is None


async def test_a_listener_hears_nothing_when_an_event_expires(broker: Broker, to: Stretch) -> None:
    heard: list[Record] = []
    listening = await broker.log.listen(to, heard.append)
    await broker.log.publish(to, delta("goes", run="r1"), ttl_s=1)

    async def gone() -> bool:
        return await broker.log.head(to) == 0

    await eventually(gone)
    await broker.log.publish(to, milestone("end"))
    await eventually(lambda: heard and heard[-1].type == "app.test")
    assert len(heard) == 2
    assert heard[-1].sequence == heard[0].sequence + 1
    await listening.close()


async def test_the_memory_broker_goes_by_the_clock_it_was_given() -> None:
    now = 1_000.0
    broker = MemoryBroker(clock=lambda: now)
    to = await stretch(broker, "t")
    await broker.log.publish(to, milestone("x", id="e1"), ttl_s=60)
    now += 59
    assert await broker.log.head(to) == 1
    now += 2
    assert await broker.log.head(to) == 0
    # The id is remembered for two minutes, longer than the event.
    assert (await broker.log.publish(to, milestone("x", id="e1"))).duplicate
    now += 120
    assert not (await broker.log.publish(to, milestone("x", id="e1"))).duplicate
