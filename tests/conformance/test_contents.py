"""What a broker has of a session, and making away with single events of it."""

from __future__ import annotations

import asyncio

import pytest
from session_fabric.ports import Broker, Stretch, Wanted
from session_fabric.words.events import Draft
from session_fabric.words.subjects import parse_stored

from tests.support.events import claim, delta, everything, milestone, stretch, value
from tests.support.waiting import eventually


async def kinds(broker: Broker, to: Stretch) -> dict[str, int]:
    counts: dict[str, int] = {}
    for subject, events in (await broker.log.subjects(to)).items():
        kind = parse_stored(subject).kind
        counts[kind] = counts.get(kind, 0) + events
    return counts


async def test_the_subjects_of_a_session_are_counted_by_kind(broker: Broker, to: Stretch, tenant: str) -> None:
    other = await stretch(broker, tenant, "chat-2")
    for draft in (milestone("a"), milestone("b", writer="agent:other"), claim("r1"), delta("c", run="r1")):
        await broker.log.publish(to, draft)
    await broker.log.publish(other, milestone("other"))
    assert await kinds(broker, to) == {"ev": 2, "own": 1, "tok": 1}
    assert list((await broker.log.subjects(to, "own")).values()) == [1]
    assert await broker.log.subjects(to, "in") == {}


async def test_an_event_that_is_erased_is_gone_and_the_rest_stays(broker: Broker, to: Stretch) -> None:
    sequences = [(await broker.log.publish(to, milestone(name))).sequence for name in "abc"]
    assert await broker.log.erase(to, [sequences[1]]) == 1
    assert await broker.log.erase(to, [sequences[1]]) == 0

    async def only_the_rest() -> bool:
        return [value(r) for r in await everything(broker, to)] == ["a", "c"]

    await eventually(only_the_rest)
    assert await broker.log.head(to) == sequences[2]


async def test_of_many_who_erase_an_event_at_once_all_are_answered_and_it_is_gone(broker: Broker, to: Stretch) -> None:
    for _ in range(5):
        sequence = (await broker.log.publish(to, milestone("a"))).sequence
        erased = await asyncio.gather(*(broker.log.erase(to, [sequence]) for _ in range(8)))
        assert sum(erased) >= 1
        assert await broker.log.erase(to, [sequence]) == 0
    assert await broker.log.head(to) == 0


async def test_the_newest_event_can_be_erased(broker: Broker, to: Stretch) -> None:
    first, last = [(await broker.log.publish(to, milestone(name))).sequence for name in "ab"]
    assert await broker.log.erase(to, [last]) == 1
    assert await broker.log.head(to) == first
    assert await broker.log.lasts(to, 0, last) == {to.place.stored("ev", "_", "agent:writer"): first}
    assert (await broker.log.publish(to, milestone("c"))).sequence > last


async def test_another_sessions_event_is_not_erased(broker: Broker, to: Stretch, tenant: str) -> None:
    other = await stretch(broker, tenant, "chat-2")
    sequence = (await broker.log.publish(other, milestone("theirs"))).sequence
    assert await broker.log.erase(to, [sequence, sequence + 1000]) == 0
    assert await broker.log.head(other) == sequence


def large(text: str) -> Draft:
    return milestone(text * 300_000)


async def test_a_large_body_goes_with_its_event(broker: Broker, to: Stretch) -> None:
    first, second = [(await broker.log.publish(to, large(text))).sequence for text in "xy"]
    assert len(await broker.blobs(to.place)) == 2
    assert await broker.log.erase(to, [first]) == 1
    assert len(await broker.blobs(to.place)) == 1

    async def only_the_second() -> bool:
        return [(r.sequence, value(r)) for r in await everything(broker, to)] == [(second, "y" * 300_000)]

    await eventually(only_the_second)


async def test_large_bodies_are_removed_by_their_names(broker: Broker, to: Stretch) -> None:
    for text in "xyz":
        await broker.log.publish(to, large(text))
    names = list(await broker.blobs(to.place))
    assert await broker.delete_blobs(to.place, names[:2]) > 0
    assert list(await broker.blobs(to.place)) == names[2:]
    assert await broker.delete_blobs(to.place, names[:2]) == 0
    await broker.delete_blobs(to.place)
    assert list(await broker.blobs(to.place)) == []


@pytest.mark.parametrize("session", ["chat-1", None])
async def test_durable_subscriptions_on_one_session_are_told(
    broker: Broker, to: Stretch, tenant: str, session: str | None
) -> None:
    durable = await broker.durable(
        tenant,
        "indexer",
        place=None if session is None else to.place,
        wanted=[Wanted("ev")],
        ack_wait_s=30,
        max_deliver=-1,
        start="start",
    )
    assert len(await broker.durables(to.place)) == (0 if session is None else 1)
    await durable.delete()
    await durable.close()
    assert list(await broker.durables(to.place)) == []
