"""An agent whose connection ends is told of at once, ahead of what the log says of it, and only where it has runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from session_fabric import Absence, Fabric, Session
from session_fabric.absences import Absences
from session_fabric.counting import NOT_COUNTED, Metrics
from session_fabric.memory import MemoryBroker
from session_fabric.metrics import PrometheusMetrics
from session_fabric.opening import OpenRun
from session_fabric.run import Takeover
from session_fabric.words.events import RUN_ENDS, RUN_STARTED

from tests.support.brokers import vanish
from tests.support.sessions import Fabrics, Following, stored
from tests.support.waiting import eventually

pytestmark = pytest.mark.needs_rights


async def gone(fabric: Fabric) -> None:
    await vanish(fabric._shared._below)


async def heard(session: Session) -> list[Absence]:
    """Listen to what is told of a session's agents."""
    told: list[Absence] = []
    await session.on_absence(told.append)
    return told


async def tell_what_is_stored(absences: Absences, session: Session) -> None:
    """Tell it as a follower does of what he hears."""
    async for batch in session.read():
        for record in batch:
            absences.heard(session.place, record)


@asynccontextmanager
async def looking_on(
    tenant: str, other: MemoryBroker, broker: MemoryBroker, metrics: Metrics = NOT_COUNTED
) -> AsyncIterator[tuple[Fabric, Fabric]]:
    """One who looks on, and an agent over a connection of its own."""
    async with (
        await Fabric.over(broker, tenant=tenant, participant="user:ada", metrics=metrics) as one,
        await Fabric.over(other, tenant=tenant, participant="agent:writer") as agent,
    ):
        yield one, agent


async def begin(session: Session, run: str) -> None:
    """Begin a run that its process will not live to end."""
    await session.run(run).__aenter__()


async def ended(session: Session) -> bool:
    return any(event.type in RUN_ENDS for event in await stored(session))


async def test_an_agent_whose_connection_ends_is_told_of_before_its_run_has_ended(fabrics: Fabrics) -> None:
    dead, one = await fabrics.open(), await fabrics.open("user:ada")
    await begin(dead.session("chat-1"), "r1")
    session = one.session("chat-1")
    following = Following(session)
    told: list[Absence] = []
    known: list[str] = []

    def hear(absence: Absence) -> None:
        told.append(absence)
        known.extend(event.type for event in following.events)

    await session.on_absence(hear)
    elsewhere = await heard(one.session("chat-2"))
    getting = asyncio.create_task(following.until(lambda events: bool(events) and events[-1].type in RUN_ENDS, 30))
    await eventually(lambda: len(following.events) > 0)
    await gone(dead)
    await getting
    assert RUN_STARTED in known
    assert not RUN_ENDS.intersection(known)
    assert told == [Absence("r1", "agent:writer", connected=False)]
    assert elsewhere == []


async def test_what_followers_have_heard_of_a_run_is_not_looked_up(fabrics: Fabrics) -> None:
    dead, one = await fabrics.open(), await fabrics.open("user:ada")
    session = one.session("chat-1")
    told = await heard(session)
    await begin(dead.session("chat-1"), "r1")
    absences = one._shared.absences
    assert absences.known_of(dead.broker.holder) == []
    records = [record async for batch in session.read() for record in batch]
    for record in records:
        absences.heard(session.place, record)
    known = absences.known_of(dead.broker.holder)
    assert known == [(session.place, Absence("r1", "agent:writer", connected=False))]
    assert list(await absences.runs_of(dead.broker.holder)) == known
    await gone(dead)
    await eventually(lambda: len(told) > 0)
    assert [absence for _, absence in known] == told  # once, whichever way it is known


async def test_a_run_that_another_process_goes_on_with_is_nobodys_absence(fabrics: Fabrics) -> None:
    dead, next_one, one = await fabrics.open(), await fabrics.open(), await fabrics.open("user:ada")
    session = one.session("chat-1")
    told = await heard(session)
    await begin(dead.session("chat-1"), "r1")
    await begin(dead.session("chat-1"), "r2")
    newest = await session.newest_of_run("r1")
    assert newest is not None
    takeover = Takeover(newest.offset.sequence, 2, goes_on=True)
    async with OpenRun(next_one.session("chat-1")._parts, "r1", takeover=takeover):
        await gone(dead)
        await eventually(lambda: len(told) > 0)
        assert told == [Absence("r2", "agent:writer", connected=False)]


async def test_who_follows_no_more_is_told_nothing_and_nothing_is_kept_for_him(fabrics: Fabrics) -> None:
    dead, one = await fabrics.open(), await fabrics.open("user:ada")
    session = one.session("chat-1")
    told: list[Absence] = []
    hearing = await session.on_absence(told.append)
    also = await heard(session)
    await begin(dead.session("chat-1"), "r1")
    absences: Absences = one._shared.absences
    await hearing.close()
    await hearing.close()
    await tell_what_is_stored(absences, session)
    await gone(dead)
    await eventually(lambda: len(also) > 0)
    assert told == []
    await eventually(lambda: ended(session))
    await tell_what_is_stored(absences, session)
    assert absences.known_of(dead.broker.holder) == []


async def test_an_agent_that_is_back_is_told_as_back_and_keeps_its_run(tenant: str) -> None:
    broker = MemoryBroker()
    other = broker.beside()
    async with looking_on(tenant, other, broker) as (one, agent):
        session = one.session("chat-1")
        told: list[Absence] = []

        def come_back(absence: Absence) -> None:
            told.append(absence)
            other.reconnect()  # the very moment that its absence is told

        async with agent.session("chat-1").run("r1") as run:
            await session.on_absence(come_back)
            other.disconnect()
            await eventually(lambda: len(told) > 1)
            await run.text("still here")
        assert [absence.connected for absence in told] == [False, True]
        life = [e.type for e in await stored(session) if e.type.startswith(("RUN_", "run."))]
        assert life == [RUN_STARTED, "RUN_FINISHED"]


async def test_an_agent_that_lets_go_of_its_connection_is_told_of_before_it_is_asked(tenant: str) -> None:
    broker = MemoryBroker()
    other = broker.beside()
    async with looking_on(tenant, other, broker) as (one, agent):
        session = one.session("chat-1")
        told = await heard(session)
        async with agent.session("chat-1").run("r1"):
            await tell_what_is_stored(one._shared.absences, session)
            for times in (1, 2):
                other._depart(closed=True)  # and it answers still
                await eventually(lambda times=times: len(told) == 2 * times)
                assert [absence.connected for absence in told] == [False, True] * times
    assert one._shared.absences.known_of(agent.broker.holder) != []


async def test_an_agent_that_answers_through_another_connection_is_not_away(tenant: str) -> None:
    """The broker may find out late that a connection has ended whose process has long had another one."""
    broker, metrics = MemoryBroker(), PrometheusMetrics()
    other = broker.beside()

    def looked_into(found: str) -> float:
        return metrics.registry.get_sample_value("session_fabric_suspects_total", {"found": found}) or 0.0

    async with (
        looking_on(tenant, other, broker, metrics) as (one, agent),
        agent.session("chat-1").run("r1"),
    ):
        told = await heard(one.session("chat-1"))
        other._depart(closed=False)
        await eventually(lambda: looked_into("alive") == 1)
        assert told == []
