"""Durable subscriptions: each event to one of those who have it open, until it is acknowledged."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from contextlib import suppress

import pytest
from session_fabric.memory import MemoryBroker
from session_fabric.ports import Broker, Delivery, Durable, Stretch, Wanted
from session_fabric.words.errors import BrokerIncompatible, BrokerUnavailable
from session_fabric.words.subjects import Place

from tests.security.attacks import runs
from tests.support.brokers import Brokers
from tests.support.events import claim, delta, milestone, stretch, value
from tests.support.waiting import eventually


async def opened(
    broker: Broker,
    tenant: str | None,
    *,
    name: str = "worker",
    place: Place | None = None,
    wanted: Sequence[Wanted] = (Wanted("ev"),),
    ack_wait_s: float = 30.0,
    max_deliver: int = 5,
    start: str = "start",
) -> Durable:
    return await broker.durable(
        tenant,
        name,
        place=place,
        wanted=wanted,
        ack_wait_s=ack_wait_s,
        max_deliver=max_deliver,
        start=start,
    )


async def take(durable: Durable, count: int, *, ack: bool = True) -> list[Delivery]:
    """Fetch until there are `count` deliveries."""
    out: list[Delivery] = []
    async with asyncio.timeout(20):
        while len(out) < count:
            batch = await durable.fetch(count - len(out), 1.0)
            assert len(batch) <= count - len(out)
            out += batch
            for delivery in batch:
                if ack:
                    await delivery.ack()
    return out


async def test_a_subscription_from_the_start_gets_what_was_stored_before_and_after(
    broker: Broker, to: Stretch, tenant: str
) -> None:
    acks = [await broker.log.publish(to, milestone(n)) for n in range(3)]
    durable = await opened(broker, tenant)
    acks += [await broker.log.publish(to, milestone(n)) for n in range(3, 6)]
    got = await take(durable, 6)
    assert [value(d.record) for d in got] == list(range(6))
    assert [d.record.sequence for d in got] == [a.sequence for a in acks]
    assert {d.place for d in got} == {to.place}
    assert {d.attempts for d in got} == {1}
    assert got[0].record.type == "app.test"
    assert got[0].record.ts > 0


async def test_a_subscription_from_the_tail_gets_later_events_only(broker: Broker, to: Stretch, tenant: str) -> None:
    await broker.log.publish(to, milestone("before"))
    durable = await opened(broker, tenant, start="tail")
    await broker.log.publish(to, milestone("after"))
    (got,) = await take(durable, 1)
    assert value(got.record) == "after"


async def test_a_tenants_subscription_gets_all_its_sessions_and_no_other_tenants(broker: Broker, tenant: str) -> None:
    durable = await opened(broker, tenant)
    for name in ("one", "two", "three:3"):
        await broker.log.publish(await stretch(broker, tenant, name), milestone(name))
    await broker.log.publish(await stretch(broker, tenant + "x", "one"), milestone("theirs"))
    got = await take(durable, 3)
    assert sorted(d.place.session for d in got) == ["one", "three:3", "two"]
    assert all(d.place.tenant == tenant and value(d.record) == d.place.session for d in got)
    await no_more(durable)


@pytest.mark.needs_rights
async def test_a_subscription_over_all_tenants_gets_everybodys(broker: Broker, tenant: str) -> None:
    # A name that only the fabric can write, and here one that no other test has.
    named = f"/control-{tenant}"
    everybodys = await opened(broker, None, name=tenant, wanted=[Wanted("ev", named), Wanted("in", named)])
    mine = await opened(broker, tenant, name=tenant, wanted=[Wanted("ev", named)])
    expected = []
    for number, owner in enumerate((tenant, tenant + "x", tenant + "-y", tenant)):
        to = await stretch(broker, owner, f"chat:{number}")
        await broker.log.publish(to, milestone("not wanted"))
        await broker.log.publish(to, milestone(number, kind="in" if number == 3 else "ev", name=named))
        expected.append((number, to.place))
    got = await take(everybodys, 4)
    assert sorted((value(d.record), d.place) for d in got) == expected
    assert {d.record.parts.name for d in got} == {named}
    (its,) = await take(mine, 1)
    assert its.place.tenant == tenant
    await no_more(everybodys)
    await no_more(mine)
    with pytest.raises(BrokerIncompatible):
        await opened(broker, None, name=tenant, wanted=[Wanted("ev", named)])
    await everybodys.delete()


@pytest.mark.needs_rights
async def test_very_many_events_of_all_tenants_may_be_in_hand_at_once(
    broker: Broker, connections: Brokers, tenant: str
) -> None:
    durable = await opened(broker, None, name=tenant, wanted=[Wanted("in", tenant)], start="tail")
    to = await stretch(broker, tenant)
    count = 10_500  # over what a tenant's own may have in hand
    for begin in range(0, count, 500):
        drafts = [milestone(n, kind="in", name=tenant) for n in range(begin, begin + 500)]
        # 500 at once are what a slow machine's cluster may need more than the usual five seconds for.
        await asyncio.gather(*(broker.log.publish(to, draft, timeout_s=60.0) for draft in drafts))
    got = 0
    async with asyncio.timeout(120):
        while got < count:
            got += len(await durable.fetch(500, 5.0))
    assert (await durable.lag())[1] == count
    await durable.delete()


async def test_a_sessions_subscription_gets_that_session_only(broker: Broker, to: Stretch, tenant: str) -> None:
    durable = await opened(broker, tenant, place=to.place)
    await broker.log.publish(await stretch(broker, tenant, "another"), milestone("theirs"))
    await broker.log.publish(to, milestone("mine"))
    (got,) = await take(durable, 1)
    assert value(got.record) == "mine"
    await no_more(durable)


async def test_a_subscription_gets_the_kinds_and_names_that_it_wants(broker: Broker, to: Stretch, tenant: str) -> None:
    durable = await opened(broker, tenant, wanted=[Wanted("in", "pool"), Wanted("own")])
    wanted = [milestone("a", kind="in", name="pool"), claim("r1")]
    for draft in (milestone("no"), milestone("no", kind="in", name="other"), delta("no", run="pool"), *wanted):
        await broker.log.publish(to, draft)
    assert [d.record.id for d in await take(durable, 2)] == [d.id for d in wanted]
    await no_more(durable)


async def test_each_event_goes_to_one_of_two_who_have_it_open(
    broker: Broker, connections: Brokers, to: Stretch, tenant: str
) -> None:
    one = await opened(broker, tenant)
    two = await opened(await connections.open(), tenant)
    got: list[list[object]] = [[], []]

    async def work(durable: Durable, mine: list[object]) -> None:
        while len(got[0]) + len(got[1]) < 60:
            for delivery in await durable.fetch(3, 0.5):
                await delivery.ack()
                mine.append(value(delivery.record))

    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        group.create_task(work(one, got[0]))
        group.create_task(work(two, got[1]))
        for n in range(60):
            await broker.log.publish(to, milestone(n))
    assert sorted(got[0] + got[1]) == list(range(60))  # type: ignore[type-var]
    await no_more(one)


async def test_a_subscription_survives_those_who_have_it_open(
    connections: Brokers, broker: Broker, to: Stretch, tenant: str
) -> None:
    first = await connections.open()
    await broker.log.publish(to, milestone(1))
    await take(await opened(first, tenant), 1)
    await first.close()
    await broker.log.publish(to, milestone(2))
    (got,) = await take(await opened(broker, tenant), 1)
    assert value(got.record) == 2


async def test_what_is_not_acknowledged_comes_again_after_the_ack_wait(
    broker: Broker, to: Stretch, tenant: str
) -> None:
    durable = await opened(broker, tenant, ack_wait_s=1.0)
    await broker.log.publish(to, milestone("x"))
    await take(durable, 1, ack=False)
    (again,) = await take(durable, 1)
    assert (value(again.record), again.attempts) == ("x", 2)
    await no_more(durable, 1.5)


async def test_what_is_refused_comes_again_at_once_or_after_the_delay(broker: Broker, to: Stretch, tenant: str) -> None:
    durable = await opened(broker, tenant)
    await broker.log.publish(to, milestone("x"))
    (first,) = await take(durable, 1, ack=False)
    await first.nak()
    (second,) = await take(durable, 1, ack=False)
    assert second.attempts == 2
    began = asyncio.get_running_loop().time()
    await second.nak(0.5)
    (third,) = await take(durable, 1)
    assert third.attempts == 3
    assert asyncio.get_running_loop().time() - began > 0.4


async def test_a_delay_may_be_a_small_part_of_a_second(broker: Broker, to: Stretch, tenant: str) -> None:
    durable = await opened(broker, tenant)
    await broker.log.publish(to, milestone("x"))
    (delivery,) = await take(durable, 1, ack=False)
    began = asyncio.get_running_loop().time()
    for attempt in (2, 3, 4):
        await delivery.nak(0.05)
        (delivery,) = await take(durable, 1, ack=False)
        assert delivery.attempts == attempt
    assert 0.14 < asyncio.get_running_loop().time() - began < 3
    await delivery.ack()


async def test_extending_keeps_an_event_from_coming_again(broker: Broker, to: Stretch, tenant: str) -> None:
    durable = await opened(broker, tenant, ack_wait_s=1.0)
    await broker.log.publish(to, milestone("kept"))
    await broker.log.publish(to, milestone("control"))
    kept, control = await take(durable, 2, ack=False)
    assert value(control.record) == "control"
    again: list[Delivery] = []
    async with asyncio.timeout(20):
        while not again:
            await kept.extend()
            again = list(await durable.fetch(10, 0.2))
    assert [value(d.record) for d in again] == ["control"]
    await kept.ack()
    await again[0].ack()


async def test_an_event_is_tried_as_often_as_agreed_and_no_more(broker: Broker, to: Stretch, tenant: str) -> None:
    durable = await opened(broker, tenant, max_deliver=3)
    await broker.log.publish(to, milestone("poison"))
    for attempt in (1, 2, 3):
        (delivery,) = await take(durable, 1, ack=False)
        assert delivery.attempts == attempt
        await delivery.nak()
    await broker.log.publish(to, milestone("next"))
    (after,) = await take(durable, 1)
    assert value(after.record) == "next"
    await no_more(durable)


async def test_lag_counts_what_waits_and_what_is_out(broker: Broker, to: Stretch, tenant: str) -> None:
    durable = await opened(broker, tenant)
    for n in range(5):
        await broker.log.publish(to, milestone(n))
    await broker.log.publish(to, delta("not wanted", run="r1"))

    async def lag_is(*expected: int) -> bool:
        lag = await durable.lag()
        assert lag == expected
        return True

    await eventually(lambda: lag_is(5, 0))
    got = await take(durable, 3, ack=False)
    await eventually(lambda: lag_is(2, 3))
    for delivery in got:
        await delivery.ack()
    await eventually(lambda: lag_is(2, 0))
    await take(durable, 2)
    await eventually(lambda: lag_is(0, 0))


async def test_what_was_fetched_ahead_and_not_taken_goes_to_others_on_close(
    broker: Broker, connections: Brokers, to: Stretch, tenant: str
) -> None:
    mine = await opened(broker, tenant)
    theirs = await opened(await connections.open(), tenant)
    assert list(await mine.fetch(10, 0.05)) == []
    await broker.log.publish(to, milestone("x"))
    # Whether it fetches ahead is a broker's own affair; one that does has it in hand before long.
    with suppress(AssertionError):
        await eventually(lambda: in_hand(mine), 1)
    await mine.close()
    (got,) = await take(theirs, 1)
    assert value(got.record) == "x"


async def test_an_event_stored_after_close_goes_to_others(
    broker: Broker, connections: Brokers, to: Stretch, tenant: str
) -> None:
    mine = await opened(broker, tenant)
    theirs = await opened(await connections.open(), tenant)
    assert list(await mine.fetch(10, 0.05)) == []
    await mine.close()
    await broker.log.publish(to, milestone("x"))
    (got,) = await take(theirs, 1)
    assert value(got.record) == "x"


async def test_a_fetch_with_nothing_to_give_ends_at_its_timeout(broker: Broker, tenant: str) -> None:
    durable = await opened(broker, tenant)
    began = asyncio.get_running_loop().time()
    assert list(await durable.fetch(10, 0.3)) == []
    assert 0.2 < asyncio.get_running_loop().time() - began < 3


async def test_a_fetch_that_waits_gets_an_event_as_it_is_stored(
    broker: Broker, connections: Brokers, to: Stretch, tenant: str
) -> None:
    durable = await opened(broker, tenant)
    other = await connections.open()
    async with asyncio.TaskGroup() as group:
        fetching = group.create_task(durable.fetch(1, 10.0))
        await asyncio.sleep(0.05)
        await other.log.publish(to, milestone("x"))
    (got,) = fetching.result()
    assert value(got.record) == "x"
    await got.ack()


async def test_opening_a_subscription_with_another_filter_is_refused(broker: Broker, to: Stretch, tenant: str) -> None:
    await opened(broker, tenant, wanted=[Wanted("ev"), Wanted("in", "p")])
    await opened(broker, tenant, wanted=[Wanted("in", "p"), Wanted("ev")])
    with pytest.raises(BrokerIncompatible):
        await opened(broker, tenant, wanted=[Wanted("ev")])


async def test_a_name_means_another_subscription_on_each_session_and_on_the_tenant(
    broker: Broker, to: Stretch, tenant: str
) -> None:
    elsewhere = await stretch(broker, tenant, "chat-2")
    every = await opened(broker, tenant)
    here = await opened(broker, tenant, place=to.place, wanted=[Wanted("in")])
    there = await opened(broker, tenant, place=elsewhere.place)
    await broker.log.publish(elsewhere, milestone("x"))
    await take(every, 1)
    await take(there, 1)
    await no_more(here)


async def test_tenants_may_use_the_same_subscription_name(broker: Broker, tenant: str) -> None:
    mine, theirs = await opened(broker, tenant), await opened(broker, tenant + "x", wanted=[Wanted("in")])
    await broker.log.publish(await stretch(broker, tenant), milestone("mine"))
    await take(mine, 1)
    await no_more(theirs)


async def test_a_deleted_subscription_can_be_made_anew_with_another_filter(
    broker: Broker, to: Stretch, tenant: str
) -> None:
    await broker.log.publish(to, milestone("x"))
    durable = await opened(broker, tenant)
    await take(durable, 1)
    await durable.delete()
    anew = await opened(broker, tenant, wanted=[Wanted("ev"), Wanted("own")])
    (got,) = await take(anew, 1)
    assert (value(got.record), got.attempts) == ("x", 1)
    await anew.delete()


async def test_an_event_that_was_purged_is_not_delivered(broker: Broker, to: Stretch, tenant: str) -> None:
    durable = await opened(broker, tenant)
    await broker.log.publish(to, milestone("gone"))
    await broker.log.purge(to)
    await broker.log.publish(to, milestone("there"))
    (got,) = await take(durable, 1)
    assert value(got.record) == "there"


async def test_the_memory_brokers_ack_wait_goes_by_its_clock() -> None:
    now = 1_000.0
    broker = MemoryBroker(clock=lambda: now)
    durable = await opened(broker, "t", ack_wait_s=600)
    await broker.log.publish(await stretch(broker, "t"), milestone("x"))
    await take(durable, 1, ack=False)
    async with asyncio.TaskGroup() as group:
        fetching = group.create_task(durable.fetch(1, 30))
        await asyncio.sleep(0)
        now += 601
        broker.tick()
    assert [d.attempts for d in fetching.result()] == [2]


async def in_hand(durable: Durable) -> bool:
    return (await durable.lag())[1] == 1


async def no_more(durable: Durable, timeout_s: float = 0.3) -> None:
    assert [value(d.record) for d in await durable.fetch(10, timeout_s)] == []


async def test_a_delivery_of_a_connection_that_was_closed_cannot_be_settled_and_goes_to_another(
    connections: Brokers, to: Stretch, tenant: str
) -> None:
    one, two = await connections.open(), await connections.open()
    await one.log.publish(to, milestone(0))
    first, second = await opened(one, tenant, ack_wait_s=1.0), await opened(two, tenant, ack_wait_s=1.0)
    (delivery,) = await take(first, 1, ack=False)
    await one.close()
    for settle in (delivery.ack(), delivery.nak(), delivery.extend()):
        with pytest.raises(BrokerUnavailable):
            await settle
    (again,) = await take(second, 1)
    assert again.record.id == delivery.record.id


async def test_what_was_fetched_ahead_by_one_who_rests_goes_to_another_at_once(
    broker: Broker, connections: Brokers, to: Stretch, tenant: str
) -> None:
    one, two = [await opened(await connections.open(), tenant) for _ in range(2)]
    first = asyncio.create_task(one.fetch(3, 20.0))
    await broker.log.publish(to, milestone(0))
    for delivery in await first:
        await delivery.ack()
    for n in (1, 2):  # asked for by the first, which has room for two more
        await broker.log.publish(to, milestone(n))
    await one.rest()
    await broker.log.publish(to, milestone(3))
    assert sorted(value(d.record) for d in await take(two, 3)) == [1, 2, 3]


async def test_one_who_has_rested_fetches_again(broker: Broker, to: Stretch, tenant: str) -> None:
    durable = await opened(broker, tenant)
    for n in range(3):
        await durable.rest()
        await broker.log.publish(to, milestone(n))
        assert [value(d.record) for d in await take(durable, 1)] == [n]


@runs("D1")
@pytest.mark.needs_rights  # everybody's
@pytest.mark.parametrize(("tail", "name", "other"), [("-b", "c", "b-c"), ("-worker", "a", "worker-a"), ("", "a-", "a")])
async def test_subscriptions_whose_tenant_and_name_run_together_are_two(
    broker: Broker, tenant: str, tail: str, name: str, other: str
) -> None:
    ours, theirs = await opened(broker, tenant + tail, name=name), await opened(broker, tenant, name=other)
    everybodys = await opened(broker, None, name=f"{tenant}{tail}-{name}", start="tail")
    for one in (tenant + tail, tenant):
        await broker.log.publish(await stretch(broker, one), milestone(one))
    for durable, one in ((ours, tenant + tail), (theirs, tenant)):
        if tail:
            assert [value(d.record) for d in await take(durable, 1)] == [one]
        else:
            assert [value(d.record) for d in await take(durable, 2)] == [tenant, tenant]
        await no_more(durable)
    assert len(await take(everybodys, 2)) == 2
    await ours.delete()
    await broker.log.publish(await stretch(broker, tenant), milestone("after"))
    assert [value(d.record) for d in await take(theirs, 1)] == ["after"]


@runs("D1")
async def test_a_subscription_on_a_session_is_not_one_whose_name_looks_like_it(
    broker: Broker, to: Stretch, tenant: str
) -> None:
    narrow = await opened(broker, tenant, place=to.place)
    digest = hashlib.sha256(to.place.session.encode()).hexdigest()
    for name in (f"worker-{digest[:16]}", f"worker-{digest[:32]}"):
        wide = await opened(broker, tenant, name=name, start="tail")
        await broker.log.publish(await stretch(broker, tenant, "another"), milestone(name))
        assert [value(d.record) for d in await take(wide, 1)] == [name]
    await no_more(narrow)
