"""Guards: compare-and-set on the newest event of a kind and name, whoever wrote it."""

from __future__ import annotations

import asyncio

import pytest
from session_fabric.ports import Broker, Guard, Stretch, Wanted
from session_fabric.words.errors import Conflict

from tests.support.brokers import Brokers
from tests.support.events import claim, delta, everything, milestone, stretch
from tests.support.waiting import eventually


async def test_a_claim_of_what_nobody_holds_succeeds(broker: Broker, to: Stretch) -> None:
    ack = await broker.log.publish(to, claim("r1"), guard=Guard("own", "r1", 0))
    assert not ack.duplicate
    newest = await broker.log.newest(to, Wanted("own", "r1"))
    assert newest is not None
    assert newest.sequence == ack.sequence


async def test_a_second_claim_by_another_writer_loses_and_learns_what_is_there(broker: Broker, to: Stretch) -> None:
    held = await broker.log.publish(to, claim("r1", writer="agent:one"), guard=Guard("own", "r1", 0))
    with pytest.raises(Conflict) as lost:
        await broker.log.publish(to, claim("r1", writer="agent:two"), guard=Guard("own", "r1", 0))
    assert lost.value.facts["revision"] in (held.sequence, None)
    assert [r.actor for r in await everything(broker, to)] == ["agent:one"]


async def test_a_claim_over_the_sequence_that_is_there_takes_over(broker: Broker, to: Stretch) -> None:
    held = await broker.log.publish(to, claim("r1", writer="agent:one"), guard=Guard("own", "r1", 0))
    await broker.log.publish(to, claim("r1", writer="agent:two"), guard=Guard("own", "r1", held.sequence))
    newest = await broker.log.newest(to, Wanted("own", "r1"))
    assert newest is not None
    assert newest.actor == "agent:two"


async def test_guards_of_other_names_kinds_and_sessions_do_not_disturb(
    broker: Broker, to: Stretch, tenant: str
) -> None:
    elsewhere = await stretch(broker, tenant, "chat-2")
    await broker.log.publish(to, claim("r1"), guard=Guard("own", "r1", 0))
    await broker.log.publish(to, claim("r2"), guard=Guard("own", "r2", 0))
    await broker.log.publish(elsewhere, claim("r1"), guard=Guard("own", "r1", 0))
    await broker.log.publish(to, milestone("free"), guard=Guard("own", "r3", 0))


async def test_a_writer_that_was_taken_over_is_refused(broker: Broker, to: Stretch) -> None:
    mine = await broker.log.publish(to, claim("r1", writer="agent:old"), guard=Guard("own", "r1", 0))
    fence = Guard("own", "r1", mine.sequence)
    await broker.log.publish(to, delta("Hel", run="r1", writer="agent:old"), guard=fence)
    await broker.log.publish(to, milestone("tool", run="r1", writer="agent:old"), guard=fence)
    await broker.log.publish(to, claim("r1", writer="agent:new"), guard=fence)
    with pytest.raises(Conflict):
        await broker.log.publish(to, delta("lo", run="r1", at=3, writer="agent:old"), guard=fence)
    with pytest.raises(Conflict):
        await broker.log.publish(to, milestone("late", run="r1", writer="agent:old"), guard=fence)
    assert [r.actor for r in await everything(broker, to)] == ["agent:old"] * 3 + ["agent:new"]


async def test_a_guarded_event_sent_again_answers_duplicate_rather_than_conflict(broker: Broker, to: Stretch) -> None:
    draft = claim("r1", id="claim-1")
    first = await broker.log.publish(to, draft, guard=Guard("own", "r1", 0))
    assert await broker.log.publish(to, draft, guard=Guard("own", "r1", 0)) == (first.sequence, True)


async def test_a_fenced_event_sent_again_after_its_writer_went_on_answers_duplicate(
    broker: Broker, to: Stretch
) -> None:
    held = await broker.log.publish(to, claim("r1"), guard=Guard("own", "r1", 0))
    fence = Guard("own", "r1", held.sequence)
    first = await broker.log.publish(to, delta("a", run="r1", id="d1"), guard=fence)
    await broker.log.publish(to, delta("b", run="r1", at=1, id="d2"), guard=fence)
    assert await broker.log.publish(to, delta("a", run="r1", id="d1"), guard=fence) == (first.sequence, True)


async def test_a_fenced_event_that_was_stored_before_the_takeover_answers_duplicate_after_it(
    broker: Broker, to: Stretch
) -> None:
    held = await broker.log.publish(to, claim("r1", writer="agent:old"), guard=Guard("own", "r1", 0))
    fence = Guard("own", "r1", held.sequence)
    last = delta("a", run="r1", id="d1", writer="agent:old")
    first = await broker.log.publish(to, last, guard=fence)
    taken = await broker.log.publish(to, claim("r1", writer="agent:new"), guard=fence)
    await broker.log.publish(
        to, delta("b", run="r1", at=1, writer="agent:new"), guard=Guard("own", "r1", taken.sequence)
    )
    assert await broker.log.publish(to, last, guard=fence) == (first.sequence, True)


async def test_the_end_of_a_run_fences_what_comes_after_it(broker: Broker, to: Stretch) -> None:
    held = await broker.log.publish(to, claim("r1"), guard=Guard("own", "r1", 0))
    fence = Guard("own", "r1", held.sequence)
    end = milestone("end", kind="own", name="r1", run="r1", type="RUN_FINISHED")
    ended = await broker.log.publish(to, end, guard=fence)
    with pytest.raises(Conflict) as refused:
        await broker.log.publish(to, delta("late", run="r1"), guard=fence)
    assert refused.value.facts["revision"] in (ended.sequence, None)


async def test_of_racing_claims_one_wins_in_each_generation(broker: Broker, connections: Brokers, to: Stretch) -> None:
    brokers = [broker, await connections.open(), await connections.open(), await connections.open()]
    generation = 0
    winners: list[int] = []

    async def race(number: int, guard: Guard) -> int | None:
        try:
            ack = await brokers[number % 4].log.publish(
                to, claim("r1", writer=f"agent:{number}"), guard=guard, timeout_s=20
            )
        except Conflict:
            return None
        assert not ack.duplicate
        return ack.sequence

    for _ in range(10):
        guard = Guard("own", "r1", generation)
        won = [s for s in await asyncio.gather(*(race(n, guard) for n in range(20))) if s is not None]
        assert len(won) == 1
        generation = won[0]
        winners.append(generation)
    assert [r.sequence for r in await everything(broker, to)] == winners


async def test_no_stale_write_lands_behind_a_takeover_under_load(
    broker: Broker, connections: Brokers, to: Stretch
) -> None:
    other = await connections.open()
    held = await broker.log.publish(to, claim("r1", writer="agent:old"), guard=Guard("own", "r1", 0))
    fence = Guard("own", "r1", held.sequence)
    stored: list[int] = []

    async def write() -> None:
        at = 0
        while True:
            try:
                ack = await broker.log.publish(
                    to, delta("x", run="r1", at=at, writer="agent:old"), guard=fence, timeout_s=20
                )
            except Conflict:
                return
            stored.append(ack.sequence)
            at += 1

    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        group.create_task(write())
        await eventually(lambda: len(stored) >= 20, every_s=0)
        taken = await other.log.publish(to, claim("r1", writer="agent:new"), guard=fence, timeout_s=20)
    records = await everything(broker, to)
    assert [r.sequence for r in records if r.actor == "agent:old"] == [held.sequence, *stored]
    assert all(s < taken.sequence for s in stored)


async def test_a_guard_of_zero_holds_again_after_a_purge(broker: Broker, to: Stretch) -> None:
    await broker.log.publish(to, claim("r1"), guard=Guard("own", "r1", 0))
    await broker.log.purge(to)
    ack = await broker.log.publish(to, claim("r1"), guard=Guard("own", "r1", 0))
    assert not ack.duplicate
