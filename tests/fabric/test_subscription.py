"""Durable subscriptions: work that survives the worker."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest
from session_fabric import Fabric, Subscription, Work
from session_fabric.words.errors import BrokerIncompatible, BrokerUnavailable, InvalidName, InvalidRequest
from session_fabric.words.events import Draft

from tests.support.servers import NatsNode
from tests.support.sessions import Fabrics, note, said
from tests.support.waiting import eventually


async def take(work: Subscription, count: int, *, ack: bool = True, at_once: int = 10) -> list[Work]:
    out: list[Work] = []
    async with asyncio.timeout(20):
        while len(out) < count:
            found = await work.fetch(min(at_once, count - len(out)), 1.0)
            out += found
            if ack:
                for item in found:
                    await item.ack()
    return out


def texts(work: list[Work]) -> list[str]:
    return [w.event.body["message"]["content"] for w in work]


@pytest.mark.needs_rights
async def test_input_of_every_session_of_the_tenant_comes_in_order(fabric: Fabric, fabrics: Fabrics) -> None:
    for n in range(6):
        await fabric.session(f"chat-{n % 2}").append(said(str(n), f"m{n}"))
    await fabric.view(tenant=fabric.tenant + "x").session("chat-0").append(said("theirs"))
    async with fabric.subscribe(durable="agents", kind="in") as work:
        got = await take(work, 6)
        assert sorted(texts(got)) == [str(n) for n in range(6)]
        for session in ("chat-0", "chat-1"):
            mine = [w for w in got if w.session == session]
            assert texts(mine) == sorted(texts(mine))
        assert await work.fetch(1, 0.1) == []
        assert await work.lag() == (0, 0)


async def test_a_work_items_offset_is_its_place_in_the_session(fabric: Fabric) -> None:
    session = fabric.session("chat-1")
    at = (await session.append(said("Hello"))).offset
    async with fabric.subscribe(durable="agents", kind="in") as work:
        (item,) = await take(work, 1)
    assert (item.event.offset, item.event.actor, item.attempts) == (at, "agent:writer", 1)


async def test_each_item_goes_to_exactly_one_of_two_workers(fabric: Fabric, fabrics: Fabrics) -> None:
    workers = [await fabrics.open(f"agent:w{n}") for n in range(2)]
    done: list[tuple[int, str]] = []

    async def work(n: int) -> None:
        async with workers[n].subscribe(durable="agents", kind="in") as subscription:
            while len(done) < 60:
                for item in await subscription.fetch(1, 0.2):
                    await item.ack()
                    done.append((n, texts([item])[0]))

    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        for n in range(2):
            group.create_task(work(n))
        for n in range(60):
            await fabric.session(f"chat-{n % 5}").append(said(str(n), f"m{n}"))
    assert sorted(text for _, text in done) == sorted(str(n) for n in range(60))
    assert {n for n, _ in done} == {0, 1}


async def test_what_a_worker_took_and_did_not_finish_comes_again(fabric: Fabric, fabrics: Fabrics) -> None:
    await fabric.session("chat-1").append(said("Hello"))
    dying = await fabrics.open()
    async with dying.subscribe(durable="agents", kind="in", ack_wait_s=0.5) as work:
        (first,) = await take(work, 1, ack=False)
    await dying.close()
    async with fabric.subscribe(durable="agents", kind="in", ack_wait_s=0.5) as work:
        assert (await work.lag())[1] == 1
        (again,) = await take(work, 1)
        assert again.event == first.event
        assert again.attempts == 2
        assert await work.lag() == (0, 0)


async def test_what_is_given_back_comes_again_and_what_is_extended_does_not(fabric: Fabric) -> None:
    await fabric.session("chat-1").append(said("Hello"))
    async with fabric.subscribe(durable="agents", kind="in", ack_wait_s=0.3) as work:
        (item,) = await take(work, 1, ack=False)
        await item.nak()
        (item,) = await take(work, 1, ack=False)
        assert item.attempts == 2
        for _ in range(4):
            assert await work.fetch(1, 0.15) == []
            await item.extend()
        await item.ack()
        assert await work.fetch(1, 0.4) == []


async def test_a_subscription_on_one_session_hears_of_no_other(fabric: Fabric) -> None:
    for name in ("chat-1", "chat-2"):
        await fabric.session(name).append(note(name))
    async with fabric.subscribe(durable="indexer", session="chat-1") as work:
        got = await take(work, 2)
        assert [w.event.type for w in got] == ["session.created", "app.note"]
        assert await work.fetch(1, 0.1) == []


async def test_a_subscription_from_the_tail_begins_there_and_then_keeps_its_place(fabric: Fabric) -> None:
    session = fabric.session("chat-1")
    await session.append(said("before"))
    async with fabric.subscribe(durable="agents", kind="in", start="tail"):
        pass
    await session.append(said("while nobody worked", "m2"))
    async with fabric.subscribe(durable="agents", kind="in", start="tail") as work:
        assert texts(await take(work, 1)) == ["while nobody worked"]


async def test_the_lag_says_what_waits_and_what_is_worked_on(fabric: Fabric) -> None:
    for n in range(5):
        await fabric.session("chat-1").append(said(str(n), f"m{n}"))
    async with fabric.subscribe(durable="agents", kind="in") as work:
        assert await work.lag() == (5, 0)
        await take(work, 2, ack=False, at_once=2)
        assert await work.lag() == (3, 2)


async def test_a_large_body_reaches_the_worker_whole(fabric: Fabric) -> None:
    await fabric.session("chat-1").append(said("x" * 700_000))
    async with fabric.subscribe(durable="agents", kind="in") as work:
        assert texts(await take(work, 1)) == ["x" * 700_000]


async def test_work_of_a_deleted_session_is_nobodys(fabric: Fabric) -> None:
    await fabric.session("gone").append(said("never mind"))
    async with fabric.subscribe(durable="agents", kind="in") as work:
        await fabric.session("gone").delete()
        await fabric.session("chat-1").append(said("Hello"))
        assert texts(await take(work, 1)) == ["Hello"]
        assert await work.lag() == (0, 0)


async def test_a_forgotten_subscription_begins_anew(fabric: Fabric) -> None:
    await fabric.session("chat-1").append(said("Hello"))
    async with fabric.subscribe(durable="agents", kind="in") as work:
        await take(work, 1)
        await work.delete()
    async with fabric.subscribe(durable="agents", kind="in") as work:
        assert texts(await take(work, 1)) == ["Hello"]


async def test_one_name_is_one_filter(fabric: Fabric) -> None:
    async with fabric.subscribe(durable="agents", kind="in"):
        with pytest.raises(BrokerIncompatible):
            async with fabric.subscribe(durable="agents", kind="ev"):
                pass


async def test_what_makes_no_sense_is_refused(fabric: Fabric) -> None:
    with pytest.raises(InvalidRequest):
        fabric.subscribe(durable="x", start="middle")
    with pytest.raises(InvalidRequest):
        fabric.subscribe(durable="x", name="pool")
    with pytest.raises(InvalidName):
        fabric.subscribe(durable="a.b")
    with pytest.raises(InvalidRequest):
        await fabric.subscribe(durable="x").fetch()


async def test_work_goes_on_when_the_broker_was_killed(own_server: NatsNode) -> None:
    async with Fabric.connect(own_server.url, streams=2) as fabric:
        done: list[str] = []

        async def work() -> None:
            async with fabric.subscribe(durable="agents", kind="in", ack_wait_s=2.0) as subscription:
                while len(set(done)) < 40:
                    for item in await subscription.fetch(5, 0.5):
                        done.append(texts([item])[0])
                        with suppress(BrokerUnavailable):  # it comes again
                            await item.ack()

        async with asyncio.timeout(30), asyncio.TaskGroup() as group:
            group.create_task(work())
            for n in range(40):
                await fabric.session(f"chat-{n % 4}").append(said(str(n), f"m{n}"), id=f"e{n}")
                if n == 20:
                    await eventually(lambda: len(done) > 10)
                    own_server.kill()
                    await own_server.restart()
        # An acknowledgement whose answer the kill took may be worked on again: at least once.
        assert set(done) == {str(n) for n in range(40)}


async def test_a_deleted_subscription_says_so_to_those_who_have_it_open(fabric: Fabric) -> None:
    async with fabric.subscribe(durable="agents", kind="in") as work:
        await work.delete()
        with pytest.raises(BrokerUnavailable):
            await work.fetch(1, 3.0)


async def test_what_a_slow_worker_fetched_ahead_is_not_worked_on_twice(fabric: Fabric, fabrics: Fabrics) -> None:
    """A worker that asks several streams at once may get more than it asked for."""
    other = await fabrics.open()
    for n in range(12):
        await fabric.session(f"chat-{n}").append(said(str(n), f"m{n}"))
    done: list[str] = []
    async with (
        fabric.subscribe(durable="agents", kind="in", ack_wait_s=0.5) as slow,
        other.subscribe(durable="agents", kind="in", ack_wait_s=0.5) as quick,
    ):
        (first,) = await take(slow, 1, ack=False)

        async def all_others() -> bool:
            for item in await quick.fetch(10, 0.1):
                await item.ack()
                done.extend(texts([item]))
            await first.extend()
            return len(done) == 11

        await eventually(all_others)
        await first.ack()
        assert await slow.fetch(10, 0.1) == []
    assert sorted([*done, *texts([first])]) == sorted(str(n) for n in range(12))


async def test_a_strangers_broken_input_is_set_aside_and_the_next_is_worked_on(real: Fabric) -> None:
    session = real.session("chat-1")
    record = await session.record()
    for number, body in enumerate((b"{", b'{"type":"message.user"}')):
        draft = Draft("message.user", body, f"junk-{number}", "in", "default", "user:eve", "user:eve")
        await real.broker.log.publish(record.stretch, draft)
    await session.append(said("Hello"))
    async with real.subscribe(durable="w", kind="in") as inbox:
        works: list[Work] = []
        while not works:
            works = await inbox.fetch(5)
        assert [work.text for work in works] == ["Hello"]
        await works[0].ack()
        assert await inbox.lag() == (0, 0)
    async with real.subscribe(durable="all") as everything:
        kinds = [work.event.type for work in await everything.fetch(10)]
    assert kinds.count("fabric.malformed") == 1
